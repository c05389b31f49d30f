"""Batched beam search with length normalisation (Wu et al., 2016, without the coverage term)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch

from training.config import DecodingConfig
from training.decoding.signals import Signals, attention_entropy
from training.networks.decoder import Decoder

IMPOSSIBLE = float("-inf")
SHRINK_BELOW = 0.8
"""A batch is reduced to its unfinished images when at most this share is unfinished: reducing it takes time, too."""


@dataclass(frozen=True)
class Hypothesis:
    """A caption by the decoder; its `score` in (0, 1] is the geometric mean of its words' probabilities.

    `ranking_score` is the number that orders the captions of an image, the highest first.
    `feature` is the pooled feature (C,) of its image, half precision in bytes, and `signals` what tells good captions
    from poor ones, where the caller asked for them.
    """

    text: str
    score: float
    tokens: tuple[int, ...]
    ranking_score: float = field(default=0.0, compare=False)
    feature: bytes | None = field(default=None, compare=False, repr=False)
    signals: Signals | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Candidate:
    """Word ids without start and end tokens, and the mean log probability of the words and the end token.

    `ranking_score` is the number that orders the candidates of an image, the highest first. `attention_entropy` is the
    mean of its words; nan where it was not asked for, and without attention.
    """

    tokens: tuple[int, ...]
    mean_log_probability: float
    ranking_score: float = field(default=0.0, compare=False)
    attention_entropy: float = field(default=math.nan, compare=False)

    @property
    def score(self) -> float:
        return min(1.0, max(math.exp(self.mean_log_probability), 1e-12))


class Finished:
    """The best `keep` captions of each of B images among those that have reached the end token so far, and the best
    unfinished one (B,) for an image that none has reached."""

    def __init__(self, batch: int, keep: int, max_length: int, device: torch.device) -> None:
        self.score = torch.full((batch, keep), IMPOSSIBLE, device=device)
        self.log = torch.zeros((batch, keep), device=device)  # mean log probabilities
        self.entropy = torch.full((batch, keep), math.nan, device=device)  # of the attention
        self.length = torch.zeros((batch, keep), dtype=torch.long, device=device)
        self.words = torch.zeros((batch, keep, max_length), dtype=torch.long, device=device)
        self.live_log, self.live_length = self.log[:, 0].clone(), self.length[:, 0].clone()
        self.live_words = self.words[:, 0].clone()

    def add(
        self,
        images: torch.Tensor,
        length: int,
        words: torch.Tensor,
        score: torch.Tensor,
        log: torch.Tensor,
        entropy: torch.Tensor,
    ) -> None:
        """Add captions of one length to those of `images` (B,): `words` (B, K, L), the others (B, K)."""
        self.score[images], best = torch.cat([self.score[images], score], dim=1).topk(self.score.shape[1], dim=1)
        self.log[images] = torch.cat([self.log[images], log], dim=1).gather(1, best)  # (B, keep)
        self.entropy[images] = torch.cat([self.entropy[images], entropy], dim=1).gather(1, best)
        lengths = torch.full_like(score, length, dtype=torch.long)
        self.length[images] = torch.cat([self.length[images], lengths], dim=1).gather(1, best)
        rows = best[..., None].expand(-1, -1, words.shape[-1])
        self.words[images] = torch.cat([self.words[images], words], dim=1).gather(1, rows)

    def keep_live(self, images: torch.Tensor, log: torch.Tensor, length: int, words: torch.Tensor) -> None:
        """Remember the best beams of `images` (B,): their log probabilities (B,), words (B, L) and `length`."""
        alive = log > IMPOSSIBLE  # False where no word may follow
        self.live_log[images] = torch.where(alive, log, self.live_log[images])
        self.live_length[images] = torch.where(alive, length, self.live_length[images])
        self.live_words[images] = torch.where(alive[:, None], words, self.live_words[images])

    def candidates(self) -> list[list[Candidate]]:
        """The captions of each image, best first."""
        none = self.score[:, 0] == IMPOSSIBLE
        self.score[none, 0], self.entropy[none, 0] = 0.0, math.nan
        self.length[none, 0], self.words[none, 0] = self.live_length[none], self.live_words[none]
        self.log[none, 0] = self.live_log[none] / self.live_length[none].clamp(min=1)
        tensors = self.words, self.length, self.log, self.score, self.entropy
        columns = [tensor.tolist() for tensor in tensors]
        return [
            [
                Candidate(tuple(tokens[:length]), log, score, entropy)
                for tokens, length, log, score, entropy in zip(*captions, strict=True)
                if score > IMPOSSIBLE
            ]
            for captions in zip(*columns, strict=True)
        ]


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    grid: torch.Tensor,
    config: DecodingConfig,
    *,
    start: int,
    end: int,
    never: Collection[int],
    keep: int = 1,
    signals: bool = False,
) -> list[list[Candidate]]:
    """The best `keep` captions of each image of `grid` (B, P, C), best first; fewer where fewer reached the end token.

    With `signals` they have their attention entropy, and where `keep` is 1 a second may follow, the best of the others
    that were found on the way: nothing is searched for it.

    They have at least one and at most `config.max_length` words, and none of the ids in `never`. Where no beam of an
    image reaches the end token in time, it gets its best unfinished beam. The result of an image does not depend on its
    batch. Beams and images that cannot change the result any more are computed no further.
    """
    batch, device = len(grid), grid.device
    encoded = decoder.prepare(grid)
    state = decoder.initial_state(encoded, 1)  # all beams start alike, so one is enough
    banned = torch.tensor(sorted(never), dtype=torch.long, device=device)
    images = torch.arange(batch, device=device)  # (B,) of those that are searched
    last = torch.full((batch, 1, 1), start, device=device)
    words = torch.zeros((batch, 1, config.max_length), dtype=torch.long, device=device)  # (B, K, L)
    live = torch.zeros((batch, 1), device=device)  # log probabilities of the beams, the best first
    entropy = torch.full_like(live, 0.0 if signals and decoder.attends else math.nan)  # the sum of the words
    finished = Finished(batch, max(keep, 1 + signals), config.max_length, device)

    for length in range(config.max_length + 1):  # words of the live beams
        output = decoder.decode(encoded, last, state)
        logits = decoder.logits(output.states[:, :, -1]).float()  # (B, K, V)
        before = live - logits.logsumexp(dim=2)  # what a logit is added to for a beam's log probability
        logits[:, :, banned] = IMPOSSIBLE
        if length:  # no caption is empty
            log = before + logits[:, :, end]  # (B, K)
            if config.beam == 1:  # greedy: a caption ends where the end token is likeliest, and only there
                ends = logits.argmax(dim=2) == end
                log, before = log.masked_fill(~ends, IMPOSSIBLE), before.masked_fill(ends, IMPOSSIBLE)
            score = log / (length + 1) ** config.length_penalty
            finished.add(images, length, words, score, log / (length + 1), entropy / length)
        if length == config.max_length:
            break
        logits[:, :, end] = IMPOSSIBLE
        # the likeliest words of each beam, then those of an image: the same as over beams and words at once, but faster
        logits, word = logits.topk(min(config.beam, logits.shape[2]), dim=2)  # (B, K, k)
        extended = (before.unsqueeze(2) + logits).flatten(1)  # (B, K x k)
        live, chosen = extended.topk(min(config.beam, extended.shape[1]), dim=1)  # (B, K)
        # no other beam can still be among the best: log probabilities only fall, and the divisor is bounded
        bound = live / (config.max_length + 1) ** config.length_penalty
        hopeful = bound > finished.score[images, keep - 1 : keep]  # (B, K)
        if signals:  # else that second could come from a beam that is only kept for another image's sake
            live = live.masked_fill(~hopeful, IMPOSSIBLE)
        counts = hopeful.sum(dim=1).tolist()
        going = [number for number, count in enumerate(counts) if count]
        if not going:
            break
        if len(going) <= SHRINK_BELOW * len(counts):
            kept = torch.tensor(going, device=device)
            images, encoded = images[kept], encoded.select(kept)
        else:
            kept = torch.arange(len(counts), device=device)
        live, chosen = live[kept, : max(counts)], chosen[kept, : max(counts)]
        word = word[kept].flatten(1).gather(1, chosen)  # (B, K)
        rows = (kept.unsqueeze(1) * words.shape[1] + chosen // logits.shape[2]).flatten()
        words = words.flatten(0, 1)[rows].view(*word.shape, -1)
        words[:, :, length] = word
        if signals and output.attention is not None:
            entropy = entropy + attention_entropy(output.attention)
        entropy = entropy.flatten()[rows].view(word.shape)
        state, last = output.state.select(rows), word.unsqueeze(2)
        finished.keep_live(images, live[:, 0], length + 1, words[:, 0])
    return finished.candidates()
