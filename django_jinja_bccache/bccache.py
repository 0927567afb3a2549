"""The bytecode caches: Jinja2's interface over a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any

from django.conf import settings
from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket
from jinja2.utils import internalcode

from django_jinja_bccache import bridge
from django_jinja_bccache.archive import Archive
from django_jinja_bccache.bytecode import Label, payload_of
from django_jinja_bccache.compiling import NO_FILE, compile_template
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.fingerprint import fingerprint
from django_jinja_bccache.options import Options, checked, seconds
from django_jinja_bccache.signing import Secret
from django_jinja_bccache.statistics import CacheEntry, CacheStatistics, Listener
from django_jinja_bccache.storage import EntryStorage
from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.filesystem import FileSystemStore, default_directory

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_DAY = 24 * 60 * 60


class StoreBytecodeCache(BytecodeCache):
    """What the bytecode caches have in common; ``open_store`` is what tells them apart.

    An instance may be shared by environments, threads and, through ``fork()``, processes.
    Copying it, ``copy.deepcopy`` included, returns the same instance.

    Args:
        prefix: What every stored key begins with.
        timeout: Seconds that an entry is kept, None for ever.
        key: See ``Options``, as for those that follow.
        salt: Any text.
        ignore_errors: Whether a failure of the store is a miss.
        read_only: Whether nothing is ever stored.
        deadline: Seconds that one operation of the store may take.
        cooldown: Seconds during which a store that failed is not asked.

    Raises:
        ConfigurationError: An option has a value that cannot be used.
    """

    def __init__(
        self,
        *,
        prefix: str,
        timeout: float | None,
        key: Secret | None = None,
        salt: str = "",
        ignore_errors: bool = True,
        read_only: bool = False,
        deadline: float = 0.5,
        cooldown: float = 10.0,
    ) -> None:
        self.prefix = checked("prefix", prefix, str)
        self.timeout = None if timeout is None else seconds("timeout", timeout, "or None")
        self.salt = checked("salt", salt, str)
        self.ignore_errors = checked("ignore_errors", ignore_errors, bool)
        self.read_only = checked("read_only", read_only, bool)
        self.deadline = seconds("deadline", deadline)
        self.cooldown = seconds("cooldown", cooldown)
        self.enabled = os.environ.get("DJANGO_JINJA_BCCACHE") != "off"
        #: Reads and writes the entries.
        self.storage = EntryStorage(
            self.open_store,
            name=repr(self),
            prefix=self.prefix,
            timeout=self.timeout,
            key=key,
            ignore_errors=self.ignore_errors,
            read_only=self.read_only,
            deadline=self.deadline,
            cooldown=self.cooldown,
        )

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return a store for this cache's entries.

        Args:
            deadline: Seconds that one operation may take, where the client can be told.
            guard: To be called with each part that may fail by itself, and its name.
        """
        raise NotImplementedError

    def get_cache_key(self, name: str, filename: str | None = None) -> str:  # noqa: ARG002
        """Return a digest of the template's name, and of nothing else.

        The path is left out, so that checkouts at different places share entries.
        """
        return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def get_source_checksum(self, source: str) -> str:
        """Return the SHA-256 of the source."""
        return sha256(source.encode("utf-8", "surrogatepass")).hexdigest()

    @internalcode
    def get_bucket(
        self, environment: Environment, name: str, filename: str | None, source: str
    ) -> Bucket:
        """Return a bucket that holds the template's code: the stored one, or compiled now.

        Raises:
            jinja2.TemplateSyntaxError: The template does not compile.
        """
        bucket = self.empty_bucket(environment, name, source)
        if not self.enabled:
            return bucket
        key = self.entry_key(bucket)
        code = self.storage.read(key, name)
        if code is not None:
            # Tracebacks and Django's debug page look at the outermost code object only.
            bucket.code = code.replace(co_filename=NO_FILE if filename is None else filename)
            return bucket
        compiled = compile_template(environment, source, name, filename)
        bucket.code = compiled.code
        if compiled.shareable:
            label = Label(name, bucket.checksum, compiled.references)
            self.storage.write(key, payload_of(compiled.code, name), label)
        else:
            self.storage.recorder.record("kept", name, key)
        return bucket

    def set_bucket(self, bucket: Bucket) -> None:
        """Store the bucket's code."""
        self.dump_bytecode(bucket)

    def load_bytecode(self, bucket: Bucket) -> None:
        """Put the stored code into the bucket, if there is any for its key and checksum."""
        if self.enabled:
            bucket.code = self.storage.read(self.entry_key(bucket), None)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Store the bucket's code.

        Raises:
            TypeError: The bucket is empty.
        """
        if bucket.code is None:
            raise TypeError("can't write empty bucket")
        if self.enabled:
            label = Label(None, bucket.checksum)
            self.storage.write(self.entry_key(bucket), payload_of(bucket.code, None), label)

    def clear(self) -> None:
        """Remove every entry of this cache, and nothing else.

        Raises:
            NotSupported: The store cannot list its keys, or its client cannot delete.
            StoreError: The store failed.
        """
        with Archive(self.storage) as archive:
            archive.delete([stored.key for stored in archive.items()])

    def validate(self) -> None:
        """Check what can be checked without opening anything: here, the signing keys.

        Raises:
            ConfigurationError: There is no signing key.
        """
        _ = self.storage.signing_keys

    @property
    def statistics(self) -> CacheStatistics:
        """What this cache did in this process, and how full its store is (one round trip)."""
        return self.storage.statistics()

    @property
    def listeners(self) -> list[Listener]:
        """Callables that are given an ``Event`` for each outcome; append to it."""
        return self.storage.recorder.listeners

    def entries(self) -> Iterator[CacheEntry]:
        """Yield every authentic entry of this cache that the store holds.

        Raises:
            NotSupported: The store cannot list its keys.
            StoreError: The store failed.
        """
        with Archive(self.storage) as archive:
            yield from archive.entries()

    def empty_bucket(self, environment: Environment, name: str, source: str) -> Bucket:
        """Return the bucket for a template, without looking for its code."""
        autoescape = environment.autoescape
        escapes = autoescape(name) if callable(autoescape) else autoescape
        key = f"{self.get_cache_key(name)}{'+' if escapes else '-'}"
        return Bucket(environment, key, self.get_source_checksum(source))

    def entry_key(self, bucket: Bucket) -> str:
        """Return what one template's code is filed under, for one environment and source."""
        of_template = f"{bucket.key}\0{bucket.checksum}".encode()
        digest = blake2b(of_template, digest_size=20).hexdigest()
        return fingerprint(bucket.environment, self.salt) + digest


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
        self.alias: str = checked("alias", alias, str)
        super().__init__(prefix=prefix, timeout=timeout, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r}>"

    def validate(self) -> None:
        """Check the signing keys, and that the alias is one in CACHES.

        Raises:
            ConfigurationError: One of them cannot be used.
        """
        super().validate()
        if self.alias not in settings.CACHES:
            known = ", ".join(repr(alias) for alias in settings.CACHES)
            raise ConfigurationError(
                f"there is no alias {self.alias!r} in CACHES; there are: {known}."
            )

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return the store for the alias in CACHES."""
        return bridge.open_store(self.alias, deadline=deadline, guard=guard)


class MemcachedBytecodeCache(StoreBytecodeCache):
    """A bytecode cache in memcached, over a client that somebody else made.

    Takes the place of ``jinja2.MemcachedBytecodeCache``. Threads take turns with the client;
    its time-outs are its own.

    Args:
        client: Any object with ``get(key)`` and ``set(key, value[, timeout])``.
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
        options.setdefault("ignore_errors", ignore_memcache_errors)
        super().__init__(prefix=prefix, timeout=timeout, **options)
        missing = [name for name in ("get", "set") if not hasattr(client, name)]
        if missing:
            raise ConfigurationError(
                f"client: {type(client).__name__} has no method {' and no '.join(missing)}; "
                "it must have get(key) and set(key, value[, timeout])."
            )
        self._client = bridge.shared_client(client)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} prefix={self.prefix!r}>"

    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return a store over the client."""
        return guard(bridge.memcached_store(self._client, deadline=deadline), "memcached")


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
        self.directory = default_directory() if directory is None else os.fspath(directory)
        self.pattern = checked("pattern", pattern, str)
        self._files = FileSystemStore(self.directory, self.pattern)
        super().__init__(prefix=prefix, timeout=timeout, **options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.directory!r}>"

    def open_store(self, *, deadline: float, guard: Guard) -> Store:  # noqa: ARG002
        """Return the store in the directory."""
        return guard(self._files, self.directory)
