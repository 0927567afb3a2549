"""The entries of one cache, many at a time."""

import marshal
import random
import time

import pytest
from django.core.cache import caches
from django.test import override_settings
from jinja2 import DictLoader

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.archive import Archive, batches
from django_jinja_bccache.bytecode import Label, code_from, payload_of
from django_jinja_bccache.compiling import Reference, compile_template
from django_jinja_bccache.exceptions import NotSupported, StoreError, ValueTooLarge
from testproject.caches import caches_from
from tests.raw import raw_store
from tests.sites import cached_engine

PAYLOAD = b"payload"
LABEL = Label("x.html", "checksum", (Reference(("y.html",), 3, optional=True),))


def compiled(*names: str) -> dict[str, tuple[bytes, Label]]:
    """Real code under made-up entry keys."""
    environment = cached_engine(DictLoader({})).environment
    code = compile_template(environment, "Hello", "x.html", None).code
    return {name: (payload_of(code, "x.html"), LABEL) for name in names}


def opened(**options) -> Archive:
    return Archive(DjangoBytecodeCache(**options).storage)


@pytest.fixture
def raw(backend, request):
    return raw_store(backend, request)


class TestStoring:
    def test_what_was_stored_is_read_with_its_label(self, backend):
        before = int(time.time())
        with opened() as archive:
            assert archive.store(compiled("a", "b")) == {}
            held = archive.read(["a", "b", "c"])
        assert held.keys() == {"a", "b"}
        assert held["a"].label == LABEL
        assert held["a"].is_current
        assert before <= held["a"].unsealed.created <= time.time()
        assert code_from(held["a"].unsealed.payload).co_filename == "x.html"

    def test_more_entries_than_one_round_trip_takes(self, backend):
        names = [str(number) for number in range(501)]
        with opened() as archive:
            archive.store(compiled(*names))
            assert archive.read(names).keys() == {*names}
            assert archive.present(archive.stored_keys(names)).keys() == {
                item.key for item in archive.items()
            }
            assert archive.delete(archive.stored_keys(names)) == 501
            assert archive.read(names) == {}

    def test_batches_lose_nothing(self):
        names = [str(number) for number in range(401)]
        parts = list(batches(names))
        assert [name for part in parts for name in part] == names
        assert max(map(len, parts)) == 200

    def test_what_the_store_refuses_is_returned_with_the_reason(self, memcached):
        big = {"big": (bytes(range(256)) * 8192, LABEL)}
        with memcached_cache(memcached.address), opened() as archive:
            noise = {"noise": (noise_of(3_000_000), LABEL)}
            refused = archive.store(compiled("a") | big | noise)
            assert archive.present(archive.stored_keys(["big"]))  # zlib makes it small
            assert archive.read(["a"])
        assert refused.keys() == {"noise"}
        assert isinstance(refused["noise"], ValueTooLarge)
        assert refused["noise"].limit == 1048576

    def test_a_store_that_is_gone_is_an_error(self, memcached_server):
        server = memcached_server()
        with memcached_cache(server.address), opened() as archive:
            for operation in (
                lambda: archive.read(["a"]),
                lambda: archive.store(compiled("a")),
                lambda: archive.delete(archive.stored_keys(["a"])),
                lambda: list(archive.items()),
                lambda: archive.present(archive.stored_keys(["a"])),
            ):
                with pytest.raises(StoreError, match="refused"):
                    operation()


class TestReading:
    @pytest.mark.parametrize(
        "spoil",
        [lambda value: b"", lambda value: value[:-1], lambda value: b"x" + value],
        ids=["empty", "cut", "shifted"],
    )
    def test_what_is_not_authentic_is_not_read_but_is_present(self, backend, raw, spoil):
        with opened() as archive:
            archive.store(compiled("a"))
            (key,) = raw.keys()
            raw.plant(key, spoil(raw.get(key)))
            assert archive.read(["a"]) == {}
            assert archive.present(archive.stored_keys(["a"])).keys() == {
                *archive.stored_keys(["a"])
            }

    def test_a_value_moved_to_another_key_is_not_read(self, backend, raw):
        with opened() as archive:
            archive.store(compiled("a", "b"))
            first, second = raw.keys()
            raw.plant(first, raw.get(second))
            assert len(archive.read(["a", "b"])) == 1

    def test_an_authentic_value_that_is_no_template_is_not_read(self, backend):
        with opened() as archive:
            archive.store({"a": (b"", LABEL), "b": (PAYLOAD, LABEL)})
            assert archive.read(["a", "b"]) == {}

    def test_the_key_that_signs_wins_over_those_on_their_way_out(self, backend):
        with opened(key="old") as archive:
            archive.store(compiled("a", "b"))
        with opened(key=["new", "old"]) as archive:
            archive.store({"a": (compiled("a")["a"][0], Label("new.html", "checksum"))})
            held = archive.read(["a", "b"])
            assert (held["a"].label.template, held["a"].is_current) == ("new.html", True)
            assert (held["b"].label.template, held["b"].is_current) == ("x.html", False)
            assert len(list(archive.items())) == 3
        with opened(key="new") as archive:
            assert archive.read(["a", "b"]).keys() == {"a"}


class TestListing:
    def test_items_are_this_caches_alone(self, backend):
        caches["default"].set("jinja2/bytecode/", "not ours")
        for options in ({"key": "other"}, {"prefix": "other/"}):
            with opened(**options) as archive:
                archive.store(compiled("theirs"))
        with opened() as archive:
            archive.store(compiled("a", "b"))
            items = list(archive.items())
            assert {archive.entry_key(item.key) for item in items} == {"a", "b"}
            assert {item.key for item in items} == {*archive.stored_keys(["a", "b"])}
            assert all(item.size > len(compiled("a")["a"][0]) for item in items)

    def test_entries_tell_what_they_are(self, backend):
        one = cached_engine(DictLoader({"x.html": "x"}))
        began = time.time()
        one.environment.get_template("x.html")
        with Archive(one.cache.storage) as archive:
            archive.store({"damaged": (PAYLOAD, LABEL)})
            (entry,) = archive.entries()
        assert entry.template == "x.html"
        assert entry.checksum == one.cache.get_source_checksum("x")
        assert "root" in marshal.loads(entry.bytecode).co_names
        assert int(began) <= entry.created_at.timestamp() <= time.time()
        assert entry.created_at.tzinfo is not None

    def test_what_is_deleted_is_counted_once(self, backend):
        with opened() as archive:
            archive.store(compiled("a", "b"))
            assert archive.delete(archive.stored_keys(["a", "nothing"])) == 1
            assert archive.delete(archive.stored_keys(["a", "b"])) == 1
            assert list(archive.items()) == []

    def test_a_store_that_cannot_list_says_so(self):
        locmem = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
        with override_settings(CACHES=locmem), opened() as archive:
            with pytest.raises(NotSupported):
                list(archive.items())
            archive.store(compiled("a"))
            assert archive.present(archive.stored_keys(["a", "b"])).keys() == {
                *archive.stored_keys(["a"])
            }


def memcached_cache(address: str) -> override_settings:
    return override_settings(CACHES=caches_from(f"memcached://{address}", ""))


def noise_of(size: int) -> bytes:
    return random.Random(0).randbytes(size)
