"""The losses: cross-entropy of human captions, and the policy gradient of sampled ones."""

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
LEAST = 1e-6  # stands for a sum of weights of zero, where all words are unknown


def cross_entropy(
    decoder: Decoder,
    encoded: EncoderOutput,
    words: torch.Tensor,
    weights: torch.Tensor,
    config: TrainingConfig,
    scheduled_sampling: float = 0.0,
    soft_targets: torch.Tensor | None = None,
    taught: torch.Tensor | None = None,
) -> Loss:
    """Cross-entropy of human captions `words` (B, K, T) with a weight an image `weights` (B,).

    Unknown words are read but are no targets, for they must never be generated. In training labels are smoothed
    (Szegedy et al., 2016), a share `scheduled_sampling` of the words read is the decoder's own choice (Bengio et al.,
    2015), and `config.distillation` of the loss is the cross-entropy to a teacher's `soft_targets` (M, V), but only
    where `taught` (M,) says so.
    """
    before, after = words[:, :, :-1], words[:, :, 1:]  # (B, K, T)
    targets = target_mask(words)
    weight = weights[:, None, None].expand(after.shape)[targets]  # (M,)
    if scheduled_sampling:
        before = _with_own_choices(decoder, encoded, before, scheduled_sampling)
    with autocast(words.device):
        logits = decoder.logits(decoder.teacher_force(encoded, before).states[targets])  # (M, V)
    smoothing = config.label_smoothing if decoder.training else 0.0
    losses = F.cross_entropy(logits.float(), after[targets], reduction="none", label_smoothing=smoothing)  # (M,)
    if soft_targets is not None:
        distilled = F.cross_entropy(logits.float(), soft_targets, reduction="none")  # (M,)
        share = config.distillation if taught is None else config.distillation * taught
        losses = losses + share * (distilled - losses)
    return (losses * weight).sum(), weight.sum()


def target_mask(words: torch.Tensor) -> torch.Tensor:
    """Which words after the first of `words` (B, K, T + 1) are targets: (B, K, T)."""
    after = words[:, :, 1:]
    return (after != PAD) & (after != UNKNOWN)


def cross_entropy_weight(words: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum of weights that `cross_entropy` returns for these captions, without computing the loss."""
    return (weights[:, None, None] * target_mask(words)).sum()


def policy_gradient_weight(words: torch.Tensor) -> torch.Tensor:
    """The same for `policy_gradient`."""
    return (words[:, :, 1:] != PAD).sum()


def policy_gradient(
    decoder: Decoder,
    encoded: EncoderOutput,
    words: torch.Tensor,
    advantages: torch.Tensor,
    temperature: float = 1.0,
) -> Loss:
    """REINFORCE (Williams, 1992) for captions `words` (B, K, T) from START that the decoder has sampled at
    `temperature`, with their `advantages` (B, K)."""
    before, after = words[:, :, :-1], words[:, :, 1:]  # (B, K, T)
    sampled = after != PAD
    with autocast(words.device):
        logits = decoder.logits(decoder.teacher_force(encoded, before).states[sampled])  # (M, V)
    losses = F.cross_entropy(logits.float() / temperature, after[sampled], reduction="none")  # (M,)
    advantage = advantages[:, :, None].expand(after.shape)[sampled]  # (M,)
    return (losses * advantage).sum(), sampled.sum()


@torch.no_grad()
def _with_own_choices(decoder: Decoder, encoded: EncoderOutput, words: torch.Tensor, share: float) -> torch.Tensor:
    """`words` (B, K, T) with a `share` of them, never the first, replaced by words sampled from the decoder.

    The samples follow the human words, in one pass (Mihaylova & Martins, 2019), so that no architecture needs a loop.
    """
    with autocast(words.device):
        states = decoder.teacher_force(encoded, words).states  # (B, K, T, E)
        probabilities = decoder.logits(states).float().softmax(dim=-1)  # (B, K, T, V)
    probabilities[..., [PAD, START, UNKNOWN]] = 0.0
    following = sample_words(probabilities.flatten(0, 2)).view(words.shape)  # the word after each
    own = torch.cat([words[:, :, :1], following[:, :, :-1]], dim=2)
    replaced = torch.rand(words.shape, device=words.device) < share
    replaced[:, :, 0] = False
    return torch.where(replaced & (words != PAD), own, words)
