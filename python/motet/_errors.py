"""The base of motet's own exceptions."""

__all__ = ["InternalError", "MotetError"]


class MotetError(Exception):
    """The base of motet's own exceptions."""


class InternalError(MotetError):
    """Something in motet is wrong that should not be; a report helps."""
