"""The import that label-studio-ml's own server is given: `backend.model.CaptionerModel`."""

from backend.web.upstream import CaptionerModel

__all__ = ["CaptionerModel"]
