"""Entries through Django's public cache API: the store for every backend without a raw one.

The backend pickles and unpickles values itself, before a signature can be looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.core.cache import caches

from django_jinja_bccache.exceptions import ConfigurationError, NotSupported, StoreError
from django_jinja_bccache.stores.base import StoredItem, StoreUsage


class DjangoCacheStore:
    """A store over ``django.core.cache.caches[alias]``.

    Args:
        alias: The alias in CACHES. Its KEY_PREFIX, VERSION and KEY_FUNCTION apply.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        value = self._call("get", key)
        return value if isinstance(value, bytes) else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""
        found = self._call("get_many", keys)
        return {key: value for key, value in found.items() if isinstance(value, bytes)}

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        self._call("set", key, value, timeout)

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        try:
            failed = self._call("set_many", dict(items), timeout=timeout)
        except StoreError as error:
            if not isinstance(error.__cause__, TypeError):
                raise
            # django-valkey's cluster takes no time-out here: its values would stay for ever.
            for key, value in items.items():
                self.set(key, value, timeout)
            return []
        return list(failed or ())

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        return sum(bool(self._call("delete", key)) for key in keys)

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """Raise NotSupported: Django's cache API lists no keys."""
        raise NotSupported(
            f"Django's cache API does not list keys, so those of CACHES[{self._alias!r}] that "
            f"begin with {prefix!r} cannot be told."
        )

    def usage(self) -> StoreUsage:
        """Tell nothing: Django's cache API does not."""
        return StoreUsage()

    def close(self) -> None:
        """Do nothing: Django closes its caches itself."""

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        answer = self._use(lambda cache: getattr(cache, method)(*arguments, **options))
        if inspect.iscoroutine(answer):
            answer.close()
            raise ConfigurationError(
                f"CACHES[{self._alias!r}]: {method}() is asynchronous, but Jinja2 loads "
                "templates in synchronous code."
            )
        return answer

    def _use(self, operation: Callable[[Any], Any]) -> Any:
        try:
            return operation(caches[self._alias])
        except Exception as error:
            raise StoreError(f"{type(error).__name__}: {error}") from error


class NullStore:
    """A store that holds nothing, for DummyCache."""

    def get(self, key: str) -> bytes | None:  # noqa: ARG002
        """Return None."""
        return None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:  # noqa: ARG002
        """Return nothing."""
        return {}

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Forget the value."""

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:  # noqa: ARG002
        """Forget the values, which is what this store is asked for."""
        return []

    def delete_many(self, keys: Iterable[str]) -> int:  # noqa: ARG002
        """Remove nothing."""
        return 0

    def scan(self, prefix: str) -> Iterator[StoredItem]:  # noqa: ARG002
        """List nothing."""
        return iter(())

    def usage(self) -> StoreUsage:
        """Tell that it holds nothing."""
        return StoreUsage(0, 0)

    def close(self) -> None:
        """Do nothing."""
