"""Recurrent decoders: an image's grid and words to the next word. `build` makes the one that a config describes."""

from training.config import DecoderConfig
from training.networks.decoder.base import Decoder, Memory, Reading, RecurrentDecoder
from training.networks.decoder.between import BetweenDecoder
from training.networks.decoder.committee import Committee
from training.networks.decoder.pooled import EveryStepDecoder, FirstInputDecoder, InitialStateDecoder
from training.networks.decoder.recurrence import State
from training.networks.decoder.stepwise import ShowAttendTellDecoder, TopDownDecoder

__all__ = ["DECODERS", "Decoder", "Memory", "Reading", "RecurrentDecoder", "State", "build"]

DECODERS: dict[str, type[RecurrentDecoder]] = {
    "initial_state": InitialStateDecoder,
    "first_input": FirstInputDecoder,
    "every_step": EveryStepDecoder,
    "between": BetweenDecoder,
    "show_attend_tell": ShowAttendTellDecoder,
    "top_down": TopDownDecoder,
}
"""By the place where the image comes in: without attention, and with it."""


def build(config: DecoderConfig, vocabulary_size: int, channels: int, cells: int, dropout: float = 0.0) -> Decoder:
    """A decoder with random weights for grids of `cells` cells with `channels` channels."""

    def member() -> RecurrentDecoder:
        return DECODERS[config.form](config, vocabulary_size, channels, cells, dropout)

    return Committee(config, member) if config.members > 1 else member()
