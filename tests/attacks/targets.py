"""Sites of a few pages whose stored values are attacked, and what became of each attack."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2
import pytest

from django_jinja_bccache import FileSystemBytecodeCache, SQLiteBytecodeCache
from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.statistics import CacheStatistics, Event
from django_jinja_bccache.warming import warm
from tests.attacks.mutations import Stolen
from tests.attacks.watching import watched
from tests.raw import Raw, RawFiles
from tests.sites import cached_engine

SECRET = "correct horse battery staple"
SOURCES = {
    "page.html": "<p>{{ name }}</p>",
    "other.html": "{{ name }} is not to be seen",
    "large.html": "{% macro item(text) %}<li>{{ text }}</li>{% endmacro %}"
    "{% block body %}<ul>{{ item(name) }}{{ item(name|upper) }}</ul>{% endblock %}",
}
PAGES = {
    "page.html": "<p>&lt;b&gt;</p>",
    "other.html": "&lt;b&gt; is not to be seen",
    "large.html": "<ul><li>&lt;b&gt;</li><li>&lt;B&gt;</li></ul>",
}
#: Seconds after which nobody waits for a page any more.
LONGEST = 10.0

MakeCache = Callable[..., StoreBytecodeCache]


class QuickFiles(RawFiles):
    """Files that stay where they were when they were first written to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._heads: dict[str, tuple[Path, bytes]] = {}

    def head(self, key: str) -> tuple[Path, bytes]:
        if key not in self._heads:
            path = self.paths()[key]
            header, key_bytes, _ = self._split(path)
            self._heads[key] = path, header + key_bytes
        return self._heads[key]

    def plant(self, key: str, value: bytes, flags: int = 0) -> None:
        path, head = self.head(key)
        path.write_bytes(head + value)

    def remove(self, key: str) -> None:
        self.head(key)[0].unlink(missing_ok=True)


