"""Whatever lies under a key: the page is right, nothing of it runs, and it is replaced."""

import marshal
import pickle
import zlib
from pathlib import Path

import jinja2
import pytest
from jinja2.bccache import Bucket, bc_magic
from pymemcache.client.base import Client
from pymemcache.serde import PickleSerde

from django_jinja_bccache import DjangoBytecodeCache, MemcachedBytecodeCache
from django_jinja_bccache.compression import RAW, ZLIB
from django_jinja_bccache.entry import SigningKey, seal
from tests.raw import raw_store

SECRET = "correct horse battery staple"
SOURCES = {"page.html": "<p>{{ name }}</p>", "other.html": "{{ name }} is not to be seen"}
PAGE = "<p>&lt;&amp;&gt;</p>"
# Those of client libraries (pickle, integers, zlib, text), all of them at once, unknown ones.
FLAGS = (0, 1, 2, 4, 8, 16, 31, 32, 0xFFFF, 0xFFFFFFFF)


def environment(cache=None) -> jinja2.Environment:
    loader = jinja2.DictLoader(SOURCES)
    return jinja2.Environment(loader=loader, bytecode_cache=cache, autoescape=True)


def page_and_statistics(cache):
    """What a new process renders, and what it counted."""
    page = environment(cache).get_template("page.html").render(name="<&>")
    return page, cache.statistics


class Runs:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


class Attack:
    """A store with a good entry for the page in it, and a file that must never appear."""

    def __init__(self, raw, marker: Path) -> None:
        self.raw = raw
        self.marker = marker
        environment(self.cache()).get_template("other.html")
        [self.other_key] = raw.keys()
        page_and_statistics(self.cache())
        [self.key] = set(raw.keys()) - {self.other_key}
        self.entry_key = self.key.rpartition(":")[2]
        self.good = raw.get(self.key)
        self.pickles = [
            pickle.dumps(Runs(marker), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ]
        source = f"open({str(marker)!r}, 'w').close()\nname = root = blocks = debug_info = 1"
        self.code = compile(source, "page.html", "exec")

    def cache(self):
        return DjangoBytecodeCache(key=SECRET)

    def sealed(self, payload: bytes, secret: str = SECRET, **options) -> bytes:
        return seal(self.entry_key, payload, SigningKey(secret), **options)

    def is_repelled(self, value: bytes, flags: int = 0) -> str:
        """Plant a value; return why it was refused."""
        self.raw.plant(self.key, value, flags)
        page, statistics = page_and_statistics(self.cache())
        assert page == PAGE
        assert not self.marker.exists()
        assert (statistics.hits, statistics.misses, statistics.stores) == (0, 1, 1)
        assert statistics.errors == 0
        page, after = page_and_statistics(self.cache())
        assert (page, after.hits, after.misses) == (PAGE, 1, 0)
        [reason] = statistics.miss_reasons
        assert statistics.rejected == (reason != "absent")
        return reason


@pytest.fixture
def attack(backend, request, tmp_path) -> Attack:
    return Attack(raw_store(backend, request), tmp_path / "marker")


class TestForeignValues:
    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\0",
            b"a str",
            b"None",
            bc_magic,
            bc_magic + b"\xff" * 30,
            bc_magic + pickle.dumps("checksum") + marshal.dumps(42),
            marshal.dumps(42),
            pickle.dumps(None),
            zlib.compress(b"compressed" * 100),
            b"jbcc" + b"\x01" + bytes(100),
            bytes(100_000),
        ],
        ids=repr,
    )
    def test_one_that_breaks_jinja2s_bucket_is_refused(self, attack, value):
        reason = attack.is_repelled(value)
        assert reason in {"corrupt", "signature"}

    @pytest.mark.parametrize("flags", FLAGS)
    def test_a_pickle_of_any_protocol_under_any_flags_is_never_unpickled(self, attack, flags):
        for planted in attack.pickles:
            for value in (planted, zlib.compress(planted)):
                assert attack.is_repelled(value, flags) == "corrupt"

    @pytest.mark.parametrize("flags", FLAGS)
    def test_a_good_value_under_any_flags_is_a_hit_or_is_replaced(self, attack, flags):
        attack.raw.plant(attack.key, attack.good, flags)
        for _ in range(2):
            page, statistics = page_and_statistics(attack.cache())
            assert page == PAGE
        assert (statistics.hits, statistics.errors) == (1, 0)

    def test_planted_code_is_not_run(self, attack):
        assert attack.is_repelled(marshal.dumps(attack.code)) == "corrupt"

    def test_what_jinja2s_own_caches_store_is_not_run(self, attack):
        bucket = Bucket(environment(), "key", "checksum")
        bucket.code = attack.code
        string = bucket.bytecode_to_string()
        assert attack.is_repelled(string) == "corrupt"
        for planted in attack.pickles:
            assert attack.is_repelled(bc_magic + planted + marshal.dumps(attack.code)) == "corrupt"


