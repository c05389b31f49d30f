"""What can go wrong between Label Studio and the captioner, in one clear sentence each.

The message of every error here is written for the person who has to mend it: what is wrong, where, what to do.
"""


class CaptionerError(Exception):
    """Base of every error whose message may be shown to a user as it is."""


class SettingsError(CaptionerError):
    """A setting is missing or malformed; the message lists all of them."""


class RequestError(CaptionerError):
    """A request from Label Studio is malformed (HTTP 400)."""


class ImageError(CaptionerError):
    """An image could not be fetched or read."""


class UnreachableImageError(ImageError):
    """Who has the image does not answer, or not now (HTTP 429, 5xx): asking again later may help."""


class LabelStudioError(CaptionerError):
    """Label Studio refused or could not be reached."""


class LabelStudioUnreachableError(LabelStudioError):
    """Label Studio cannot be reached now."""


class LabelStudioRefusalError(LabelStudioError):
    """Label Studio answered an API call with an error: the HTTP `status`, and in `detail` its own words."""

    def __init__(self, message: str, status: int, detail: str) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail


class ModelUnavailableError(CaptionerError):
    """A checkpoint could not be loaded, or none serves this project."""


class RegistryError(CaptionerError):
    """No such model version, or it may not be promoted."""


class DatabaseError(CaptionerError):
    """The database cannot be opened, reached or brought up to date."""


class QueueError(CaptionerError):
    """Redis could not be reached; the work stays in SQL and is queued again later."""
