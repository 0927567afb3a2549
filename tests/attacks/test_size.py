"""Values that claim to be, or are, larger than anything: little memory, little time."""

import json
import struct
import tracemalloc
import zlib
from textwrap import dedent

import pytest
from backports import zstd
from pymemcache import Client
from redis import Redis

from django_jinja_bccache import MemcachedBytecodeCache, RedisBytecodeCache
from django_jinja_bccache.compression import ZLIB, ZSTD
from django_jinja_bccache.entry import SigningKey, unseal
from django_jinja_bccache.exceptions import EntryRejected
from tests.attacks.mutations import HEADER, Stolen, parts_of
from tests.attacks.targets import (
    PACK_NAMES,
    PACK_SOURCES,
    PAGES,
    SECRET,
    SOURCES,
    PackTarget,
    Target,
    files,
    pack_keys,
    sqlite_file,
)
from tests.raw import RawMemcached, RawRedis
from tests.scripts import run_script

MIB = 1 << 20
HUGE = 64 * MIB
BOMB = 256 * MIB
ABSURD = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

# A process that visits the page, and tells what that took.
VISIT = """
    import json, sys, time, zlib
    from pathlib import Path
    from backports import zstd

    opened = []
    for module, name in ((zlib, "decompressobj"), (zstd, "ZstdDecompressor")):
        def counted(*arguments, original=getattr(module, name), name=name, **options):
            opened.append(name)
            return original(*arguments, **options)
        setattr(module, name, counted)

    from pymemcache import Client
    from redis import Redis
    from django_jinja_bccache import (
        FileSystemBytecodeCache, MemcachedBytecodeCache, RedisBytecodeCache, SQLiteBytecodeCache,
    )
    from tests.attacks.targets import environment

    def memory(name):
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines()
                  if line.startswith(name + ":")]
        return int(line.split()[1]) * 1024

    def new_cache(**options):
        options = {"key": secret, "deadline": deadline, **options}
        if kind == "files":
            return FileSystemBytecodeCache(place, "%s.bytecode", **options)
        if kind == "sqlite":
            return SQLiteBytecodeCache(place, **options)
        if kind == "memcached":
            return MemcachedBytecodeCache(Client(place, default_noreply=False), **options)
        return RedisBytecodeCache(Redis.from_url(place), **options)

    def visit():
        cache = new_cache()
        text = environment(cache, sources).get_template(name).render(name="<b>")
        counts = cache.statistics
        cache.storage.opener.store().close()
        return text, counts

    kind, place, secret, deadline, name, sources = json.loads(sys.argv[1])
    environment(None, sources).get_template(name)  # so that all modules are loaded
    bytes(16 << 20)  # what the package allocates once, for zstd
    Path("/proc/self/clear_refs").write_text("5")
    before, began = memory("VmRSS"), time.perf_counter()
    text, counts = visit()
    taken = {"seconds": time.perf_counter() - began, "bytes": memory("VmHWM") - before}
    hits = visit()[1].hits
    print(json.dumps({
        "page": text, "opened": opened, "reasons": counts.miss_reasons, "errors": counts.errors,
        "rejected": counts.rejected, "hits afterwards": hits, **taken,
    }))
"""


def visited(kind: str, place: object, target, *, deadline: float = 30, secret: str = SECRET):
    """What a new process does to render the page."""
    is_packs = isinstance(target, PackTarget)
    name, sources = (PACK_NAMES[-1], PACK_SOURCES) if is_packs else (target.name, SOURCES)
    arguments = json.dumps([kind, str(place), secret, deadline, name, sources])
    return run_script(dedent(VISIT), arguments).result


