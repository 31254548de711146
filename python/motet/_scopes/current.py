"""The scope that runs here, and what its cancellation raises."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

from motet import _motet
from motet._waits.errors import Cancelled

if TYPE_CHECKING:
    from motet._motet import _Token

    from .scope import Scope

__all__ = ["Cancelled", "checkpoint"]

# The innermost scope, inherited by what it starts. The token is what waits in Rust look at.
SCOPE: "ContextVar[Scope | None]" = ContextVar("motet.Scope", default=None)
TOKEN: "ContextVar[_Token | None]" = ContextVar("motet.Scope token", default=None)
_motet._use_tokens(TOKEN)


def checkpoint() -> None:
    """Raise `Cancelled` if the scope in which this thread or green thread runs is cancelled, or its time
    over.

    For code that computes for long. Every wait of motet's does so by itself. Tasks are cancelled by their
    library, where they wait.
    """
    _motet._check_scope()
