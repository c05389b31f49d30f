"""Recurrent decoders: an image's grid and words to the next word. `build` makes the one that a config describes."""

from training.config import DecoderConfig
from training.networks.decoder.base import Decoder, DecoderOutput, EncoderOutput, RecurrentDecoder
from training.networks.decoder.ensemble import Ensemble
from training.networks.decoder.pooled import EveryStepDecoder, FirstInputDecoder, InitialStateDecoder
from training.networks.decoder.recurrence import State
from training.networks.decoder.show_attend_tell import ShowAttendTellDecoder
from training.networks.decoder.two_layer_attention import TwoLayerAttentionDecoder

__all__ = ["DECODERS", "Decoder", "DecoderOutput", "EncoderOutput", "RecurrentDecoder", "State", "build"]

DECODERS: dict[str, type[RecurrentDecoder]] = {
    "initial_state": InitialStateDecoder,
    "first_input": FirstInputDecoder,
    "every_step": EveryStepDecoder,
    "two_layer_attention": TwoLayerAttentionDecoder,
    "show_attend_tell": ShowAttendTellDecoder,
}
"""By architecture."""


def build(config: DecoderConfig, vocabulary_size: int, channels: int, cells: int, dropout: float = 0.0) -> Decoder:
    """A decoder with random weights for grids of `cells` cells with `channels` channels."""

    def single() -> RecurrentDecoder:
        return DECODERS[config.architecture](config, vocabulary_size, channels, cells, dropout)

    return Ensemble(config, single) if config.ensemble > 1 else single()