class TestDamagedValues:
    def test_one_cut_short_or_prolonged_is_refused(self, attack):
        for length in range(0, len(attack.good), 50):
            assert attack.is_repelled(attack.good[:length]) in {"corrupt", "signature"}
        assert attack.is_repelled(attack.good + b"\0") == "signature"

    def test_one_with_a_wrong_bit_is_refused(self, attack):
        for position in range(0, len(attack.good), 11):
            damaged = bytearray(attack.good)
            damaged[position] ^= 1 << position % 8
            assert attack.is_repelled(bytes(damaged)) in {"corrupt", "version", "signature"}

    def test_one_of_another_format_version_is_refused(self, attack):
        for version in (0, 2, 255):
            value = attack.good[:4] + bytes([version]) + attack.good[5:]
            assert attack.is_repelled(value) == "version"


class TestSealedValues:
    def test_another_templates_entry_is_refused(self, attack):
        assert attack.is_repelled(attack.raw.get(attack.other_key)) == "signature"

    @pytest.mark.parametrize("compress", [False, True])
    def test_one_sealed_with_another_key_is_refused(self, attack, compress):
        payload = marshal.dumps(attack.code)
        value = attack.sealed(payload, "another secret", method=ZLIB if compress else RAW)
        assert attack.is_repelled(value) == "signature"

    def test_one_that_holds_no_template_is_refused(self, attack):
        nothing = compile("name = root = blocks = 1", "page.html", "exec")
        for payload in (b"", b"\xff" * 30, marshal.dumps(42), marshal.dumps(nothing)):
            assert attack.is_repelled(attack.sealed(payload)) == "corrupt"

    def test_a_sealed_pickle_is_not_unpickled(self, attack):
        for planted in attack.pickles:
            assert attack.is_repelled(attack.sealed(planted)) == "corrupt"

    def test_only_the_signing_key_stands_between_the_attacks_and_their_success(self, attack):
        attack.raw.plant(attack.key, attack.sealed(marshal.dumps(attack.code)))
        environment(attack.cache()).get_template("page.html")
        assert attack.marker.exists()
        for planted in attack.pickles:
            attack.marker.unlink()
            pickle.loads(planted).close()
            assert attack.marker.exists()


class TestFiles:
    @pytest.mark.parametrize("backend", ["files"], indirect=True)
    def test_a_whole_file_of_anothers_is_replaced(self, attack):
        path = attack.raw.paths()[attack.key]
        ours = path.read_bytes()
        strange = [b"", b"x", bc_magic, *attack.pickles, ours[:20], ours[:100], b"x" + ours]
        for content in strange:
            path.write_bytes(content)
            page, statistics = page_and_statistics(attack.cache())
            assert page == PAGE
            assert (statistics.misses, statistics.stores, statistics.errors) == (1, 1, 0)
            assert not attack.marker.exists()
            assert page_and_statistics(attack.cache())[1].hits == 1


class TestClientOfTheUsersOwn:
    @pytest.mark.parametrize("value", ["a str", 42, 3.5, ["a list"], {"a": "dict"}, ""])
    def test_what_it_returns_may_be_anything(self, memcached, value):
        client = Client(memcached.address, serde=PickleSerde())

        def cache():
            return MemcachedBytecodeCache(client, key=SECRET)

        page_and_statistics(cache())
        [key] = memcached.keys()
        client.set(key, value)
        page, statistics = page_and_statistics(cache())
        assert page == PAGE
        assert statistics.miss_reasons == {"absent": 1}
        assert page_and_statistics(cache())[1].hits == 1
        client.close()
