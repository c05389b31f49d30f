"""Errors of `training`. Each message is one sentence that a user can act on."""


class TrainingError(Exception):
    """Base class of all errors whose message may be shown to a user."""


class ConfigError(TrainingError):
    """A configuration is invalid; the message lists every mistake."""


class DataError(TrainingError):
    """A data set, manifest or image is missing or damaged."""


class WeightsError(TrainingError):
    """Encoder weights cannot be downloaded or read, or do not fit the network."""


class CheckpointError(TrainingError):
    """A checkpoint folder is missing, incomplete, damaged or of another format."""
