"""A bytecode cache in two tiers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.exceptions import ConfigurationError, StoreError
from django_jinja_bccache.options import naming
from django_jinja_bccache.signing import Secret
from django_jinja_bccache.stores.alias import AliasStore
from django_jinja_bccache.stores.base import Guard, Store, unguarded
from django_jinja_bccache.stores.tiered import Tier, TieredStore, lesser


class TieredBytecodeCache(StoreBytecodeCache):
    """A bytecode cache of this host's own in front of one that the fleet shares.

    A load asks the local cache, and the shared one only for what that lacks; what it finds there
    it copies. Bytecode that was compiled is stored in both. While one of them is out of order the
    other one serves.

    What the two caches say of where, for how long and how patiently entries are kept holds for
    each of them: store, ``prefix``, ``timeout``, ``deadline``, ``cooldown`` and ``read_only``.
    All else is this cache's own.

    Args:
        local: The cache to ask first, such as a ``FileSystemBytecodeCache``.
        shared: The cache to ask then, such as a ``DjangoBytecodeCache``.
        prefix: What every key begins with, after each cache's own prefix.
        timeout: Seconds that an entry is kept in either at most, None for ever.
        key: See ``Options``, as for those that follow.
        salt: Any text.
        ignore_errors: Whether a failure of both is a miss.
        read_only: Whether pages store nothing in either, not even a copy in the local one.
        release: The name of the release to serve.
        packs: Whether many templates are loaded in one round trip.

    Attributes:
        local: The same.
        shared: The same.

    Raises:
        ConfigurationError: An argument has a value that cannot be used.
    """

    nested_caches = ("local", "shared")

    def __init__(
        self,
        local: StoreBytecodeCache,
        shared: StoreBytecodeCache,
        *,
        prefix: str = "",
        timeout: float | None = None,
        key: Secret | None = None,
        salt: str = "",
        ignore_errors: bool = True,
        read_only: bool = False,
        release: str | None = None,
        packs: bool = True,
    ) -> None:
        __traceback_hide__ = True
        self.local = _checked_tier("local", local)
        self.shared = _checked_tier("shared", shared)
        super().__init__(
            prefix=prefix,
            timeout=timeout,
            key=key,
            salt=salt,
            ignore_errors=ignore_errors,
            read_only=read_only,
            release=release,
            packs=packs,
        )
        #: The shortest of all: what is older than half of it, ``warm_bytecode`` stores again.
        self.timeout = lesser(self.timeout, lesser(local.timeout, shared.timeout))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local!r} {self.shared!r}>"

    def validate(self) -> None:
        """Check the signing keys, and both caches.

        Raises:
            ConfigurationError: One of them cannot be used.
        """
        super().validate()
        for option in self.nested_caches:
            with naming(f'"{option}"'):
                getattr(self, option).validate()

    def open_store(self, *, deadline: float, guard: Guard) -> Store:  # noqa: ARG002
        """Return both stores, each with the deadline and the guard of its own cache."""
        if guard is unguarded:
            local, shared = (
                self._tier(
                    cache,
                    partial(_itself, cache.storage.opener.open_patiently()),
                    read_only=cache.read_only,
                )
                for cache in (self.local, self.shared)
            )
            return TieredStore(local, shared, on_error=_raise)
        return TieredStore(
            *(
                self._tier(
                    cache,
                    cache.storage.opener.store,
                    read_only=cache.storage.read_only or self.storage.read_only,
                )
                for cache in (self.local, self.shared)
            ),
            on_error=self._record,
        )

    def _tier(
        self, cache: StoreBytecodeCache, open_store: Callable[[], Store], *, read_only: bool
    ) -> Tier:
        prefix = cache.prefix
        # The shortest path to a local hit is that of a local cache without a prefix.
        opened = (lambda: AliasStore(open_store(), prefix.__add__)) if prefix else open_store
        return Tier(opened, lesser(cache.timeout, self.storage.timeout), read_only)

    def _record(self, error: StoreError) -> None:
        self.storage.recorder.record("error", None, "", reason=str(error))


def _checked_tier(option: str, cache: object) -> StoreBytecodeCache:
    if not isinstance(cache, StoreBytecodeCache):
        raise ConfigurationError(
            f"{option}: {cache!r} is not accepted; it must be a bytecode cache of "
            "django_jinja_bccache."
        )
    if cache.storage.has_own_key or cache.salt:
        raise ConfigurationError(
            f"{option}: {cache!r} has a key or a salt of its own, which would not be used; give "
            "them to the TieredBytecodeCache."
        )
    return cache


def _itself(store: Store) -> Store:
    return store


def _raise(error: StoreError) -> None:
    raise error
