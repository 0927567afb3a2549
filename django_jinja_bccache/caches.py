"""The bytecode caches, each over a store of its own kind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.bridge import check_alias, check_library, import_factory, open_store
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.options import Options, checked
from django_jinja_bccache.stores.base import Guard, Store

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DAY = 24 * 60 * 60


class DjangoBytecodeCache(StoreBytecodeCache):
    """Keeps bytecode in an alias in CACHES, through the raw client of its backend.

    Creating an instance reads no settings and opens no connection, so it can be done in the
    settings.

    Args:
        alias: The alias in CACHES. Default: ``"default"``.
        prefix: The beginning of every key, after the alias's own KEY_PREFIX and VERSION.
            Default: ``"jinja2/bytecode/"``.
        timeout: Seconds that an entry is kept; None for no expiry. Default: 30 days, so that a
            shared server does not keep for ever what nobody warms any more.
        options: See ``Options``.

    Raises:
        ConfigurationError: An option cannot be used or, on first use, there is no such alias.
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
        import_factory(self.alias)  # no page and no fork meets an import under way

    def forget_settings(self) -> None:
        """Let go of what came from settings that are overridden now, the store included."""
        self.storage.opener.close()
        super().forget_settings()

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return the store for the alias in CACHES."""
        return open_store(self.alias, deadline=deadline, guard=guard)


class MemcachedBytecodeCache(StoreBytecodeCache):
    """Keeps bytecode in memcached, through a client that you create.

    Replaces ``jinja2.MemcachedBytecodeCache``, and takes its arguments. Threads take turns with
    the client, which works in a thread of its own, so that no page waits for it past the
    deadline. Give the client time-outs all the same: one that waits for ever is not used again
    until it gets an answer.

    If the client unpickles what it reads, whoever can write to the server can run code in your
    site. python-memcached does, and so does pymemcache with a ``serde`` that pickles.
    ``DjangoBytecodeCache`` never unpickles what memcached holds.

    A client of pymemcache, pylibmc or python-memcached may be created before the process forks.

    Args:
        client: An object with ``get(key)`` and ``set(key, value[, timeout])``, where the time-out
            is in whole seconds. ``get_multi`` or ``get_many`` is used if the client has it, and
            ``clear()`` needs ``delete``.
        prefix: The beginning of every key. Default: ``"jinja2/bytecode/"``.
        timeout: Seconds that an entry is kept; None for no expiry, which is the default.
        ignore_memcache_errors: Jinja2's name for the option ``ignore_errors``. Default: True.
        options: See ``Options``.

    Raises:
        ConfigurationError: The client has no ``get`` or no ``set``, or an option cannot be used.
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
        from django_jinja_bccache.bridge.memcached import shared_client  # by those who use it

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
        from django_jinja_bccache.bridge.memcached import memcached_store

        return guard(memcached_store(self._client, deadline=deadline), "memcached")


class RedisBytecodeCache(StoreBytecodeCache):
    """Keeps bytecode in Redis or Valkey, through a client that you create.

    The client itself is not used, but copies of it. They have its address and credentials,
    enforce the deadline, do not retry, and return bytes even with ``decode_responses``.

    Args:
        client: A client of redis-py or valkey-py, such as ``redis.Redis()`` or one from
            ``Sentinel.master_for()``, but no asynchronous client and none for a cluster.
        prefix: The beginning of every key. Default: ``"jinja2:"``.
        timeout: Seconds that an entry is kept; None for no expiry. Default: 3,600.
        options: See ``Options``.

    Raises:
        ConfigurationError: The client is of another kind, or an option cannot be used.
    """

    def __init__(
        self,
        client: Any,
        prefix: str = "jinja2:",
        timeout: float | None = 3600,
        **options: Unpack[Options],
    ) -> None:
        __traceback_hide__ = True
        from django_jinja_bccache.bridge.redis import checked_client  # by those who use it

        super().__init__(prefix=prefix, timeout=timeout, **options)
        self._client = checked_client(client)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} prefix={self.prefix!r}>"

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return a store over the client's siblings."""
        from django_jinja_bccache.bridge.redis import client_store

        return guard(client_store(self._client, deadline=deadline), "redis")


class FileSystemBytecodeCache(StoreBytecodeCache):
    """Keeps bytecode in a directory, one file for each entry.

    Replaces ``jinja2.FileSystemBytecodeCache``, and takes its arguments. The format of the files
    is described in ``stores/filesystem.py``.

    Args:
        directory: The directory. It is created with mode 0700 when it is needed. Default: the
            user's own ``django-jinja-bccache-UID`` in the system's temporary directory.
        pattern: The name of a file, in which ``%s`` stands for a digest of the key. Default:
            ``"__jinja2_%s.cache"``.
        prefix: The beginning of every key. Keys are in the files, not in their names. Default:
            ``""``.
        timeout: Seconds that an entry is kept; None for no expiry, which is the default.
        options: See ``Options``.

    Raises:
        ConfigurationError: An option cannot be used.
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
        from django_jinja_bccache.stores.filesystem import FileSystemStore, default_directory

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
        from django_jinja_bccache.stores.filesystem import make_own_directory

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
    """Keeps bytecode in one SQLite file.

    Args:
        database_path: The path of the file. It is created with mode 0600 when it is needed, and
            missing directories with mode 0700. It must not be the database of another program.
        prefix: The beginning of every key. Default: ``""``.
        timeout: Seconds that an entry is kept; None for no expiry, which is the default.
        options: See ``Options``.

    Raises:
        ConfigurationError: An option cannot be used.
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