class RawSQLite:
    """The items of an SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, statement: str, *values: object) -> list[tuple]:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def keys(self) -> list[str]:
        return [key.decode() for (key,) in self.ask("SELECT key FROM entry")]

    def get(self, key: str) -> bytes:
        [(value,)] = self.ask("SELECT value FROM entry WHERE key = ?", key.encode())
        return value

    def plant(self, key: str, value: bytes, flags: int = 0) -> None:
        self.ask("REPLACE INTO entry (key, value) VALUES (?, ?)", key.encode(), value)


def files(directory: Path) -> tuple[MakeCache, QuickFiles]:
    """A cache in a directory, and its inside."""

    def make(**options) -> StoreBytecodeCache:
        options = {"key": SECRET, "deadline": 30, **options}  # this is not about slow disks
        return FileSystemBytecodeCache(directory, "%s.bytecode", **options)

    return make, QuickFiles(directory)


def sqlite_file(directory: Path) -> tuple[MakeCache, RawSQLite]:
    """A cache in an SQLite file, and its inside."""
    path = directory / "cache.sqlite3"

    def make(**options) -> StoreBytecodeCache:
        return SQLiteBytecodeCache(path, **{"key": SECRET, "deadline": 10, **options})

    return make, RawSQLite(path)


def environment(cache, sources=SOURCES, **options) -> jinja2.Environment:
    loader = jinja2.DictLoader(dict(sources))
    return jinja2.Environment(loader=loader, bytecode_cache=cache, autoescape=True, **options)


def close(cache: StoreBytecodeCache) -> None:
    cache.storage.opener.store().close()


class Target:
    """A store in which one page's entry is attacked.

    Args:
        make: Makes a cache over the store, as a new process would.
        raw: The store's inside.
        name: The template whose entry it is.
    """

    def __init__(self, make: MakeCache, raw: Raw, name: str = "page.html") -> None:
        self.make = make
        self.raw = raw
        self.name = name
        found: list[str] = []

        def new_key() -> str:
            [key] = set(raw.keys()) - set(found)
            found.append(key)
            return key

        self.visit("other.html")
        others = [raw.get(new_key())]
        for options, settings, sources in (
            ({}, {"trim_blocks": True}, SOURCES),  # another environment's
            ({}, {}, {name: "It is not this any more"}),  # of an older source
            ({"key": "another site's"}, {}, SOURCES),
            ({"salt": "other"}, {}, SOURCES),
        ):
            cache = make(**options)
            environment(cache, sources, **settings).get_template(name)
            close(cache)
            others.append(raw.get(new_key()))
        self._store_by_hand()
        others.append(raw.get(new_key()))
        self.visit(name)
        self.key = new_key()
        self.stolen = Stolen(self.key.rpartition(":")[2], raw.get(self.key), tuple(others), SECRET)

    def _store_by_hand(self) -> None:
        cache = self.make()
        made = environment(cache)
        bucket = cache.empty_bucket(made, self.name, None, SOURCES[self.name])
        bucket.code = made.compile("by hand", self.name)
        cache.set_bucket(bucket)
        close(cache)

    def visit(self, name: str) -> tuple[str, CacheStatistics]:
        """What a new process renders, and what it counts."""
        cache = self.make()
        page = environment(cache).get_template(name).render(name="<b>")
        counts = cache.statistics
        close(cache)
        return page, counts

    def attack(self, value: bytes, reason: str) -> str:
        """Put a value in the entry's place; return what went wrong, "" if nothing."""
        self.raw.plant(self.key, value)
        began = time.perf_counter()
        try:
            with watched() as seen:
                page, counts = self.visit(self.name)
            healed, after = self.visit(self.name)
        except Exception as error:
            return f"crash: {error!r}"
        if time.perf_counter() - began > LONGEST:
            return "hang"
        compiled = seen.pop("compile", 0)
        if seen != {"exec": compiled}:
            return f"code run: {dict(seen)}, {compiled} compiled"
        if page != PAGES[self.name] or healed != PAGES[self.name]:
            return f"wrong page: {page!r}, then {healed!r}"
        outcome = (counts.hits, counts.misses, counts.stores, counts.errors, counts.rejected)
        if outcome != (0, 1, 1, 0, 1) or counts.miss_reasons != {reason: 1}:
            return f"not counted as {reason}: {counts}"
        if (after.hits, after.misses) != (1, 0):
            return f"not healed: {after}"
        return ""


PACK_NAMES = tuple(f"page{number}.html" for number in range(4))
PACK_SOURCES = {name: f"<p>{name}: {{{{ name }}}}</p>" for name in PACK_NAMES}
PACK_PAGES = {name: f"<p>{name}: &lt;b&gt;</p>" for name in PACK_NAMES}
CHANGED = PACK_SOURCES | {PACK_NAMES[-1]: "changed {{ name }}"}
CHANGED_PAGES = PACK_PAGES | {PACK_NAMES[-1]: "changed &lt;b&gt;"}