@pytest.fixture
def target(tmp_path) -> Target:
    return Target(*files(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bombs() -> dict[int, bytes]:
    """256 MiB of zeros as each method compresses them."""
    block = bytes(MIB)
    deflate, frame = zlib.compressobj(9), zstd.ZstdCompressor()
    deflated = b"".join(deflate.compress(block) for _ in range(BOMB // MIB)) + deflate.flush()
    framed = b"".join(frame.compress(block) for _ in range(BOMB // MIB)) + frame.flush()
    assert len(deflated) < MIB
    assert len(framed) < MIB
    return {ZLIB: deflated, ZSTD: framed}


def sealed_by_hand(stolen: Stolen, body: bytes, method: int, size: int) -> bytes:
    """A value with the site's own MAC over whatever it says."""
    _, label, _ = parts_of(stolen.good)
    header = HEADER.pack(b"jbcc", 1, method, len(label), 1_763_600_000, size)
    return stolen.signed(header, label, body)


def of_an_attacker(stolen: Stolen) -> Stolen:
    return Stolen(stolen.entry_key, stolen.good, (), "a secret of somebody else's")


@pytest.mark.parametrize("method", [ZLIB, ZSTD], ids=["zlib", "zstd"])
class TestBombs:
    @pytest.mark.parametrize("size", [1_000, 0xFFFFFFFF])
    def test_one_of_somebody_without_the_key_is_refused_before_it_is_inflated(
        self, target, bombs, method, size
    ):
        stolen = of_an_attacker(target.stolen)
        target.raw.plant(target.key, sealed_by_hand(stolen, bombs[method], method, size))
        seen = visited("files", target.raw.directory, target)
        assert seen["page"] == PAGES["page.html"]
        assert seen["opened"] == []
        assert (seen["reasons"], seen["errors"]) == ({"signature": 1}, 0)
        assert seen["hits afterwards"] == 1
        assert seen["bytes"] < 8 * MIB

    @pytest.mark.parametrize("size", [0, 1_000])
    def test_one_with_the_right_key_is_inflated_no_further_than_it_says(
        self, target, bombs, method, size
    ):
        value = sealed_by_hand(target.stolen, bombs[method], method, size)
        target.raw.plant(target.key, value)
        seen = visited("files", target.raw.directory, target)
        assert seen["page"] == PAGES["page.html"]
        assert len(seen["opened"]) == 1
        assert (seen["reasons"], seen["errors"]) == ({"corrupt": 1}, 0)
        assert seen["bytes"] < 16 * MIB

    def test_an_absurd_size_with_the_right_key_takes_no_memory(self, target, method):
        compress = {ZLIB: zlib.compress, ZSTD: zstd.compress}[method]
        value = sealed_by_hand(target.stolen, compress(b"little"), method, 0xFFFFFFFF)
        target.raw.plant(target.key, value)
        seen = visited("files", target.raw.directory, target)
        assert (seen["page"], seen["reasons"]) == (PAGES["page.html"], {"corrupt": 1})
        assert seen["bytes"] < 16 * MIB

    @pytest.mark.parametrize("has_key", [False, True], ids=["another key", "the right key"])
    def test_one_in_a_packs_place_costs_no_more(self, tmp_path, bombs, method, has_key):
        make, raw = files(tmp_path / "cache")
        site = PackTarget(make, raw)
        for number in range(3):
            stolen = site.stolen(number)
            stolen = stolen if has_key else of_an_attacker(stolen)
            raw.plant(site.keys[number], sealed_by_hand(stolen, bombs[method], method, 1_000))
        seen = visited("files", raw.directory, site)
        assert seen["page"] == "<p>page3.html: &lt;b&gt;</p>"
        assert len(seen["opened"]) == has_key * 2  # each of the two visits opens pack 0
        assert (seen["rejected"], seen["errors"], seen["hits afterwards"]) == (1, 0, 1)
        assert seen["bytes"] < 16 * MIB


# A frame of zstd that asks for memory: its window, or its content, as large as can be said.
FRAMES = {
    "window of 128 MiB": b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(27 - 10) << 3]),
    "window of 2 TiB": b"\x28\xb5\x2f\xfd" + b"\x00" + b"\xff",
    "content of 2^64": b"\x28\xb5\x2f\xfd" + b"\xe0" + b"\xff" * 8,
    "content of 2^40 in 1 KiB": b"\x28\xb5\x2f\xfd" + b"\xc0\x00" + struct.pack("<Q", 1 << 40),
}


@pytest.mark.parametrize("frame", list(FRAMES.values()), ids=list(FRAMES))
def test_a_frame_that_asks_for_memory_gets_none(target, frame):
    last_block = b"\x01\x00\x00"
    value = sealed_by_hand(target.stolen, frame + last_block, ZSTD, 0xFFFFFFFF)
    target.raw.plant(target.key, value)
    seen = visited("files", target.raw.directory, target)
    assert (seen["page"], seen["reasons"]) == (PAGES["page.html"], {"corrupt": 1})
    assert seen["opened"] == ["ZstdDecompressor"]
    assert seen["bytes"] < 16 * MIB


class TestLengths:
    @pytest.mark.parametrize("field", [2, 3, 4, 5], ids=["flags", "label", "created", "size"])
    def test_no_number_in_the_header_makes_anybody_reserve_memory(self, target, field):
        stolen = target.stolen
        values = [number for number in ABSURD if field > 2 or number < 256] + [255]
        values += [2**64 - 1] * (field == 4)
        for number in values:
            fields = list(HEADER.unpack_from(stolen.good))
            if fields[field] == number:
                continue
            fields[field] = number
            value = HEADER.pack(*fields) + stolen.good[HEADER.size :]
            tracemalloc.start()
            with pytest.raises(EntryRejected) as caught:
                unseal(stolen.entry_key, value, SigningKey(SECRET))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert caught.value.reason == "signature"
            assert peak < 100_000
            assert target.attack(value, "signature") == ""

    @pytest.mark.parametrize("label_size", ABSURD)
    def test_a_label_that_ends_beyond_the_value_is_refused_although_signed(
        self, target, label_size
    ):
        _, label, body = parts_of(target.stolen.good)
        header = HEADER.pack(b"jbcc", 1, 0, label_size, 1, len(body))
        assert target.attack(target.stolen.signed(header, label, body), "signature") == ""

    def test_a_key_length_in_a_file_that_ends_beyond_it_is_a_miss(self, target):
        path, _ = target.raw.head(target.key)
        content = path.read_bytes()
        for length in (0, 1, 4_096, 4_097, 0xFFFF):
            path.write_bytes(content[:12] + struct.pack(">H", length) + content[14:])
            page, counts = target.visit(target.name)
            assert page == PAGES[target.name]
            assert (counts.errors, counts.miss_reasons) == (0, {"absent": 1})
            assert target.visit(target.name)[1].hits == 1


def huge_values(good: bytes) -> dict[str, bytes]:
    return {
        "corrupt": bytes(HUGE),
        "signature": good + bytes(HUGE - len(good)),
    }


@pytest.mark.timeout(300)
class TestHugeValues:
    """64 MiB, where a good value has less than two thousand bytes."""

    @pytest.fixture(params=["files", "sqlite", "memcached", "redis"])
    def place(self, request, tmp_path):
        """The store's kind, its address, a cache for it, and its inside."""
        if request.param == "files":
            make, raw = files(tmp_path / "cache")
            yield "files", raw.directory, make, raw
            return
        if request.param == "sqlite":
            (tmp_path / "cache").mkdir()
            make, raw = sqlite_file(tmp_path / "cache")
            yield "sqlite", raw.path, make, raw
            return
        if request.param == "memcached":
            server = request.getfixturevalue("memcached_server")("-I", "128m", "-m", "1024")
            server.start()
            address, raw = server.address, RawMemcached(server)
            client = Client(address, default_noreply=False)
            cls = MemcachedBytecodeCache
        else:
            server = request.getfixturevalue("redis")
            address, raw = server.url, RawRedis(server)
            client = Redis.from_url(address)
            cls = RedisBytecodeCache

        def make(**options):
            return cls(client, **{"key": SECRET, "deadline": 30, **options})

        yield request.param, address, make, raw
        client.close()

    @pytest.mark.parametrize("reason", ["corrupt", "signature"])
    def test_one_is_refused_in_bounded_memory_and_replaced(self, place, reason):
        kind, address, make, raw = place
        target = Target(make, raw)
        raw.plant(target.key, huge_values(target.stolen.good)[reason])
        seen = visited(kind, address, target)
        assert seen["page"] == PAGES["page.html"]
        assert (seen["reasons"], seen["errors"]) == ({reason: 1}, 0)
        assert (seen["opened"], seen["hits afterwards"]) == ([], 1)
        assert len(raw.get(target.key)) < 3_000
        assert seen["bytes"] < 4 * HUGE

    def test_with_the_ordinary_deadline_the_page_does_not_wait(self, place):
        kind, address, make, raw = place
        target = Target(make, raw)
        raw.plant(target.key, huge_values(target.stolen.good)["signature"])
        seen = visited(kind, address, target, deadline=0.5)
        assert seen["page"] == PAGES["page.html"]
        assert set(seen["reasons"]) <= {"signature", "store down"}
        assert seen["bytes"] < 4 * HUGE
        assert seen["seconds"] < 10

    def test_one_in_the_first_packs_place_is_refused_in_bounded_memory(self, place):
        kind, address, make, raw = place
        cache_site = PackTarget(make, raw)
        [first, *_] = pack_keys(raw)
        raw.plant(first, huge_values(cache_site.good[first])["signature"])
        seen = visited(kind, address, cache_site)
        assert seen["page"] == "<p>page3.html: &lt;b&gt;</p>"
        assert (seen["rejected"], seen["errors"], seen["opened"]) == (1, 0, [])
        assert seen["hits afterwards"] == 1
        assert seen["bytes"] < 4 * HUGE
