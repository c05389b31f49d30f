"""Errors of the captioning side; each message is one sentence a user can act on."""


class TrainingError(Exception):
    """Base of every error of `training` whose message may be shown to a user as it is."""


class ConfigError(TrainingError):
    """A configuration is invalid; the message lists every mistake."""


class DataError(TrainingError):
    """A data set, manifest or image is missing or damaged."""


class WeightsError(TrainingError):
    """Encoder weights could not be had or do not fit."""


class CheckpointError(TrainingError):
    """A checkpoint folder is missing, incomplete or of another format."""
