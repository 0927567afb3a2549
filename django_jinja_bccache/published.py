"""What a cache serves of what was published: a reader of packs for each environment."""

from __future__ import annotations

import time
from contextlib import suppress
from hashlib import blake2b
from types import CodeType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from jinja2 import Environment

from django_jinja_bccache.directories import named_directories
from django_jinja_bccache.fingerprint import FINGERPRINT_SIZE, escapes, fingerprint
from django_jinja_bccache.pack_reader import PackReader
from django_jinja_bccache.packs import Place, Scope
from django_jinja_bccache.storage import EntryStorage

# Environments whose attributes change while they render leave readers behind.
_MOST_READERS = 64

#: The NAMEs of the engines whose environments these are.
engine_names: WeakKeyDictionary[Environment, str] = WeakKeyDictionary()


def engine_name(environment: Environment) -> str:
    """Return the NAME of an environment's engine, or what tells it from others without one.

    Only the template backend of this package tells its NAME. Another backend's environments are
    told apart by where their templates are, and by whether they escape.
    """
    name = engine_names.get(environment)
    if name is None:
        autoescape: Any = environment.autoescape
        if callable(autoescape):  # whose repr() may hold an address
            autoescape = getattr(autoescape, "__qualname__", type(autoescape).__qualname__)
        seen = [*named_directories(environment.loader), autoescape]
        digest = blake2b(repr(seen).encode(), digest_size=8).hexdigest()
        name = engine_names[environment] = f"({digest})"
    return name


class Cache(Protocol):
    """What it needs of a cache: its options, and where its values are."""

    storage: EntryStorage
    enabled: bool
    packs: bool
    release: str | None
    salt: str
    cooldown: float
    deadline: float


class Published:
    """What one cache serves from packs.

    Args:
        cache: The cache.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._readers: dict[tuple[str, str], PackReader] = {}

    def forget(self) -> None:
        """Let go of what was fetched."""
        self._readers.clear()

    def scope(self, environment: Environment) -> Scope:
        """Return whose packs an environment's are."""
        own = fingerprint(environment, self._cache.salt)
        return Scope(engine_name(environment), own, self._cache.release or "")

    def expect_all(self, environment: Environment) -> list[str]:
        """Fetch many packs at once from now on; return the published names in their order."""
        reader = self._reader(environment, fingerprint(environment, self._cache.salt))
        return [] if reader is None else reader.expect_all()

    def released(self, environment: Environment, template: str) -> tuple[CodeType, Place] | None:
        """Return the code of a template in the cache's release, and where its file is."""
        if self._cache.release is None:
            return None
        began = time.perf_counter()
        own = fingerprint(environment, self._cache.salt)
        reader = self._reader(environment, own)
        place = None if reader is None else reader.place(template)
        if reader is None or place is None:
            return None
        # The fingerprint does not tell, since it depends on the template.
        if escapes(environment, place.name or template) != place.escapes:
            return None
        key = own + place.digest.hex()
        code = reader.code(place.digest)
        if code is None:
            code = self._cache.storage.read(key, template)
        else:
            self._record(template, key, began, place.size)
        return None if code is None else (code, place)

    def code(self, environment: Environment, key: str, template: str) -> CodeType | None:
        """Return the code under an entry key, None if the packs do not hold it."""
        began = time.perf_counter()
        reader = self._reader(environment, key[:FINGERPRINT_SIZE])
        if reader is None:
            return None
        digest = bytes.fromhex(key[FINGERPRINT_SIZE:])
        code = reader.code(digest)
        if code is not None:
            self._record(template, key, began, reader.size(digest))
        return code

    def _record(self, template: str, key: str, began: float, size: int) -> None:
        self._cache.storage.record_load("hit", template, key, began, size=size, origin="pack")

    def _reader(self, environment: Environment, own_fingerprint: str) -> PackReader | None:
        if not (self._cache.packs and self._cache.enabled):
            return None
        which = engine_name(environment), own_fingerprint
        reader = self._readers.get(which)
        if reader is None:
            reader = PackReader(
                self._cache.storage,
                Scope(*which, self._cache.release or ""),
                cooldown=self._cache.cooldown,
                patience=self._cache.deadline / 4,
            )
            reader = self._readers.setdefault(which, reader)
            if len(self._readers) > _MOST_READERS:
                with suppress(StopIteration, KeyError, RuntimeError):  # another thread did so
                    del self._readers[next(iter(self._readers))]
        return reader
