"""Jinja2's interface of a bytecode cache, over a store."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakSet

from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket
from jinja2.utils import internalcode

from django_jinja_bccache.bytecode import Label, payload_of
from django_jinja_bccache.compiling import NO_FILE, compile_template
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.fingerprint import escapes, fingerprint
from django_jinja_bccache.options import checked, not_empty, seconds
from django_jinja_bccache.published import Published
from django_jinja_bccache.signing import Secret
from django_jinja_bccache.statistics import UNSHAREABLE, CacheEntry, CacheStatistics, Listener
from django_jinja_bccache.storage import EntryStorage
from django_jinja_bccache.stores.base import Guard, Store

if TYPE_CHECKING:
    from typing_extensions import Self

    from django_jinja_bccache.archive import Archive


#: All caches of this process.
instances: WeakSet[StoreBytecodeCache] = WeakSet()
_SWITCH = "DJANGO_JINJA_BCCACHE"
_SWITCHES = ("", "on", "off", "read-only")


class StoreBytecodeCache(ABC, BytecodeCache):
    """The base of all bytecode caches, which differ in their stores.

    Environments, threads and forked processes may share an instance. Copying it, even with
    ``copy.deepcopy()``, returns the same instance.

    Args:
        prefix: The beginning of every stored key.
        timeout: Seconds that an entry is kept; None for no expiry.
        key: See ``Options``, as for all that follow.
        salt: Any text.
        ignore_errors: If True, a failure of the store is a miss.
        read_only: If True, pages store nothing.
        release: The name of the release to serve.
        packs: If True, many templates are loaded in one round trip.
        deadline: Seconds that one operation of the store may take.
        cooldown: Seconds that a store which failed is left alone.

    Raises:
        ConfigurationError: An option cannot be used.
    """

    #: Names of arguments that are bytecode caches themselves: in OPTIONS each of them may be
    #: whatever the option ``bytecode_cache`` may be.
    nested_caches: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        prefix: str,
        timeout: float | None,
        key: Secret | None = None,
        salt: str = "",
        ignore_errors: bool = True,
        read_only: bool = False,
        release: str | None = None,
        packs: bool = True,
        deadline: float = 0.5,
        cooldown: float = 10.0,
    ) -> None:
        __traceback_hide__ = True
        self.prefix = checked("prefix", prefix, str)
        self.timeout = None if timeout is None else seconds("timeout", timeout, "or None")
        self.salt = checked("salt", salt, str)
        self.ignore_errors = checked("ignore_errors", ignore_errors, bool)
        self.read_only = checked("read_only", read_only, bool)
        self.release = None if release is None else not_empty("release", release)
        self.packs = checked("packs", packs, bool)
        if self.release is not None and not self.packs:
            raise ConfigurationError(
                "release: it is served from packs, which packs=False leaves out; leave out one of "
                "the two."
            )
        self.deadline = seconds("deadline", deadline)
        self.cooldown = seconds("cooldown", cooldown)
        switch = _switch()
        self.enabled = switch != "off"
        #: Reads and writes the entries.
        self.storage = EntryStorage(
            self.open_store,
            name=repr(self),
            prefix=self.prefix,
            timeout=self.timeout,
            key=key,
            ignore_errors=self.ignore_errors,
            read_only=self.read_only or switch == "read-only",
            deadline=self.deadline,
            cooldown=self.cooldown,
        )
        #: Serves what is published.
        self.published = Published(self)
        instances.add(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @abstractmethod
    def open_store(self, *, deadline: float, guard: Guard) -> Store:
        """Return a store for this cache's entries.

        Args:
            deadline: Seconds that one operation may take, where the client can be told.
            guard: To be called with each part that may fail by itself, and its name.
        """

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
        # Markup is a str that nothing can marshal, and some loaders hand over a Path.
        name = str.__str__(str(name))
        filename = None if filename is None else os.fspath(filename)
        bucket = self.empty_bucket(environment, name, filename, source)
        if not self.enabled:
            return bucket
        key = self.entry_key(bucket)
        code = self.published.code(environment, key, name) or self.storage.read(key, name)
        if code is not None:
            # Tracebacks and Django's debug page look at the outermost code object only.
            bucket.code = code.replace(co_filename=NO_FILE if filename is None else filename)
            return bucket
        began = time.perf_counter()
        compiled = compile_template(environment, source, name, filename)
        seconds = time.perf_counter() - began
        self.storage.recorder.record("compiled", name, key, seconds=seconds)
        bucket.code = compiled.code
        # A filter may have been replaced since the key was made.
        if compiled.shareable and self.entry_key(bucket) == key:
            label = Label(name, bucket.checksum, compiled.references)
            self.storage.write(key, payload_of(compiled.code, name), label)
        else:
            self.storage.recorder.record(UNSHAREABLE, name, key)
        return bucket

    def set_bucket(self, bucket: Bucket) -> None:
        """Store the bucket's code."""
        self.dump_bytecode(bucket)

    def load_bytecode(self, bucket: Bucket) -> None:
        """Put the stored code into the bucket, if there is any for its key and checksum."""
        if self.enabled:
            key = self.entry_key(bucket)
            bucket.code = self.storage.read(_by_hand(key), None, key)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Store the bucket's code.

        Raises:
            TypeError: The bucket is empty.
        """
        if bucket.code is None:
            raise TypeError("can't write empty bucket")
        if self.enabled:
            label = Label(None, bucket.checksum)
            key = _by_hand(self.entry_key(bucket))
            self.storage.write(key, payload_of(bucket.code, None), label)

    def clear(self) -> None:
        """Remove every entry of this cache, and nothing else.

        Caches over the same store have the same entries if their prefix and signing keys are
        the same, whatever their ``salt`` is.

        Raises:
            NotSupported: The store cannot list its keys, or its client cannot delete.
            StoreError: The store failed.
        """
        from django_jinja_bccache.notes import clear_all  # no page needs it

        with self._archive() as archive:
            clear_all(archive)

    def forget_settings(self) -> None:
        """Let go of what came from settings that are overridden now."""
        self.storage.forget_settings()
        self.published.forget()

    def validate(self) -> None:
        """Check what can be checked without opening the store, such as the signing keys.

        Raises:
            ConfigurationError: There is no signing key.
        """
        _ = self.storage.signing_keys

    @property
    def statistics(self) -> CacheStatistics:
        """What this cache has done in this process, and how full its store is (one round trip)."""
        return self.storage.statistics()

    @property
    def listeners(self) -> list[Listener]:
        """A list of callables, each called with an ``Event`` for each outcome; append yours."""
        return self.storage.recorder.listeners

    def entries(self) -> Iterator[CacheEntry]:
        """Yield every authentic entry of this cache that the store holds.

        Raises:
            NotSupported: The store cannot list its keys.
            StoreError: The store failed.
        """
        with self._archive() as archive:
            yield from archive.entries()

    def _archive(self) -> Archive:
        from django_jinja_bccache.archive import Archive  # no page needs it

        return Archive(self.storage)

    def empty_bucket(
        self, environment: Environment, name: str, filename: str | None, source: str
    ) -> Bucket:
        """Return the bucket for a template, without looking for its code."""
        sign = "+" if escapes(environment, name) else "-"
        key = f"{self.get_cache_key(name, filename)}{sign}"
        return Bucket(environment, key, self.get_source_checksum(source))

    def entry_key(self, bucket: Bucket) -> str:
        """Return what one template's code is filed under, for one environment and source."""
        of_template = f"{bucket.key}\0{bucket.checksum}".encode()
        digest = blake2b(of_template, digest_size=20).hexdigest()
        return fingerprint(bucket.environment, self.salt) + digest


def _switch() -> str:
    """Return what the process environment says of all caches.

    Raises:
        ConfigurationError: It says something else than it may.
    """
    value = os.environ.get(_SWITCH, "")
    if value not in _SWITCHES:
        accepted = ", ".join(repr(each) for each in _SWITCHES[1:])
        raise ConfigurationError(
            f"{_SWITCH} in the process environment: {value!r} is not accepted; it must be one of "
            f"{accepted}."
        )
    return value


def _by_hand(key: str) -> str:
    """Return the key for code that the caller compiled, which no page is to be served."""
    return f"{key}-by-hand"
