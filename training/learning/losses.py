"""What a captioner is trained to make small: the surprise at human captions, or the regret over its own."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from training.config import TrainingConfig
from training.decoding.sampling import sample_words
from training.networks.decoder import Decoder, EncoderOutput
from training.runtime.device import autocast
from training.vocabulary import PAD, START, UNKNOWN

Loss = tuple[torch.Tensor, torch.Tensor]
"""The sum of the weighted losses of all words, in nats, and the sum of their weights; both scalars."""
LEAST = 1e-6  # stands for a sum of weights of nothing, where only unknown words were met


def cross_entropy(
    decoder: Decoder,
    encoded: EncoderOutput,
    words: torch.Tensor,
    weights: torch.Tensor,
    config: TrainingConfig,
    own_words: float = 0.0,
    expected: torch.Tensor | None = None,
) -> Loss:
    """Cross-entropy of human captions of what the decoder has looked at: `words` (B, K, T), `weights` (B,).

    Unknown words are read but not learned: they are never to be said. While training, labels are smoothed (Szegedy et
    al., 2016), `own_words` of the words that are read are the decoder's own choice (scheduled sampling, Bengio et
    al., 2015), attention that is spread unevenly over the cells is penalised, and a share of the loss is the
    cross-entropy of what a teacher `expected` (M, V).
    """
    before, after = words[:, :, :-1], words[:, :, 1:]  # (B, K, T)
    learned = counted(words)
    weight = weights[:, None, None].expand(after.shape)[learned]  # (M,)
    if own_words:
        before = _partly_own(decoder, encoded, before, own_words)
    with autocast(words.device):
        output = decoder.teacher_force(encoded, before)
        logits = decoder.logits(output.states[learned])  # (M, V)
    smoothing = config.label_smoothing if decoder.training else 0.0
    losses = F.cross_entropy(logits.float(), after[learned], reduction="none", label_smoothing=smoothing)  # (M,)
    if expected is not None:
        losses = torch.lerp(losses, F.cross_entropy(logits.float(), expected, reduction="none"), config.distillation)
    total = (losses * weight).sum()
    if decoder.training and config.attention_penalty and output.attention is not None:
        total = total + config.attention_penalty * _unevenness(output.attention, after != PAD, weights)
    return total, weight.sum()


def counted(words: torch.Tensor) -> torch.Tensor:
    """Which of the words after the first of `words` (B, K, T + 1) are learned: (B, K, T)."""
    after = words[:, :, 1:]
    return (after != PAD) & (after != UNKNOWN)


def human_weight(words: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum of weights that `cross_entropy` of the same captions returns, before anything is computed."""
    return (weights[:, None, None] * counted(words)).sum()


def drawn_weight(words: torch.Tensor) -> torch.Tensor:
    """The same of `policy_gradient`."""
    return (words[:, :, 1:] != PAD).sum()


def policy_gradient(
    decoder: Decoder,
    encoded: EncoderOutput,
    words: torch.Tensor,
    advantages: torch.Tensor,
    temperature: float = 1.0,
) -> Loss:
    """The policy gradient (Williams, 1992) of captions drawn from the decoder at `temperature`: `words` (B, K, T)
    from START, and how much better than the image's others each was, `advantages` (B, K)."""
    before, after = words[:, :, :-1], words[:, :, 1:]  # (B, K, T)
    said = after != PAD
    with autocast(words.device):
        logits = decoder.logits(decoder.teacher_force(encoded, before).states[said])  # (M, V)
    losses = F.cross_entropy(logits.float() / temperature, after[said], reduction="none")  # (M,)
    advantage = advantages[:, :, None].expand(after.shape)[said]  # (M,)
    return (losses * advantage).sum(), said.sum()


@torch.no_grad()
def _partly_own(decoder: Decoder, encoded: EncoderOutput, words: torch.Tensor, share: float) -> torch.Tensor:
    """`words` (B, K, T) with a `share` of them, never the first, replaced by what the decoder would have said.

    Its choices follow the human words, all at once (Mihaylova & Martins, 2019), so that no form needs a loop.
    """
    with autocast(words.device):
        states = decoder.teacher_force(encoded, words).states  # (B, K, T, E)
        chances = decoder.logits(states).float().softmax(dim=-1)  # (B, K, T, V)
    chances[..., [PAD, START, UNKNOWN]] = 0.0  # no words
    following = sample_words(chances.flatten(0, 2)).view(words.shape)  # the word after each
    own = torch.cat([words[:, :, :1], following[:, :, :-1]], dim=2)
    replaced = torch.rand(words.shape, device=words.device) < share
    replaced[:, :, 0] = False
    return torch.where(replaced & (words != PAD), own, words)


def _unevenness(attention: torch.Tensor, counted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Doubly stochastic attention (Xu et al., 2015): over a caption, every cell is to be looked at equally much.

    `attention` is (B, K, T, P), `counted` (B, K, T). Looks are counted in shares of what an even spread gives, so that
    the penalty of a caption does not depend on its length and the size of the grid.
    """
    looks = (attention.float() * counted[..., None]).sum(dim=2)  # (B, K, P)
    length = counted.sum(dim=2).clamp(min=1)  # (B, K)
    relative = looks * looks.shape[-1] / length[..., None]
    return (((relative - 1) ** 2).mean(dim=-1) * length * weights[:, None]).sum()
