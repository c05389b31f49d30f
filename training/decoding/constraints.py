"""Beam search under constraints: a caption begins with given words and has given phrases.

Grid beam search (Hokamp & Liu, 2017) with the beam shared among the numbers of words that are met (Post & Vilar, 2018,
"Fast lexically constrained decoding with dynamic beam allocation").
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from training.config import DecodingConfig
from training.decoding.beam_search import IMPOSSIBLE, Candidate
from training.networks.decoder import Decoder

WIDEST = 32
"""Beams at most, however many words are asked for, unless the decoding has more."""
FEWEST_WORDS = 6
"""Words that may follow the longest start, beside those that are asked for."""


@dataclass(frozen=True)
class Constrained(Candidate):
    """A candidate of the words behind the start. `places` has the number of the phrase that begins there, by place."""

    places: dict[int, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class _Beam:
    """Words behind the start, and what of the phrases is among them; of an `open` phrase `left` words must follow."""

    tokens: tuple[int, ...] = ()
    log: float = 0.0
    places: tuple[tuple[int, int], ...] = ()
    left: tuple[int, ...] = ()
    missing: frozenset[int] = frozenset()
    row: int = 0  # of the beam that it extends


@torch.inference_mode()
def constrained_search(
    decoder: Decoder,
    grid: torch.Tensor,
    config: DecodingConfig,
    prefix: Sequence[int],
    phrases: Sequence[Sequence[int]],
    *,
    start: int,
    end: int,
    never: Collection[int],
) -> Constrained:
    """The best caption of the image of `grid` (1, P, C) that begins with `prefix` and has all `phrases` behind it.

    Phrases stay whole and do not overlap; they may have ids of `never`, which nothing else has. A caption has at most
    `config.max_length` words beside those of the phrases, or FEWEST_WORDS behind a long prefix. What is scored are the
    words behind the prefix.
    """
    asked = sum(map(len, phrases))
    longest = max(config.max_length - len(prefix), min(config.max_length, FEWEST_WORDS)) + asked
    width = min(config.beam + 2 * asked, max(config.beam, WIDEST))
    banned = torch.tensor(sorted({end, *never}), dtype=torch.long, device=grid.device)
    encoded = decoder.prepare(grid)
    read = torch.tensor([[[start, *prefix]]], device=grid.device)
    output = decoder.decode(encoded, read, decoder.initial_state(encoded, 1))
    beams = [_Beam(missing=frozenset(range(len(phrases))))]
    best: tuple[float, float, _Beam] = IMPOSSIBLE, 0.0, beams[0]

    for length in range(longest + 1):  # words of the beams
        logs = decoder.logits(output.states[:, :, -1]).float().log_softmax(dim=2)[0]  # (K, V)
        if length or prefix:  # no caption is empty
            for beam, log in zip(beams, logs[:, end].tolist(), strict=True):
                if not beam.missing and not beam.left:
                    score = (beam.log + log) / (length + 1) ** config.length_penalty
                    best = max(best, (score, (beam.log + log) / (length + 1), beam), key=lambda one: one[0])
        if length == longest:
            break
        extended = _extended(beams, logs, phrases, banned, width, longest - length - 1)
        # as in `beam_search`: no other beam can still be the best
        bound = best[0] * (longest + 1) ** config.length_penalty
        beams = [beam for beam in _allocated(extended, phrases, asked, width) if beam.log > bound]
        if not beams:
            break
        rows = torch.tensor([beam.row for beam in beams], device=grid.device)
        last = torch.tensor([[[beam.tokens[-1]] for beam in beams]], device=grid.device)
        output = decoder.decode(encoded, last, output.state.select(rows))
    score, mean, beam = best
    return Constrained(beam.tokens, mean, score, places=dict(beam.places))


def _extended(
    beams: Sequence[_Beam],
    logs: torch.Tensor,
    phrases: Sequence[Sequence[int]],
    banned: torch.Tensor,
    width: int,
    room: int,
) -> list[_Beam]:
    """The beams with another word each: the next one of an open phrase, else the first one of each missing phrase and
    the likeliest others, where `room` words are then still enough for what is missing."""
    free = logs.index_fill(1, banned, IMPOSSIBLE).topk(min(width, logs.shape[1]), dim=1)
    forced = {word: number for number, word in enumerate(sorted({word for phrase in phrases for word in phrase}))}
    of_forced = logs[:, sorted(forced)].tolist() if forced else [[]] * len(beams)
    found = []
    for row, (beam, likeliest, words) in enumerate(
        zip(beams, free.values.tolist(), free.indices.tolist(), strict=True)
    ):
        if beam.left:
            word, *left = beam.left
            log = beam.log + of_forced[row][forced[word]]
            found.append(_Beam((*beam.tokens, word), log, beam.places, tuple(left), beam.missing, row))
            continue
        for number in beam.missing:
            word, *left = phrases[number]
            log = beam.log + of_forced[row][forced[word]]
            places, missing = (*beam.places, (len(beam.tokens), number)), beam.missing - {number}
            found.append(_Beam((*beam.tokens, word), log, places, tuple(left), missing, row))
        if sum(len(phrases[number]) for number in beam.missing) > room:
            continue
        first = {phrases[number][0] for number in beam.missing}
        for log, word in zip(likeliest, words, strict=True):
            if word not in first and log > IMPOSSIBLE:  # a phrase that begins by itself is no second one
                found.append(_Beam((*beam.tokens, word), beam.log + log, beam.places, (), beam.missing, row))
    return found


def _allocated(beams: Sequence[_Beam], phrases: Sequence[Sequence[int]], asked: int, width: int) -> list[_Beam]:
    """The best `width` of these beams, of each number of words that are met some."""
    ordered = sorted(beams, key=lambda beam: -beam.log)
    share, of_bank = max(width // (asked + 1), 1), [0] * (asked + 1)
    taken: list[_Beam] = []
    left: list[_Beam] = []
    for beam in ordered:
        bank = asked - len(beam.left) - sum(len(phrases[number]) for number in beam.missing)
        of_bank[bank] += 1
        (taken if of_bank[bank] <= share else left).append(beam)
    return [*taken, *left[: max(width - len(taken), 0)]]
