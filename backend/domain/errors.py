"""Errors of the backend. Each message is one sentence for the person who must fix it: what, where, what to do."""


class CaptionerError(Exception):
    """Base of all errors whose message may be shown to a user unchanged."""


class SettingsError(CaptionerError):
    """A setting is missing or malformed; the message lists all of them."""


class RequestError(CaptionerError):
    """A request from Label Studio is malformed (HTTP 400)."""


class ImageError(CaptionerError):
    """An image could not be fetched or read."""


class UnreachableImageError(ImageError):
    """The host of the image does not answer, or not now (HTTP 429, 5xx), or the disk is full; a later request may
    succeed."""


class LabelStudioError(CaptionerError):
    """Label Studio refused or could not be reached."""


class LabelStudioUnreachableError(LabelStudioError):
    """Label Studio cannot be reached now."""


class LabelStudioRefusalError(LabelStudioError):
    """Label Studio answered an API call with an error: the HTTP `status`, and its message in `detail`."""

    def __init__(self, message: str, status: int, detail: str) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail


class ModelUnavailableError(CaptionerError):
    """A checkpoint could not be loaded, or none serves this project."""


class BusyError(CaptionerError):
    """Too much waits already (HTTP 503); the same request is welcome later."""

    RETRY_SECONDS = 30


class RegistryError(CaptionerError):
    """No such model version, or it may not be promoted."""


class OvertakenError(RegistryError):
    """What was asked about has changed since, or cannot be done any more (HTTP 409); nothing was changed."""


class ForbiddenError(CaptionerError):
    """A form that no page of this installation sent, or that came too late (HTTP 403); nothing was changed."""


class DatabaseError(CaptionerError):
    """The database cannot be opened, reached or brought up to date."""


class QueueError(CaptionerError):
    """Redis could not be reached; the work stays in SQL and is queued again later."""
