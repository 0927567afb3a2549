"""The options that every cache takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import TIMEOUT_MAX
from typing import Any, TypedDict

from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.signing import Secret


class Options(TypedDict, total=False):
    """The keyword options that every cache takes.

    ============== =====================================================================
    option         meaning
    ============== =====================================================================
    key            What entries are signed with: a ``str`` or ``bytes``, or a list of them,
                   of which the first signs and all are accepted. Default: SECRET_KEY, then
                   SECRET_KEY_FALLBACKS; outside Django it is required.
    salt           Any text. Caches with different salts share no entries. Default: ``""``.
    ignore_errors  If True, a failure of the store is a miss; if False, it raises
                   ``StoreError``. Default: True.
    read_only      If True, pages store nothing; ``warm_bytecode`` still does. Default: False.
    release        The name of the release to serve without reading sources; None to check
                   every source. Default: None.
    packs          If True, many templates are loaded in one round trip. Default: True.
    deadline       Seconds that one operation of the store may take. Default: 0.5.
    cooldown       Seconds that a store which failed is left alone. Default: 10.
    ============== =====================================================================
    """

    key: Secret | None
    salt: str
    ignore_errors: bool
    read_only: bool
    release: str | None
    packs: bool
    deadline: float
    cooldown: float


def not_empty(option: str, value: str) -> str:
    """Return an option's text.

    Raises:
        ConfigurationError: It is empty, or no text.
    """
    if not checked(option, value, str):
        raise ConfigurationError(f"{option}: the empty string is not accepted; leave it out.")
    return value


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put a place, such as an option's name, before the messages of ConfigurationErrors."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from error


def checked(option: str, value: Any, kind: type) -> Any:
    """Return an option's value.

    Raises:
        ConfigurationError: It is not of this type.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(
            f"{option}: {value!r} is not accepted; it must be of type {kind.__name__}."
        )
    return value


def seconds(option: str, value: float, alternative: str = "") -> float:
    """Return an option's number of seconds.

    Raises:
        ConfigurationError: It is no number greater than 0 that a clock can count to;
            ``alternative`` says what else would have been accepted.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= TIMEOUT_MAX
    ):
        raise ConfigurationError(
            f"{option}: {value!r} is not accepted; it must be a number of seconds greater "
            f"than 0 {alternative}".rstrip()
            + "."
        )
    return value
