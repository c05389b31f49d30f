"""Frozen values with their limits beside them, checked together, to JSON and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from training.errors import ConfigError


def number(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> Any:
    """A field that holds a number within limits; where the default is None it may be None."""
    return field(default=default, metadata={"least": least, "above": above, "most": most, "below": below})


def choice(*allowed: str) -> Any:
    """A field that holds one of some words, the first by default."""
    return field(default=allowed[0], metadata={"allowed": allowed})


@dataclass(frozen=True)
class Config:
    """Base of all configs: JSON both ways, and every mistake in one message."""

    def mistakes(self) -> list[str]:
        """What is wrong with the values of this config besides their limits, one phrase each."""
        return []

    def validate(self) -> Self:
        """This config. Raises ConfigError naming every mistake, those of the nested configs too."""
        mistakes = self.all_mistakes()
        if mistakes:
            raise ConfigError(f"The {type(self).__name__} is wrong: {'; '.join(mistakes)}.")
        return self

    def all_mistakes(self) -> list[str]:
        values = [(item, getattr(self, item.name)) for item in fields(self)]
        found = [mistake for item, value in values if (mistake := _wrong_kind(item, value))]
        if not found:  # only values of the right kind can be compared
            found = [mistake for item, value in values if (mistake := _out_of_bounds(item, value))]
            found += self.mistakes()
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Config):
                found += [f"{item.name}.{mistake}" for mistake in value.all_mistakes()]
        return found

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises ConfigError for unknown names and wrong values. Absent values take their defaults."""
        return cls._made(values).validate()

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> Self:
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"A {cls.__name__} has no value called {', '.join(unknown)}.")
        given: dict[str, Any] = {}
        for name, value in values.items():
            default = _default(known[name])
            if isinstance(default, Config):
                if not isinstance(value, Mapping):
                    raise ConfigError(f"A {cls.__name__} cannot be made of {dict(values)}: {name} must be an object.")
                given[name] = default._made(value)
            elif isinstance(value, list):
                given[name] = tuple(tuple(each) if isinstance(each, list) else each for each in value)
            else:
                given[name] = value
        return cls(**given)


def _wrong_kind(item: dataclasses.Field[Any], value: Any) -> str | None:
    default = _default(item)
    if isinstance(default, Config) or (value is None and default is None):
        return None
    kind = type(default)
    if default is None:
        kind = float if "float" in str(item.type) else int
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        return f"{item.name} is {value!r}, not {_KINDS[kind]}"
    return None


def _out_of_bounds(item: dataclasses.Field[Any], value: Any) -> str | None:
    if "allowed" in item.metadata and value not in item.metadata["allowed"]:
        return f"{item.name} is {value!r}, not one of {', '.join(item.metadata['allowed'])}"
    if value is not None and "least" in item.metadata and not _within(value, **item.metadata):
        return f"{item.name} is {value}, {_limits(**item.metadata)}"
    return None


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", tuple: "a list"}


def _within(value: float, least: float | None, above: float | None, most: float | None, below: float | None) -> bool:
    return (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )


def _limits(least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    """In words, what a value is not."""
    if above is not None:
        return "not above zero" if above == 0 else f"not above {above:g}"
    if below is not None:
        return f"not from {least:g} to below {below:g}"
    if most is not None:
        return f"not from {least:g} to {most:g}"
    return "below zero" if least == 0 else f"not at least {least:g}"


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
