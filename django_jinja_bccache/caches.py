"""The bytecode caches, each over a store of its own kind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.bridge import check_alias, check_library, open_store
from django_jinja_bccache.bridge.memcached import memcached_store, shared_client
from django_jinja_bccache.bridge.redis import checked_client, client_store
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.options import Options, checked
from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.filesystem import (
    FileSystemStore,
    default_directory,
    make_own_directory,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DAY = 24 * 60 * 60


class DjangoBytecodeCache(StoreBytecodeCache):
    """A bytecode cache in a cache of Django's, over the raw client beneath its interface.

    Making one reads no settings and opens nothing, so it may stand in the settings.

    Args:
        alias: The alias in CACHES.
        prefix: What every key begins with, after the alias's own KEY_PREFIX and VERSION.
        timeout: Seconds that an entry is kept, None for ever. The default of 30 days lets a
            shared server empty itself of what nobody warms any more.
        options: See ``Options``.

    Raises:
        ConfigurationError: An option has a value that cannot be used; on first use: there is
            no such alias.
    """

    def __init__(
        self,
        alias: str = "default",
        *,
        prefix: str = "jinja2/bytecode/",
        timeout: float | None = 30 * _DAY,
        **options: Unpack[Options],
    ) -> None:
        __traceback_hide__ = True
        self.alias: str = checked("alias", alias, str)
        super().__init__(prefix=prefix, timeout=timeout, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r}>"

    def validate(self) -> None:
        """Check the signing keys, and that CACHES has the alias with a backend that can be used.

        Raises:
            ConfigurationError: One of them cannot be used.
        """
        super().validate()
        if self.alias not in settings.CACHES:
            known = ", ".join(repr(alias) for alias in settings.CACHES)
            raise ConfigurationError(
                f"there is no alias {self.alias!r} in CACHES; there are: {known}."
            )
        check_alias(self.alias)
        check_library(self.alias)

    def forget_settings(self) -> None:
        """Let go of what came from settings that are overridden now, the store included."""
        self.storage.opener.close()
        super().forget_settings()

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return the store for the alias in CACHES."""
        return open_store(self.alias, deadline=deadline, guard=guard)


class MemcachedBytecodeCache(StoreBytecodeCache):
    """A bytecode cache in memcached, over a client that somebody else made.

    Takes the place of ``jinja2.MemcachedBytecodeCache``. Threads take turns with the client,
    which works in a thread of its own: nobody waits for it past the deadline, whatever its
    time-outs are. One that waits for ever is not used again before it has an answer, so give
    it time-outs.

    What the client reads it unpickles first if it is of a kind that does, such as
    python-memcached's, or pymemcache's with a ``serde`` that does: then whoever can write to
    the server can run code here. ``DjangoBytecodeCache`` never unpickles what memcached holds.

    A client of pymemcache, pylibmc or python-memcached may be made before the process forks.

    Args:
        client: Any object with ``get(key)`` and ``set(key, value[, timeout])``, the time-out
            in whole seconds. Its ``get_multi`` or ``get_many`` is used if it has one, and its
            ``delete`` by ``clear()``.
        prefix: What every key begins with.
        timeout: Seconds that an entry is kept, None for ever.
        ignore_memcache_errors: Jinja2's name for the option ``ignore_errors``.
        options: See ``Options``.

    Raises:
        ConfigurationError: The client lacks ``get`` or ``set``, or an option has a value that
            cannot be used.
    """

    def __init__(
        self,
        client: Any,
        prefix: str = "jinja2/bytecode/",
        timeout: float | None = None,
        ignore_memcache_errors: bool = True,
        **options: Unpack[Options],
    ) -> None:
        __traceback_hide__ = True
        options.setdefault("ignore_errors", ignore_memcache_errors)
        super().__init__(prefix=prefix, timeout=timeout, **options)
        missing = [name for name in ("get", "set") if not hasattr(client, name)]
        if missing:
            raise ConfigurationError(
                f"client: {type(client).__name__} has no method {' and no '.join(missing)}; "
                "it must have get(key) and set(key, value[, timeout])."
            )
        self._client = shared_client(client, deadline=self.deadline)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} prefix={self.prefix!r}>"

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return a store over the client."""
        return guard(memcached_store(self._client, deadline=deadline), "memcached")


class RedisBytecodeCache(StoreBytecodeCache):
    """A bytecode cache in Redis or Valkey, over a client that somebody else made.

    The client itself is not used: siblings of it are, which have its address and credentials
    but no time-outs and retries of their own, and which return bytes, so ``decode_responses``
    does no harm.

    Args:
        client: A client of redis-py or valkey-py, such as ``redis.Redis()`` or one from
            ``Sentinel.master_for()``; neither asynchronous nor of a cluster.
        prefix: What every key begins with.
        timeout: Seconds that an entry is kept, None for ever.
        options: See ``Options``.

    Raises:
        ConfigurationError: The client is of another kind, or an option has a value that
            cannot be used.
    """

    def __init__(
        self,
        client: Any,
        prefix: str = "jinja2:",
        timeout: float | None = 3600,
        **options: Unpack[Options],
    ) -> None:
        __traceback_hide__ = True
        super().__init__(prefix=prefix, timeout=timeout, **options)
        self._client = checked_client(client)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} prefix={self.prefix!r}>"

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return a store over the client's siblings."""
        return guard(client_store(self._client, deadline=deadline), "redis")


