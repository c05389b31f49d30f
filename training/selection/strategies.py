"""Selection: which of the images that wait are corrected next, so that corrections teach most.

Every strategy is mixed with a control share, drawn at random: what a strategy prefers is not like what waits, so that
only the control share can tell what drafts are worth. Near duplicates of what is selected or corrected wait, for one of
a burst teaches as much as all, and the others are drafted with its correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from training.decoding.reuse import FeatureSpace, near_duplicates
from training.errors import DataError
from training.selection import diversity

CONTROL_SHARE = 0.1
SHORTLIST = 2000
"""Images at most that captions are sampled of: that takes longer than all else."""
MOST_DIVERSE = 2000
"""Images that k-center picks; those after them come at random. Each is compared with all that wait."""
POWER = 4
"""Of the weight when it is multiplied with a distance, which would else take one of each subject before a second of
any."""
WEIGHED = 10
"""Images that the combined strategy compares for each that it picks, and SHORTLIST at least."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """N images that wait, and what is known of their drafts; nan where it is not.

    `chances` (N,) that the draft is accepted, `margins` (N,) between the best captions of the beam, pooled `features`
    (N, C) in half precision, and `disagreements` (N,) of sampled captions.
    """

    chances: np.ndarray
    margins: np.ndarray
    features: np.ndarray | None = None
    disagreements: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.chances)


@dataclass(frozen=True)
class Selected:
    """The place of an image among the candidates, and whether it is of the control share."""

    index: int
    is_control: bool


@dataclass(frozen=True, eq=False)
class _Pool:
    """What strategies choose from: `features` (N, C) and `space` go together, and `taken` grows by what is chosen."""

    candidates: Candidates
    count: int
    seed: int
    features: np.ndarray | None
    space: FeatureSpace | None
    known: np.ndarray
    taken: list[int] = field(default_factory=list)

    def chance(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose])

    def points(self, features: np.ndarray) -> np.ndarray:
        assert self.space is not None
        return diversity.points(features, self.space, self.seed)


def select(
    candidates: Candidates,
    count: int,
    strategy: str | None = None,
    *,
    seed: int,
    control_share: float = CONTROL_SHARE,
    known: np.ndarray | None = None,
    space: FeatureSpace | None = None,
) -> list[Selected]:
    """At most `count` of the candidates, in the order in which they are corrected best, no two of them near duplicates.

    `strategy` is one of STRATEGIES, by default DEFAULT. `known` are the features (M, C) of what is selected or
    corrected already, compared with the candidates' in `space`; without a space nothing counts as a near duplicate. The
    same seed selects the same. Raises DataError when the strategy needs what is not known of any candidate.
    """
    if not len(candidates):
        return []
    count = min(count, len(candidates))  # by which memory is made
    features = None if space is None else candidates.features
    space = None if features is None else space
    known = known[diversity.is_known(known)] if known is not None and len(known) and space else np.zeros((0, 0))
    pool = _Pool(candidates, count, seed, features, space, known)
    orders = {True: iter(_shuffled(pool, 1)), False: iter(_ORDERS[strategy or DEFAULT](pool))}
    chance = pool.chance(2)
    controls = int(count * control_share + chance.random())  # so that the share is right on average
    is_control = np.zeros(count, bool)
    is_control[chance.permutation(count)[:controls]] = True
    waits, left = _Duplicates(pool), set(range(len(candidates)))
    selected: list[Selected] = []
    for control in is_control.tolist():
        for index in orders[control]:
            if index in left:
                left.remove(index)
                if not waits(index):
                    pool.taken.append(index)
                    selected.append(Selected(index, control))
                    break
    return selected


def shortlist(candidates: Candidates, most: int = SHORTLIST, *, seed: int) -> np.ndarray:
    """The candidates that captions are to be sampled of for `disagreements`: those whose drafts are least certain."""
    return _ascending(candidates.chances, np.random.default_rng([seed, 3]))[:most]


class _Duplicates:
    """Tells whether a candidate is a near duplicate of what is known or was told to be none."""

    def __init__(self, pool: _Pool) -> None:
        self._space, self._features, self._length = pool.space, pool.features, len(pool.known)
        if pool.space is not None and pool.features is not None:
            room = np.zeros((pool.count, pool.features.shape[1]), np.float16)
            self._seen = np.concatenate([pool.known, room], dtype=np.float16) if len(pool.known) else room
            self._signs = pool.space.signs(self._seen)

    def __call__(self, index: int) -> bool:
        if self._space is None or self._features is None or not diversity.is_known(self._features[index : index + 1]):
            return False
        one = self._features[index]
        if near_duplicates(self._space, self._seen[: self._length], self._signs[: self._length], one):
            return True
        self._seen[self._length], self._signs[self._length] = one, self._space.signs(one[None])[0]
        self._length += 1
        return False


def _shuffled(pool: _Pool, purpose: int = 4) -> list[int]:
    return pool.chance(purpose).permutation(len(pool.candidates)).tolist()


def _least_confident(pool: _Pool) -> list[int]:
    chances = _needed(pool.candidates.chances, "least-confident", "drafts with a score")
    return _ascending(chances, pool.chance(4)).tolist()


def _margin(pool: _Pool) -> list[int]:
    margins = _needed(pool.candidates.margins, "margin", "drafts with a margin between their best captions")
    return _ascending(margins, pool.chance(4)).tolist()


def _disagreement(pool: _Pool) -> list[int]:
    """Those whose sampled captions disagree most, then those that no captions were sampled of, least certain first."""
    disagreements = _needed(pool.candidates.disagreements, "disagreement", "sampled captions")
    sampled = _ascending(-disagreements, pool.chance(4))[: np.isfinite(disagreements).sum()]
    others = _ascending(pool.candidates.chances, pool.chance(4))
    return [*sampled.tolist(), *others[~np.isin(others, sampled)].tolist()]


def _k_center(pool: _Pool) -> Iterator[int]:
    """Those that are farthest from all that is known and taken, then the others at random."""
    features = _needed(pool.features, "k-center", "drafts with features, which a frozen encoder gives")
    among = np.flatnonzero(diversity.is_known(features))
    places = pool.points(features)
    similarity = diversity.nearest(places[among], pool.points(pool.known))
    weights = np.ones(len(among))
    weights[pool.chance(4).integers(len(among))] += 1e-6  # where nothing is known all are as far
    order = diversity.farthest_first(places, among, similarity, weights, pool.taken)
    yield from (index for _, index in zip(range(MOST_DIVERSE), order, strict=False))
    yield from _shuffled(pool)


def _combined(pool: _Pool) -> Iterator[int]:
    """Typical of what is to be learned, uncertain, and unlike each other.

    The weight of an image is how typical it is (`diversity.typicality`) times its uncertainty, as in Settles and Craven
    (2008), where the certain count half: a captioner is sure of much that it has never seen. Of the heaviest those come
    first that are also far from what is known and taken, as in the batches of Ash et al. (2020) and Citovsky et al.
    (2021). Ranks are multiplied, because chances are calibrated and may be nearly the same. Without features the
    uncertainty decides.
    """
    chance = pool.chance(4)
    uncertainty = 1 - _ranks(pool.candidates.chances)
    if pool.features is None or pool.space is None:
        yield from _ascending(-uncertainty, chance).tolist()
        return
    weights = _ranks(diversity.typicality(pool.features, pool.space)) * (1 + uncertainty) / 2
    order = _ascending(-weights, chance)
    among = order[: max(SHORTLIST, WEIGHED * pool.count)]
    places = pool.points(pool.features)
    similarity = diversity.nearest(places[among], pool.points(pool.known))
    weights = weights[among] ** POWER
    yield from diversity.farthest_first(places, among, similarity, weights, pool.taken)
    yield from order.tolist()


_ORDERS: Mapping[str, Callable[[_Pool], Iterable[int]]] = {
    "random": _shuffled,
    "least-confident": _least_confident,
    "margin": _margin,
    "disagreement": _disagreement,
    "k-center": _k_center,
    "combined": _combined,
}
"""All candidates of a pool, the best first; some may come again, and near duplicates come too."""
STRATEGIES = tuple(_ORDERS)
DEFAULT = "combined"


def _needed(values: np.ndarray | None, strategy: str, what: str) -> np.ndarray:
    """The values, when any of them is known."""
    if values is None or not np.isfinite(values).any():
        raise DataError(f'The strategy "{strategy}" needs {what}, and no waiting image has them; choose "random".')
    return values


def _ascending(values: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """The order of values (N,) from the least on; equals come at random, nan come last."""
    return np.lexsort([chance.random(len(values)), values])


def _ranks(values: np.ndarray) -> np.ndarray:
    """The ranks of values (N,) from 0 to 1, the same for equals; one half for nan."""
    known = np.isfinite(values)
    _, place, times = np.unique(values[known], return_inverse=True, return_counts=True)
    ends = np.cumsum(times)
    ranks = np.full(len(values), 0.5)
    ranks[known] = (ends - times / 2)[place] / max(known.sum(), 1)
    return ranks
