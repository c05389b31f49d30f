"""A grammar of captions. The sentences that are true of a scene are a finite set that can be enumerated."""

from __future__ import annotations

import random
from collections.abc import Iterator

from training.data.scenes.world import Group, Scene
from training.metrics import word_edits
from training.vocabulary import tokenize

# Weights of random choice: phrases have different frequencies, as in human captions.
_RELATIONS = {
    "left": {"to the left of": 8.0, "left of": 2.0, "next to": 1.0, "beside": 1.0},
    "right": {"to the right of": 2.0, "right of": 0.5, "next to": 0.3, "beside": 0.3},
    "above": {"above": 8.0, "over": 2.0},
    "below": {"below": 1.5, "under": 0.8},
    "inside": {"inside": 8.0},
    "around": {},  # the inner thing is always named first
}
_BARE, _IS, _SITS, _THERE, _SHOWS = 1.5, 8.0, 0.4, 0.8, 0.3
_INVERSE = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
    "inside": "around",
    "around": "inside",
}
_NUMBERS = {2: "two", 3: "three"}


def captions(scene: Scene, seed: int) -> list[str]:
    """Five different true captions: four in full detail, one with less; `seed` decides which."""
    rng = random.Random(f"{scene.seed}:{seed}")
    full = dict(_sentences(scene, sized=True, placed=True))
    rest = [text for text in phrasings(scene) if text not in full]
    # The largest u ** (1 / weight) are a weighted sample without replacement (Efraimidis and Spirakis, 2006).
    sampled = sorted(full, key=lambda text: rng.random() ** (1 / full[text]), reverse=True)
    chosen = [*sampled[:4], rng.choice(rest)]
    rng.shuffle(chosen)
    return chosen


def phrasings(scene: Scene) -> list[str]:
    """All sentences of the grammar that are true of the scene and name everything in it, most detailed first."""
    claims = [(sized, placed) for sized in (True, False) for placed in (True, False)]
    return list(dict.fromkeys(text for claim in claims for text, _ in _sentences(scene, *claim)))


def is_true(caption: str, scene: Scene) -> bool:
    """Whether the caption is one of `phrasings`, apart from case and punctuation."""
    words = tokenize(caption)
    return any(tokenize(text) == words for text in phrasings(scene))


def closest(draft: str, scene: Scene) -> str:
    """The true caption with the fewest word edits from the draft; for an empty draft the first of `captions`."""
    if not tokenize(draft):
        return captions(scene, seed=0)[0]
    return min(phrasings(scene), key=lambda text: word_edits(draft, text))


def _sentences(scene: Scene, sized: bool, placed: bool) -> Iterator[tuple[str, float]]:
    """The sentences of one level of detail with their weights: with or without sizes, with or without positions."""
    first, *others = scene.groups
    if not others:
        for tail in _places(first) if placed else ("",):
            yield from _frames(first, sized, tail)
        return
    second = others[0]
    assert scene.relation is not None
    directions = ((first, scene.relation, second), (second, _INVERSE[scene.relation], first))
    for subject, relation, other in directions:
        if placed:
            for word, weight in _RELATIONS[relation].items():
                yield from _frames(subject, sized, f"{word} {_noun(other, sized)}", weight=weight)
        else:
            yield from _frames(subject, sized, "", f" and {_noun(other, sized)}")


def _frames(subject: Group, sized: bool, tail: str, also: str = "", weight: float = 1.0) -> Iterator[tuple[str, float]]:
    several = len(subject.things) > 1
    noun = _noun(subject, sized) + also
    if tail:
        yield _sentence(f"{noun} {'are' if several else 'is'} {tail}"), weight * _IS
        yield _sentence(f"{noun} {'sit' if several else 'sits'} {tail}"), weight * _SITS
    yield _sentence(f"{noun} {tail}"), weight * _BARE
    yield _sentence(f"there {'are' if several else 'is'} {noun} {tail}"), weight * _THERE
    yield _sentence(f"the picture shows {noun} {tail}"), weight * _SHOWS


def _noun(group: Group, sized: bool) -> str:
    thing, count = group.things[0], len(group.things)
    adjectives = f"{thing.size} {thing.colour}" if sized else thing.colour
    if count > 1:
        return f"{_NUMBERS[count]} {adjectives} {thing.kind}s"
    return f"{'an' if adjectives[0] in 'aeiou' else 'a'} {adjectives} {thing.kind}"


def _places(group: Group) -> tuple[str, ...]:
    """Phrases for the position of one thing in the picture, or for the arrangement of several."""
    across = max(thing.x for thing in group.things) - min(thing.x for thing in group.things)
    down = max(thing.y for thing in group.things) - min(thing.y for thing in group.things)
    if len(group.things) > 1:
        if len(group.things) == 2:
            return ("side by side",) if across > down else ("one above the other",)
        return ("in a row",) if across > down else ("in a column",)
    dx, dy = group.x - 0.5, group.y - 0.5
    if max(abs(dx), abs(dy)) < 0.15:
        place = "in the middle"
    elif abs(dx) > abs(dy):
        place = "on the left" if dx < 0 else "on the right"
    else:
        place = "at the top" if dy < 0 else "at the bottom"
    return (place, f"{place} of the picture")


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[0].upper()}{text[1:]}."
