"""Which keys entries are signed with, and which are accepted."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from django_jinja_bccache.entry import SigningKey
from django_jinja_bccache.exceptions import ConfigurationError

Secret = str | bytes | Sequence[str | bytes]


def signing_keys(secret: Secret) -> tuple[SigningKey, ...]:
    """Return the keys made from the option ``key``: the first signs, all are accepted.

    Raises:
        ConfigurationError: There is none, or one is empty or neither ``str`` nor ``bytes``.
    """
    # Has Django leave this frame, and the secrets in it, out of its error pages; so elsewhere.
    __traceback_hide__ = True
    secrets = [secret] if isinstance(secret, str | bytes) else secret
    if not isinstance(secrets, list | tuple) or not secrets:
        raise ConfigurationError(
            "key: it must be a str or bytes that is not empty, or a list of them."
        )
    return _made_from("key", secrets)


def signing_keys_from_settings() -> tuple[SigningKey, ...]:
    """Return the keys made from SECRET_KEY, which signs, and SECRET_KEY_FALLBACKS.

    Raises:
        ConfigurationError: SECRET_KEY is empty, a fallback cannot be used, or there are no
            settings.
    """
    __traceback_hide__ = True
    try:
        secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    except ImproperlyConfigured as error:
        raise ConfigurationError(
            "key: outside Django it is required; inside, SECRET_KEY must not be empty."
        ) from error
    return _made_from("SECRET_KEY and SECRET_KEY_FALLBACKS", secrets)


def _made_from(origin: str, secrets: Sequence[str | bytes]) -> tuple[SigningKey, ...]:
    __traceback_hide__ = True
    try:
        return tuple(SigningKey(secret) for secret in secrets)
    except ConfigurationError as error:
        raise ConfigurationError(f"{origin}: {error}") from None
