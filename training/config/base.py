"""Frozen values with their limits in their types, checked together by pydantic; to JSON and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from training.errors import ConfigError

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PartialShare = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Config:
    """Base of all configs. Nothing is checked when one is made, but all of it by `validate` and `from_json`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def mistakes(self) -> list[str]:
        """What is wrong with the values of this config together, one phrase each."""
        return []

    def validate(self) -> Self:
        """This config. Raises ConfigError naming every mistake, those of the nested configs too."""
        if wrong := [*self.wrong(self.to_json()), *self._all_mistakes()]:
            raise ConfigError(f"The {type(self).__name__} is wrong: {'; '.join(wrong)}.")
        return self

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Raises ConfigError for unknown names and wrong values. Absent values take their defaults."""
        if wrong := cls.wrong(values):
            raise ConfigError(f"The {cls.__name__} is wrong: {'; '.join(wrong)}.")
        made: Self = _adapter(cls).validate_json(json.dumps(values))
        return made.validate()

    @classmethod
    def wrong(cls, values: Any) -> list[str]:
        """What is wrong with JSON values that some of this config may be made of, each by its dotted name."""
        try:
            _adapter(cls).validate_json(json.dumps(values))
        except ValidationError as error:
            return [_phrase(cls, dict(each)) for each in error.errors(include_url=False)]
        return []

    def _all_mistakes(self) -> Iterator[str]:
        with suppress(TypeError):  # of values that are named already
            yield from self.mistakes()
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Config):
                yield from (f"{item.name}.{mistake}" for mistake in value._all_mistakes())


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def _phrase(kind: type[Config], error: dict[str, Any]) -> str:
    """A mistake that pydantic found: "decoder.hidden is 'big', not a valid integer"."""
    *outer, name = error["loc"] or ("the configuration",)
    if error["type"] == "unexpected_keyword_argument":
        for each in outer:
            kind = type(getattr(kind(), each))
        known = ", ".join(item.name for item in fields(kind))
        return f"{'.'.join(outer) or 'the configuration'} has no value {name!r}; it has {known}"
    path = ".".join(map(str, (*outer, name)))
    return f"{path} is {error['input']!r}, not {error['msg'].removeprefix('Input should be ')}"
