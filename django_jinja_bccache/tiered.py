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
    """Puts a cache of this host's own in front of one that all hosts share.

    A load asks the local cache first, and the shared one for what the local one lacks. What is
    found only in the shared cache is copied to the local one, and what was compiled is stored in
    both. While one of them fails, the other one serves.

    The store, ``prefix``, ``timeout``, ``deadline``, ``cooldown`` and ``read_only`` of the two
    caches apply to each of them. Their other options have no effect.

    Args:
        local: The cache to ask first, such as a ``FileSystemBytecodeCache``.
        shared: The cache to ask next, such as a ``DjangoBytecodeCache``.
        prefix: The beginning of every key, after the prefix of each cache. Default: ``""``.
        timeout: Seconds that an entry is kept in either cache at most; None for no such limit,
            which is the default.
        key: See ``Options``.
        salt: See ``Options``.
        ignore_errors: If True, a failure of both caches is a miss; if False, it raises
            ``StoreError``. Default: True.
        read_only: If True, pages store nothing in either cache, not even a copy in the local
            one. Default: False.
        release: See ``Options``.
        packs: See ``Options``.

    Attributes:
        local: The cache that is asked first.
        shared: The cache that is asked next.

    Raises:
        ConfigurationError: An argument cannot be used, or one of the caches has a ``key`` or
            ``salt`` of its own.
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
            # Commands write even where pages only read.
            local, shared = (
                self._tier(
                    cache,
                    partial(_itself, cache.storage.opener.open_patiently()),
                    read_only=False,
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
