"""A local store in front of a shared one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from django_jinja_bccache.exceptions import NotSupported, StoreError, ValueTooLarge
from django_jinja_bccache.stores.base import Store, StoredItem, StoreUsage
from django_jinja_bccache.stores.guard import CircuitOpen

Result = TypeVar("Result")


class Tier(NamedTuple):
    """One of the two stores.

    Attributes:
        open: Returns the store; called for each operation.
        timeout: Seconds that a value is kept in it at most, None for ever.
        read_only: Whether pages store nothing in it.
    """

    open: Callable[[], Store]
    timeout: float | None = None
    read_only: bool = False


class TieredStore:
    """Reads from the local store, then from the shared one, and writes to both.

    What was found in the shared store alone is copied to the local one. A tier that fails keeps
    the other from nothing: ``get``, ``get_many`` and ``set`` raise when both fail. The methods
    that only commands use do what they can in both and raise when one fails, since what is left
    undone there must not go unsaid.

    Args:
        local: The tier that is asked first.
        shared: The tier that is asked for what the local one lacks.
        on_error: Called with the error of a tier when the other one did the work.
    """

    def __init__(
        self,
        local: Tier,
        shared: Tier,
        *,
        on_error: Callable[[StoreError], None] = lambda _error: None,
    ) -> None:
        self._local = local
        self._shared = shared
        self._on_error = on_error
        self._answered = threading.local()

    @property
    def answered(self) -> str:
        """Which tier this thread's last value came from, ``local`` or ``shared``."""
        return getattr(self._answered, "tier", "")

    @property
    def tiers(self) -> tuple[Store, Store]:
        """The two stores."""
        return self._local.open(), self._shared.open()

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        errors: list[StoreError] = []
        value = _ask(self._local, lambda store: store.get(key), errors)
        self._answered.tier = "shared" if value is None else "local"
        if value is None:
            value = _ask(self._shared, lambda store: store.get(key), errors)
            self._settle(errors)
            if value is not None:
                self._copy({key: value})
        return value

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""
        return self._find(keys, enough=len(keys))

    def get_any(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return at least one value, if there is any: those in the local store will do."""
        return self._find(keys, enough=1)

    def get_latest(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the shared store's values, and the local ones if it fails: other hosts write."""
        errors: list[StoreError] = []
        found = _ask(self._shared, lambda store: store.get_many(keys), errors)
        if found is None:
            found = _ask(self._local, lambda store: store.get_many(keys), errors) or {}
            self._settle(errors)
        else:
            self._copy(found)
        return found

    def _find(self, keys: Sequence[str], enough: int) -> dict[str, bytes]:
        errors: list[StoreError] = []
        found = _ask(self._local, lambda store: store.get_many(keys), errors) or {}
        self._answered.tier = "shared" if len(found) < enough else "local"
        if len(found) < enough:
            missing = [key for key in keys if key not in found]
            others = _ask(self._shared, lambda store: store.get_many(missing), errors) or {}
            self._settle(errors)
            self._copy(others)
            found = {**found, **others}
        return found

    def _copy(self, values: Mapping[str, bytes]) -> None:
        if not self._local.read_only:
            errors: list[StoreError] = []
            for key, value in values.items():
                _ask(self._local, _setting(key, value, self._local.timeout), errors)
            self._note(errors)

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None.

        Raises:
            ValueTooLarge: One of the tiers does not take it, even if the other one does.
            StoreError: No tier has stored it.
        """
        errors: list[StoreError] = []
        written = [tier for tier in (self._local, self._shared) if not tier.read_only]
        for tier in written:
            _ask(tier, _setting(key, value, lesser(timeout, tier.timeout)), errors)
        self._settle(errors, of=len(written))

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values in both; return the keys of those that one of them did not store."""

        def store_in(tier: Tier) -> list[str]:
            return tier.open().set_many(items, lesser(timeout, tier.timeout))

        refused = {key for failed in self._in_both(store_in) for key in failed}
        return [key for key in items if key in refused]

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys from both; return how many were there in the tier that had more."""
        listed = list(keys)
        return max(self._in_both(lambda tier: tier.open().delete_many(listed)))

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items of both, each once; of those in both, what the shared one tells."""
        seen: set[str] = set()
        for store in reversed(self.tiers):
            for item in store.scan(prefix):
                if item.key not in seen:
                    seen.add(item.key)
                    yield item

    def usage(self) -> StoreUsage:
        """Tell how full the shared store is."""
        return self._shared.open().usage()

    def close(self) -> None:
        """Close the connections of both."""
        self._in_both(lambda tier: tier.open().close())

    def _in_both(self, operation: Callable[[Tier], Result]) -> list[Result]:
        results: list[Result] = []
        errors: list[StoreError | NotSupported] = []
        for tier in (self._local, self._shared):
            try:
                results.append(operation(tier))
            except (StoreError, NotSupported) as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return results

    def _settle(self, errors: Sequence[StoreError], of: int = 2) -> None:
        """Raise if all the tiers that were asked have failed, or one wants a smaller value."""
        too_large = [error for error in errors if isinstance(error, ValueTooLarge)]
        if too_large:
            raise too_large[0]  # whoever asked may have a smaller value to offer
        if errors and len(errors) == of:
            raise min(errors, key=lambda error: isinstance(error, CircuitOpen))
        self._note(errors)

    def _note(self, errors: Sequence[StoreError]) -> None:
        for error in errors:
            if not isinstance(error, CircuitOpen | ValueTooLarge):
                self._on_error(error)


def tiers_of(store: Store) -> tuple[Store, ...]:
    """Return the stores that are each to hold every value: the tiers of one, or itself."""
    tiers: tuple[Store, ...] = getattr(store, "tiers", (store,))
    return tiers


def get_any(store: Store, keys: Sequence[str]) -> dict[str, bytes]:
    """Return at least one of the values, if there is any, with as few questions as that takes."""
    ask: Callable[[Sequence[str]], dict[str, bytes]] = getattr(store, "get_any", store.get_many)
    return ask(keys)


def get_latest(store: Store, keys: Sequence[str]) -> dict[str, bytes]:
    """Return the values as whoever wrote last has left them."""
    ask: Callable[[Sequence[str]], dict[str, bytes]] = getattr(store, "get_latest", store.get_many)
    return ask(keys)


def _ask(
    tier: Tier, operation: Callable[[Store], Result], errors: list[StoreError]
) -> Result | None:
    try:
        return operation(tier.open())
    except StoreError as error:
        errors.append(error)
        return None


def _setting(key: str, value: bytes, timeout: float | None) -> Callable[[Store], None]:
    return lambda store: store.set(key, value, timeout)


def lesser(timeout: float | None, other: float | None) -> float | None:
    """Return the lesser of two time-outs, either of which may be None: never."""
    return min((each for each in (timeout, other) if each is not None), default=None)
