"""LSTM and GRU behind one call, and the state of a decoder made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Cell = Literal["lstm", "gru"]
Parts = tuple[torch.Tensor, ...]
"""A layer's state: hidden state and, of an LSTM, cell state; each (L, N, H)."""

SPLITS = (0.5, 0.15, 0.0)
"""A batch is run in pieces of time steps; a piece ends where this share of the captions is still going on."""

PARTS = {"lstm": 2, "gru": 1}
_LAYERS: dict[Cell, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True)
class State:
    """The recurrent state of N = B x K captions, the captions of an image side by side. Every tensor is (L, N, H)."""

    parts: Parts

    def select(self, rows: torch.Tensor) -> State:
        """The captions numbered `rows` (N,), in that order."""
        return State(tuple(part[:, rows] for part in self.parts))


def layer(cell: Cell, inputs: int, hidden: int, layers: int = 1) -> nn.LSTM | nn.GRU:
    """A recurrent layer, or several, from (N, T, `inputs`) to (N, T, `hidden`)."""
    return _LAYERS[cell](inputs, hidden, num_layers=layers, batch_first=True)


def run(
    recurrent: nn.RNNBase, inputs: torch.Tensor, parts: Parts, lengths: torch.Tensor | None = None
) -> tuple[torch.Tensor, Parts]:
    """Outputs (N, T, H) for inputs (N, T, I), and the final state.

    Where `lengths` (N,) are given, outputs after a caption's length may be zeros.
    """
    if lengths is None or inputs.device.type != "cpu":
        return _run(recurrent, inputs, parts)
    # On a CPU the padding costs as much as the words, and half of a batch is padding. A few runs over fewer captions
    # each are faster than packed sequences, which have no fused kernel there.
    order = lengths.argsort(descending=True)
    ordered, inputs, parts = lengths[order], inputs[order], tuple(part[:, order] for part in parts)
    outputs: list[torch.Tensor] = []
    begin = 0
    for end in sorted({int(ordered[round(share * (len(order) - 1))]) for share in SPLITS} | {inputs.shape[1]}):
        running = int((ordered > begin).sum())
        if running == 0:
            outputs.append(inputs.new_zeros(len(order), end - begin, outputs[0].shape[2], dtype=outputs[0].dtype))
        else:
            before = tuple(part[:, :running].contiguous() for part in parts)
            output, after = _run(recurrent, inputs[:running, begin:end], before)
            outputs.append(nn.functional.pad(output, (0, 0, 0, 0, 0, len(order) - running)))
            parts = tuple(torch.cat([new, part[:, running:]], dim=1) for new, part in zip(after, parts, strict=True))
        begin = end
    back = order.argsort()
    return torch.cat(outputs, dim=1)[back], tuple(part[:, back] for part in parts)


def _run(recurrent: nn.RNNBase, inputs: torch.Tensor, parts: Parts) -> tuple[torch.Tensor, Parts]:
    if inputs.shape[1] == 1 and inputs.device.type == "cpu" and recurrent.num_layers == 1:
        return _step(recurrent, inputs, parts)
    if isinstance(recurrent, nn.LSTM):
        outputs, (hidden, cell) = recurrent(inputs, (parts[0], parts[1]))
        return outputs, (hidden, cell)
    outputs, hidden = recurrent(inputs, parts[0])
    return outputs, (hidden,)


def _step(recurrent: nn.RNNBase, inputs: torch.Tensor, parts: Parts) -> tuple[torch.Tensor, Parts]:
    """One step (N, 1, I) of a single layer. The CPU's kernel for whole sequences reorders all weights at each call,
    which takes longer than a step, in training several times as long."""
    weights = recurrent.all_weights[0]
    if isinstance(recurrent, nn.LSTM):
        hidden, cell = torch.lstm_cell(inputs[:, 0], (parts[0][0], parts[1][0]), *weights)
        return hidden[:, None], (hidden[None], cell[None])
    hidden = torch.gru_cell(inputs[:, 0], parts[0][0], *weights)
    return hidden[:, None], (hidden[None],)