class PackTarget:
    """A store in which a site's packs are attacked.

    Attributes:
        keys: The stored keys of its packs, in their order.
        good: All that the store holds, by the stored keys.
        held: The names of the templates in each pack.
    """

    def __init__(self, make: MakeCache, raw: Raw) -> None:
        self.make = make
        self.raw = raw
        self.publish()
        for key in filter(is_note, contents(raw)):
            raw.plant(key, b"")
        self.keys = pack_keys(raw)
        self.good = contents(raw)
        self.held = [self._lost_with(key) for key in self.keys]
        assert len(self.keys) == len(PACK_NAMES)
        assert self.held[0] == list(PACK_NAMES)
        assert all(len(names) == 1 for names in self.held[1:])

    def publish(self, sources=PACK_SOURCES, **options) -> None:
        """Compile, store and publish all templates, as ``warm_bytecode`` does."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("django_jinja_bccache.publishing.PACK_SIZE", 2_000)
            cache = self.make(**options)
            engine = cached_engine(
                jinja2.DictLoader(dict(sources)), bytecode_cache=cache, autoescape=True
            )
            assert warm(engine).ok
            close(cache)

    def stolen(self, number: int) -> Stolen:
        """What somebody has at hand who attacks one of the packs."""
        key = self.keys[number]
        others = [next(self.good[other] for other in self.keys if other != key)]
        others.append(next(self.good[entry] for entry in self.entry_keys()))
        return Stolen(key.rpartition(":")[2], self.good[key], tuple(others), SECRET)

    def entry_keys(self) -> list[str]:
        return [key for key in self.good if not (key in self.keys or is_note(key))]

    def _lost_with(self, key: str) -> list[str]:
        self.raw.plant(key, b"")
        _, _, events = self.visit()
        self.raw.plant(key, self.good[key])
        return [event.template for event in events if event.origin == "store"]

    def visit(
        self, sources=PACK_SOURCES, **options
    ) -> tuple[dict[str, str], CacheStatistics, list[Event]]:
        """All pages as a new process renders them, what it counts, and each outcome."""
        cache = self.make(**options)
        events: list[Event] = []
        cache.listeners.append(events.append)
        made = environment(cache, sources)
        pages = {name: made.get_template(name).render(name="<b>") for name in PACK_NAMES}
        counts = cache.statistics
        close(cache)
        return pages, counts, events

    def restore(self, keys: Sequence[str] | None = None) -> None:
        for key in self.good if keys is None else keys:
            self.raw.plant(key, self.good[key])

    def attack(self, number: int, value: bytes, reason: str, *, alone: bool = False) -> str:
        """Put a value in a pack's place; return what went wrong, "" if nothing.

        Args:
            number: The pack's number.
            value: The value.
            reason: Why it has to be refused.
            alone: Whether there are packs only, and no entries beside them.
        """
        if alone:
            for key in self.entry_keys():
                self.raw.remove(key)
        self.raw.plant(self.keys[number], value)
        began = time.perf_counter()
        try:
            with watched() as seen:
                pages, counts, events = self.visit()
        except Exception as error:
            return f"crash: {error!r}"
        finally:
            self.restore(None if alone else self.keys[number : number + 1])
        if time.perf_counter() - began > LONGEST:
            return "hang"
        lost = self.held[number]
        compiled = len(lost) if alone else 0
        unmarshalled = (0 if number == 0 else len(self.keys) - 1) + len(lost) - compiled
        expected = {"exec": len(PACK_NAMES), "compile": compiled, "marshal.loads": unmarshalled}
        if seen != {event: count for event, count in expected.items() if count}:
            return f"code run: {dict(seen)}, not {expected}"
        if pages != PACK_PAGES:
            return f"wrong page: {pages}"
        reasons = [event.reason for event in events if event.kind == "rejected"]
        outcome = (counts.hits, counts.misses, counts.stores, counts.errors, counts.rejected)
        hits = len(PACK_NAMES) - compiled
        if outcome != (hits, compiled, compiled, 0, 1) or reasons != [reason]:
            return f"not counted as {reason}: {counts}, {reasons}"
        return ""

    def heals(self, number: int, value: bytes) -> str:
        """Put a value in a pack's place and publish again; return what went wrong."""
        self.raw.plant(self.keys[number], value)
        self.publish()
        pages, counts, events = self.visit()
        self.restore()
        if pages != PACK_PAGES or (counts.hits, counts.rejected) != (len(PACK_NAMES), 0):
            return f"not healed: {counts}"
        return "" if {event.origin for event in events} == {"pack"} else f"not healed: {events}"


def contents(raw: Raw) -> dict[str, bytes]:
    """All that a store holds."""
    keys = raw.keys()
    return {key: raw.get(key) for key in keys}


def is_note(key: str) -> bool:
    """Whether a stored key is that of a note, which is neither an entry nor a pack."""
    return key.rpartition(":")[2].startswith("newest.")


def pack_keys(raw: Raw) -> list[str]:
    """The stored keys of all packs, by their numbers."""
    keys = [key for key in list(raw.keys()) if ":pack." in key and "index" not in key]
    return sorted(keys, key=lambda key: int(key.rpartition(".")[2]))
