"""LSTM and GRU behind one call, and the state of a decoder made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Cell = Literal["lstm", "gru"]
Parts = tuple[torch.Tensor, ...]
"""A layer's state: hidden and, of an LSTM, cell; each (L, N, H)."""

ENDING = (0.5, 0.15, 0.0)
"""Shares of the captions that are still going on where a run over some of them ends."""

PARTS = {"lstm": 2, "gru": 1}
_LAYERS: dict[Cell, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True)
class State:
    """What N = B x K captions have left behind in the decoder, the captions of an image side by side.

    Every tensor is (L, N, H).
    """

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
    """Outputs (N, T, H) for inputs (N, T, I), and the parts that are left.

    Of `lengths` (N,) inputs are known to count, where they are given: what comes after may be zeros.
    """
    if lengths is None or inputs.device.type != "cpu":
        return _run(recurrent, inputs, parts)
    # On a CPU the padding costs as much as the words, and half of a batch is padding. Fewer captions in each of a few
    # runs are faster than packed sequences, which have no fused kernel there.
    order = lengths.argsort(descending=True)
    ordered, inputs, parts = lengths[order], inputs[order], tuple(part[:, order] for part in parts)
    outputs: list[torch.Tensor] = []
    begin = 0
    for end in sorted({int(ordered[round(share * (len(order) - 1))]) for share in ENDING} | {inputs.shape[1]}):
        going = int((ordered > begin).sum())
        if going == 0:
            outputs.append(inputs.new_zeros(len(order), end - begin, outputs[0].shape[2], dtype=outputs[0].dtype))
        else:
            present = tuple(part[:, :going].contiguous() for part in parts)
            said, left = _run(recurrent, inputs[:going, begin:end], present)
            outputs.append(nn.functional.pad(said, (0, 0, 0, 0, 0, len(order) - going)))
            parts = tuple(torch.cat([new, part[:, going:]], dim=1) for new, part in zip(left, parts, strict=True))
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
    """One step (N, 1, I) of a single layer. The kernel that a CPU has for whole sequences brings all weights into an
    order of its own for each of them, which takes longer than a step, of a training several times as long."""
    weights = recurrent.all_weights[0]
    if isinstance(recurrent, nn.LSTM):
        hidden, cell = torch.lstm_cell(inputs[:, 0], (parts[0][0], parts[1][0]), *weights)
        return hidden[:, None], (hidden[None], cell[None])
    hidden = torch.gru_cell(inputs[:, 0], parts[0][0], *weights)
    return hidden[:, None], (hidden[None],)