class FileSystemBytecodeCache(StoreBytecodeCache):
    """A bytecode cache in a directory.

    Takes the place of ``jinja2.FileSystemBytecodeCache``.

    Args:
        directory: Where the files lie; by default a directory of the user's own in the
            system's one for temporary files. It is made with mode 0700 when needed.
        pattern: A file's name, in which ``%s`` stands for a digest.
        prefix: What every key begins with. Keys stand in the files, not in their names.
        timeout: Seconds that an entry is kept, None for ever.
        options: See ``Options``.

    Raises:
        ConfigurationError: An option has a value that cannot be used.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        pattern: str = "__jinja2_%s.cache",
        *,
        prefix: str = "",
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        __traceback_hide__ = True
        # Absolute, as a server may change its working directory later.
        self._is_default = directory is None
        self.directory = default_directory() if directory is None else _absolute(directory)
        self.pattern = checked("pattern", pattern, str)
        self._files = FileSystemStore(self.directory, self.pattern)
        super().__init__(prefix=prefix, timeout=timeout, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.directory!r}>"

    def open_store(self, *, deadline: float, guard: Guard) -> Store:  # noqa: ARG002
        """Return the store in the directory."""
        if self._is_default:
            make_own_directory(self.directory)
        return guard(self._files, self.directory)


def _absolute(directory: object) -> str:
    """Return the absolute path of a directory.

    Raises:
        ConfigurationError: There can be no such directory.
    """
    try:
        path = os.path.abspath(os.fspath(cast("str", directory)))
        is_possible = isinstance(path, str) and b"\0" not in os.fsencode(path)
    except (TypeError, UnicodeEncodeError):
        is_possible = False
    if not is_possible:
        raise ConfigurationError(
            f"directory: {directory!r} is not accepted; it must be the path of a directory."
        )
    return path


class SQLiteBytecodeCache(StoreBytecodeCache):
    """A bytecode cache in an SQLite file.

    Args:
        database_path: The path of the file, which is made with mode 0600 when needed, as are
            missing directories with 0700. It must not be another program's database.
        prefix: What every key begins with.
        timeout: Seconds that an entry is kept, None for ever.
        options: See ``Options``.

    Raises:
        ConfigurationError: An option has a value that cannot be used.
    """

    def __init__(
        self,
        database_path: str | os.PathLike[str],
        *,
        prefix: str = "",
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        __traceback_hide__ = True
        from django_jinja_bccache.stores.sqlite import checked_path  # imports sqlite3

        self.database_path = checked_path(database_path)
        super().__init__(prefix=prefix, timeout=timeout, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.database_path!r}>"

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return a store in the file."""
        from django_jinja_bccache.stores.sqlite import SQLiteStore

        return guard(SQLiteStore(self.database_path, deadline=deadline), self.database_path)
