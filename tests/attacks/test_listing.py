"""Keys that somebody has planted: whatever lists them goes on, and finds and removes our own."""

import struct
from pathlib import Path

import jinja2
import pytest

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.clearing import clear, clear_stale
from django_jinja_bccache.stores.filesystem import FileSystemStore
from django_jinja_bccache.warming import check, warm
from tests.attacks.targets import SECRET, SOURCES, close, contents, files, is_note, sqlite_file
from tests.raw import raw_store
from tests.sites import cached_engine

FINGERPRINT = "0123456789abcdef" * 2


def strange_ends(entry_key: str, pack_key: str) -> list[bytes]:
    """What may come after the key id in a stored key."""
    scope = pack_key.rpartition(".")[0]
    texts = [
        *("x", "pack.", "pack.x", "pack..", "pack.0", "pack.x.0", "pack.x.-1", "pack.\u0660.0"),
        *(f"{scope}.{end}" for end in ("", "x", "-1", "00", "1e9", "9" * 60, "7.7")),
        *(f"x:{entry_key}", f"x:{pack_key}", f"{entry_key}:", f"{entry_key}-by-hand"),
        *(entry_key[:-1], f"{entry_key}0", entry_key.upper(), FINGERPRINT, "g" * 72),
        *("%s", "%00", "%25", "*", "[a-z]", "..", "../../x", "\u00fc", "\U0001f600"),
    ]
    return [text.encode() for text in texts]


def engine_over(make, sources=SOURCES):
    loader = jinja2.DictLoader(dict(sources))
    return cached_engine(loader, bytecode_cache=make(), autoescape=True)


def server_place(server, request):
    """A cache on a server, its inside, and what plants a value under any key."""
    raw = raw_store(server, request)
    host = request.getfixturevalue(server.name)
    return lambda: DjangoBytecodeCache(key=SECRET, deadline=10), raw, host.set_raw


def file_place(directory):
    make, raw = files(directory)
    store = FileSystemStore(directory, "%s.bytecode")

    def plant(key: bytes, value: bytes) -> None:
        path = store._path(key.decode("utf-8", "surrogateescape"))
        head = struct.pack(">4sQH", b"jbcf", 0, len(key))
        Path(path).write_bytes(head + key + value)

    return make, raw, plant


def sqlite_place(directory):
    make, raw = sqlite_file(directory)

    def plant(key: bytes, value: bytes) -> None:
        raw.ask("REPLACE INTO entry (key, value) VALUES (?, ?)", key, value)

    return make, raw, plant


def try_all(make, raw, plant, ends=None) -> None:
    """Plant, then list, check, warm and clear."""
    assert warm(engine_over(make)).ok
    own = {key for key in contents(raw) if not is_note(key)}
    [pack] = [key for key in own if ":pack." in key and "index" not in key]
    entry = next(iter(own - {pack}))
    head = entry.rpartition(":")[0].encode() + b":"
    if ends is None:
        ends = strange_ends(entry.rpartition(":")[2], pack.rpartition(":")[2])
    good = raw.get(entry), raw.get(pack)
    for number, end in enumerate(ends):
        plant(head + end, (*good, b"noise")[number % 3])

    cache = make()
    assert {entry.template for entry in cache.entries()} == set(SOURCES)
    close(cache)
    assert check(engine_over(make)).ok
    report = warm(engine_over(make))
    assert (report.ok, report.compiled, report.packs) == (True, [], 0)
    clear_stale(engine_over(make), dry_run=True)
    stale = clear_stale(engine_over(make))
    assert stale.entries + stale.packs <= len(ends)
    assert check(engine_over(make)).ok
    cleared = clear(engine_over(make))
    assert cleared.entries >= len(SOURCES)
    assert cleared.packs >= 1
    cache = make()
    assert list(cache.entries()) == []
    cache.clear()
    close(cache)


class TestPlantedKeys:
    def test_on_a_server_they_stop_nobody(self, server, request):
        try_all(*server_place(server, request))

    def test_in_a_directory_they_stop_nobody(self, tmp_path):
        try_all(*file_place(tmp_path))

    def test_in_an_sqlite_file_they_stop_nobody(self, tmp_path):
        try_all(*sqlite_place(tmp_path))


@pytest.mark.parametrize(
    "name", ["", ".", "x" * 255, "0" * 40 + ".bytecode", ".new-abcdefgh.bytecode", "ü", "\udcff"]
)
def test_a_file_of_any_name_in_the_directory_stops_no_listing_and_stays(tmp_path, name):
    make, raw = files(tmp_path / "cache")
    assert warm(engine_over(make)).ok
    if name.strip("."):
        path = raw.directory / name
        path.write_bytes(b"somebody's own")
    cache = make()
    assert {entry.template for entry in cache.entries()} == set(SOURCES)
    cache.clear()
    assert list(cache.entries()) == []
    if name.strip("."):
        assert path.read_bytes() == b"somebody's own"
