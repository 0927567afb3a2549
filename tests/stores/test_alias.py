"""KEY_PREFIX, VERSION and KEY_FUNCTION of an alias, whatever store is beneath."""

from pathlib import Path

import jinja2
import pytest
from django.core.cache import CacheKeyWarning, caches
from django.test import override_settings

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.exceptions import NotSupported, StoreError
from django_jinja_bccache.stores.alias import AliasStore
from django_jinja_bccache.stores.filesystem import FileSystemStore
from tests.stores.contract import PREFIX, ListingContract, NoListingContract
from tests.stores.opening import PYMEMCACHE, opened
from tests.stores.test_memcached import ITEM_SIZE_MAX, crowd_on


def key_for_a_tenant(key: str, key_prefix: str, version: int) -> str:
    return f"tenant-7/{key_prefix}/{version}/{key}"


def reversed_key(key: str, key_prefix: str, version: int) -> str:
    return f"{key_prefix}:{version}:{key}"[::-1]


class TestOverMemcachedWithAKeyFunction(ListingContract):
    takes_5_megabytes = False
    named_limit = ITEM_SIZE_MAX
    longest_key = 250 - len("tenant-7/site/3/")

    @pytest.fixture
    def store(self, memcached):
        rules = {
            "KEY_PREFIX": "site",
            "VERSION": 3,
            "KEY_FUNCTION": f"{__name__}.key_for_a_tenant",
        }
        with opened(PYMEMCACHE, LOCATION=memcached.address, **rules) as store:
            yield store

    @pytest.fixture
    def crowd(self, memcached):
        return crowd_on(memcached)

    def test_stored_keys_are_those_of_the_function(self, store, memcached):
        store.set("key", b"1", 100)
        assert memcached.keys() == ["tenant-7/site/3/key"]
        assert caches["default"].make_key("key") == "tenant-7/site/3/key"


class TestOverMemcachedWithAFunctionWhosePrefixCannotBeTold(NoListingContract):
    takes_5_megabytes = False
    named_limit = ITEM_SIZE_MAX
    longest_key = 250 - len(":1:")

    @pytest.fixture
    def store(self, memcached):
        with opened(
            PYMEMCACHE, LOCATION=memcached.address, KEY_FUNCTION=f"{__name__}.reversed_key"
        ) as store:
            yield store


@pytest.mark.filterwarnings(f"ignore::{CacheKeyWarning.__module__}.CacheKeyWarning")
class TestOverFilesWithAKeyFunction(NoListingContract):
    longest_key = 4096 - len(":1:")

    @pytest.fixture
    def store(self, tmp_path: Path):
        with opened(
            "django.core.cache.backends.filebased.FileBasedCache",
            LOCATION=tmp_path / "cache",
            KEY_FUNCTION=f"{__name__}.reversed_key",
        ) as store:
            yield store


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"KEY_PREFIX": "a"}, {"KEY_PREFIX": "b"}),
        ({"VERSION": 1}, {"VERSION": 2}),
        ({"KEY_FUNCTION": f"{__name__}.key_for_a_tenant"}, {}),
    ],
    ids=["KEY_PREFIX", "VERSION", "KEY_FUNCTION"],
)
def test_aliases_of_one_server_with_other_rules_do_not_see_each_other(memcached, one, other):
    with opened(PYMEMCACHE, LOCATION=memcached.address, **one) as store:
        store.set(PREFIX + "key", b"one's", 100)
    with opened(PYMEMCACHE, LOCATION=memcached.address, **other) as store:
        assert store.get(PREFIX + "key") is None
        assert list(store.scan(PREFIX)) == []
        assert store.delete_many([PREFIX + "key"]) == 0
    with opened(PYMEMCACHE, LOCATION=memcached.address, **one) as store:
        assert store.get(PREFIX + "key") == b"one's"


def test_a_key_that_the_rules_refuse_is_an_error_of_the_store(tmp_path):
    def refuse(key: str) -> str:
        raise ValueError("only on Sundays")

    store = AliasStore(FileSystemStore(tmp_path), refuse)
    for operation in (
        lambda: store.get("key"),
        lambda: store.get_many(["key"]),
        lambda: store.set("key", b"1", None),
        lambda: store.set_many({"key": b"1"}, None),
        lambda: store.delete_many(["key"]),
        lambda: list(store.scan("key")),
    ):
        with pytest.raises(StoreError, match="only on Sundays"):
            operation()


def test_the_reason_why_keys_cannot_be_listed_names_the_key_function(tmp_path):
    store = AliasStore(FileSystemStore(tmp_path), lambda key: key[::-1])
    store.set("key", b"1", None)
    with pytest.raises(NotSupported, match="KEY_FUNCTION"):
        list(store.scan("k"))


def key_of_nobody(key: str, key_prefix: str, version: int) -> str:
    raise LookupError("no tenant")


def test_a_function_that_raises_costs_no_page_and_is_told_of_once(memcached, caplog):
    caches = {
        "default": {
            "BACKEND": PYMEMCACHE,
            "LOCATION": memcached.address,
            "KEY_FUNCTION": f"{__name__}.key_of_nobody",
        }
    }
    with override_settings(CACHES=caches):
        cache = DjangoBytecodeCache(key="k")
        loader = jinja2.DictLoader({"a": "1", "b": "2"})
        environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
        assert [environment.get_template(name).render() for name in "ab"] == ["1", "2"]
        cache.storage.opener.close()
    assert cache.statistics.errors >= 2
    [told] = [record.getMessage() for record in caplog.records]
    assert "LookupError: no tenant" in told
