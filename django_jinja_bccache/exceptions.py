"""The errors of this package: one tree, so that ``except BytecodeCacheError`` catches all."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured


class BytecodeCacheError(Exception):
    """Base class of every error that this package raises of its own accord."""


class ConfigurationError(BytecodeCacheError, ImproperlyConfigured):
    """A setting or an argument cannot be used; the message lists what is accepted."""


class UnknownEngine(BytecodeCacheError):
    """No template engine of that name uses a bytecode cache of this package.

    Args:
        names: The names that were asked for.
        known: The names that there are.
    """

    def __init__(self, names: Sequence[str], known: Sequence[str]) -> None:
        asked = ", ".join(repr(name) for name in names)
        there = ", ".join(repr(name) for name in known) or "none"
        super().__init__(f"No engine {asked} uses a bytecode cache; there are: {there}.")
        self.names = names
        self.known = known


class ReleaseChanged(BytecodeCacheError):
    """A published release would get other content.

    Args:
        release: The release's name.
        templates: The names of the templates that differ.
    """

    def __init__(self, release: str, templates: Sequence[str]) -> None:
        shown = ", ".join(repr(name) for name in templates[:5])
        rest = f" and {len(templates) - 5} more" if len(templates) > 5 else ""
        super().__init__(
            f"{release!r} is published already, with other content of {shown}{rest}; give the "
            "new content a release of its own, or overwrite this one with --force"
        )
        self.release = release
        self.templates = templates


class NotSupported(BytecodeCacheError):
    """The store, or the client beneath it, cannot do what was asked."""


class EntryRejected(BytecodeCacheError):
    """A stored value is not to be used.

    Args:
        reason: ``"corrupt"``, ``"version"`` or ``"signature"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"stored value rejected: {reason}")
        self.reason = reason


class StoreError(BytecodeCacheError):
    """A store did not do what was asked. The driver's own error is the ``__cause__``."""


class StoreUnavailable(StoreError):
    """A store could not be reached, or did not answer before its deadline."""


class ValueTooLarge(StoreError):
    """A value exceeds what the store takes.

    Args:
        size: The value's size in bytes.
        limit: The store's limit in bytes, None where the store does not tell it.
    """

    def __init__(self, size: int, limit: int | None = None) -> None:
        allowed = "the store takes less" if limit is None else f"the store takes {limit} bytes"
        super().__init__(f"value of {size} bytes: {allowed}")
        self.size = size
        self.limit = limit
