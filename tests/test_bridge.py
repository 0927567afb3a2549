"""From an alias in CACHES to a store: which store it is, and what it leaves alone."""

import socket
import sys
from pathlib import Path

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.cache.backends.redis import RedisCache
from django.test import override_settings

from django_jinja_bccache import DjangoBytecodeCache, bridge, register_store
from django_jinja_bccache.exceptions import ConfigurationError, NotSupported, StoreUnavailable
from django_jinja_bccache.stores.base import StoreUsage, unguarded
from django_jinja_bccache.stores.filesystem import FileSystemStore
from tests.stores.opening import PYMEMCACHE, opened
from tests.stores.readers import PREFIX, distinct_values

BACKENDS = "django.core.cache.backends"
FILE_BASED = f"{BACKENDS}.filebased.FileBasedCache"


class MemcachedOfTheSitesOwn(PyMemcacheCache):
    """A subclass, as sites have them."""


OWN = f"{__name__}.MemcachedOfTheSitesOwn"


class RedisOfTheSitesOwn(RedisCache):
    """A subclass of a backend that needs a library."""


class ThirdPartyCache(BaseCache):
    """A backend that nobody here has heard of."""

    def __init__(self, location, params):
        super().__init__(params)
        self.directory = location


THIRD_PARTY = f"{__name__}.ThirdPartyCache"


def third_party_store(backend, *, deadline, guard):
    """What its author registers."""
    calls.append(deadline)
    return guard(FileSystemStore(backend.directory), "its files")


calls: list[float] = []


@pytest.fixture
def registry(monkeypatch):
    """What is registered here is forgotten afterwards."""
    monkeypatch.setattr(bridge, "_factories", dict(bridge._factories))
    calls.clear()


class CacheOfALibrary(BaseCache):
    """A backend that imports its library when it is made, as Django's PyLibMCCache does."""

    def __init__(self, location, params):
        super().__init__(params)
        import no_such_library  # noqa: F401


class TestAlias:
    def test_one_that_does_not_exist_is_an_error_that_lists_those_that_do(self):
        present = {"default": {"BACKEND": FILE_BASED}, "pages": {"BACKEND": FILE_BASED}}
        with (
            override_settings(CACHES=present),
            pytest.raises(ConfigurationError, match=r"'page'.*there are: 'default', 'pages'"),
        ):
            bridge.open_store("page", deadline=1, guard=unguarded)

    def test_a_backend_that_cannot_be_imported_is_an_error_that_names_it(self):
        with (
            override_settings(CACHES={"default": {"BACKEND": "no.such.Cache"}}),
            pytest.raises(ConfigurationError, match=r"CACHES\['default'\].*no\.such\.Cache"),
        ):
            bridge.open_store("default", deadline=1, guard=unguarded)

    def test_a_library_that_is_not_installed_is_a_store_out_of_reach(self):
        caches = {"default": {"BACKEND": f"{__name__}.CacheOfALibrary"}}
        with (
            override_settings(CACHES=caches),
            pytest.raises(StoreUnavailable, match=r"CACHES\['default'\].*no_such_library"),
        ):
            bridge.open_store("default", deadline=1, guard=unguarded)

    @pytest.mark.parametrize(
        ("backend", "library"),
        [
            (f"{BACKENDS}.redis.RedisCache", "redis"),
            (f"{BACKENDS}.memcached.PyLibMCCache", "pylibmc"),
            (f"{__name__}.RedisOfTheSitesOwn", "redis"),
        ],
    )
    def test_at_start_up_it_is_an_error_that_says_how_to_install_it(
        self, backend, library, monkeypatch
    ):
        monkeypatch.setitem(sys.modules, library, None)  # as if it were not there
        expected = f"package '{library}'.*pip install 'django-jinja-bccache\\[{library}]'"
        with (
            override_settings(CACHES={"default": {"BACKEND": backend}}),
            pytest.raises(ConfigurationError, match=expected),
        ):
            DjangoBytecodeCache("default").validate()

    def test_a_misspelt_factory_is_an_error_at_start_up(self, monkeypatch):
        monkeypatch.setattr(bridge, "_factories", dict(bridge._factories))
        backend = f"{__name__}.RedisOfTheSitesOwn"
        bridge.register_store(backend, "no.such.factory")
        with (
            override_settings(CACHES={"default": {"BACKEND": backend}}),
            pytest.raises(ConfigurationError, match=r"register_store\(.*no\.such\.factory"),
        ):
            DjangoBytecodeCache("default").validate()

    def test_a_directory_that_cannot_be_made_is_a_store_out_of_reach(self, tmp_path):
        (tmp_path / "file").write_text("")
        caches = {"default": {"BACKEND": FILE_BASED, "LOCATION": tmp_path / "file" / "cache"}}
        with override_settings(CACHES=caches), pytest.raises(StoreUnavailable):
            bridge.open_store("default", deadline=1, guard=unguarded)

    def test_the_dummy_cache_holds_nothing(self):
        with opened(f"{BACKENDS}.dummy.DummyCache") as store:
            store.set("key", b"1", 100)
            assert store.set_many({"key": b"1"}, 100) == []
            assert store.get("key") is None
            assert store.get_many(["key"]) == {}
            assert store.delete_many(["key"]) == 0
            assert list(store.scan("")) == []
            assert store.usage() == StoreUsage(0, 0)


class TestDjangosOwnCacheBesideOurs:
    def test_in_a_directory_neither_removes_the_others_files(self, tmp_path):
        options = {"MAX_ENTRIES": 3, "CULL_FREQUENCY": 0}  # all go when a fourth one comes
        with opened(FILE_BASED, LOCATION=tmp_path, OPTIONS=options) as store:
            values = distinct_values(50)
            store.set_many(values, None)
            for number in range(10):
                caches["default"].set(f"page-{number}", number)
            caches["default"].clear()
            assert store.get_many(list(values)) == values
            caches["default"].set("page", "text")
            store.delete_many([item.key for item in store.scan("")])
            assert list(store.scan("")) == []
            assert caches["default"].get("page") == "text"

    def test_on_a_server_only_our_keys_go(self, memcached):
        memcached.set_raw("somebody-elses", b"1")
        with opened(PYMEMCACHE, LOCATION=memcached.address, KEY_PREFIX="site") as store:
            caches["default"].set("page", "text")
            store.set_many(distinct_values(50), None)
            store.delete_many([item.key for item in store.scan(PREFIX)])
            assert sorted(memcached.keys()) == ["site:1:page", "somebody-elses"]


class TestSiblingsOfDjangosClient:
    @pytest.mark.parametrize(
        "write",
        [lambda address: address, lambda address: [address], lambda address: [split(address)]],
        ids=["text", "list", "tuple"],
    )
    def test_location_is_written_in_any_way_that_django_takes(self, memcached, write):
        with opened(PYMEMCACHE, LOCATION=write(memcached.address)) as store:
            store.set("key", b"1", 100)
            assert memcached.get_raw(":1:key") == b"1"

    @pytest.mark.parametrize("separator", [",", ";"])
    def test_several_servers_may_stand_in_one_text(self, memcached, memcached_server, separator):
        with memcached_server() as other:
            location = f"{memcached.address}{separator}{other.address}"
            with opened(PYMEMCACHE, LOCATION=location) as store:
                store.set_many(distinct_values(40), 100)
                assert len(memcached.keys()) + len(other.keys()) == 40
                assert memcached.keys()
                assert other.keys()

    @pytest.mark.parametrize("prefix", ["app/", b"app/", b"\xfcber/"], ids=repr)
    def test_a_key_prefix_is_inherited_and_told_from_the_key(self, memcached, prefix):
        with opened(
            PYMEMCACHE, LOCATION=memcached.address, OPTIONS={"key_prefix": prefix}
        ) as store:
            store.set("key", b"1", 100)
            stored = (prefix.encode() if isinstance(prefix, str) else prefix) + b":1:key"
            assert memcached.get_raw(stored) == b"1"
            assert [item.key for item in store.scan("")] == ["key"]

    def test_unicode_keys_are_allowed_as_django_does_unless_the_option_forbids_them(
        self, memcached
    ):
        with opened(PYMEMCACHE, LOCATION=memcached.address) as store:
            assert store.set_many({"größe": b"1"}, 100) == []
        options = {"allow_unicode_keys": False}
        with opened(PYMEMCACHE, LOCATION=memcached.address, OPTIONS=options) as store:
            assert store.set_many({"größe": b"1"}, 100) == ["größe"]

    def test_a_hasher_says_on_which_node_a_key_lies(self, memcached, memcached_server):
        class FirstNode:
            """Puts every key on the node that was named first."""

            def __init__(self):
                self.nodes = []

            def add_node(self, node):
                self.nodes.append(node)

            def get_node(self, key):
                return self.nodes[0]

        with memcached_server() as other:
            addresses = [other.address, memcached.address]
            with opened(PYMEMCACHE, LOCATION=addresses, OPTIONS={"hasher": FirstNode}) as store:
                store.set_many(distinct_values(20), 100)
                assert len(other.keys()) == 20
                assert memcached.keys() == []

    def test_sockets_are_made_and_set_up_as_the_options_say(self, memcached):
        from pymemcache.client.base import KeepaliveOpts

        class Sockets:
            """A socket module such as gevent's, which shows the sockets that it made."""

            def __init__(self):
                self.made = []

            def __getattr__(self, name):
                return getattr(socket, name)

            def socket(self, *arguments):
                self.made.append(socket.socket(*arguments))
                return self.made[-1]

        def option(level, name):
            return sockets.made[-1].getsockopt(level, name)

        sockets = Sockets()
        options = {"socket_module": sockets, "socket_keepalive": KeepaliveOpts(7, 3, 2)}
        with opened(PYMEMCACHE, LOCATION=memcached.address, OPTIONS=options) as store:
            store.get("key")
            assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
            assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        options = {"socket_module": sockets, "no_delay": False}
        with opened(PYMEMCACHE, LOCATION=memcached.address, OPTIONS=options) as store:
            store.get("key")
            assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0

    def test_options_of_djangos_client_alone_do_no_harm(self, memcached):
        options = {
            "use_pooling": True,
            "max_pool_size": 4,
            "pool_idle_timeout": 5,
            "lock_generator": None,
            "ignore_exc": True,
            "retry_attempts": 0,
            "retry_timeout": 1,
            "dead_timeout": 1,
            "default_noreply": True,
            "encoding": "utf-8",
        }
        with opened(PYMEMCACHE, LOCATION=memcached.address, OPTIONS=options) as store:
            store.set("key", b"1", 100)
            assert store.get("key") == b"1"
            assert store.set_many({"big": bytes(2_000_000)}, 100) == ["big"]
            memcached.stop()
            with pytest.raises(StoreUnavailable):
                store.get("key")

    def test_a_serde_of_the_sites_own_sees_no_value(self, memcached):
        class Serde:
            def serialize(self, key, value):
                raise AssertionError

            def deserialize(self, key, value, flags):
                raise AssertionError

        options = {"serde": Serde()}
        with opened(PYMEMCACHE, LOCATION=memcached.address, OPTIONS=options) as store:
            store.set("key", b"1", 100)
            assert store.get_many(["key"]) == {"key": b"1"}


class TestSubclass:
    def test_it_is_used_through_the_public_api(self, memcached):
        with opened(OWN, LOCATION=memcached.address) as store:
            store.set("key", b"1", 100)
            assert store.get("key") == b"1"
            with pytest.raises(NotSupported):
                list(store.scan(""))

    def test_it_may_be_registered_as_what_it_is_a_subclass_of(self, memcached, registry):
        register_store(OWN, "django_jinja_bccache.bridge.memcached.pymemcache_store")
        with opened(OWN, LOCATION=memcached.address) as store:
            store.set("key", b"1", 100)
            assert [item.key for item in store.scan("")] == ["key"]

    def test_the_class_itself_under_another_name_is_no_subclass(self, memcached):
        with opened(f"{__name__}.PyMemcacheCache", LOCATION=memcached.address) as store:
            store.set("key", b"1", 100)
            assert [item.key for item in store.scan("")] == ["key"]


class TestRegisteredStore:
    @pytest.mark.parametrize("factory", [third_party_store, f"{__name__}.third_party_store"])
    def test_it_takes_the_place_of_the_public_api(self, registry, tmp_path: Path, factory):
        register_store(THIRD_PARTY, factory)
        names: list[str] = []

        def guard(store, name):
            names.append(name)
            return store

        params = {"LOCATION": tmp_path, "KEY_PREFIX": "site"}
        with opened(THIRD_PARTY, deadline=7, guard=guard, **params) as store:
            store.set("key", b"1", None)
            assert FileSystemStore(tmp_path).get("site:1:key") == b"1"
            assert [item.key for item in store.scan("")] == ["key"]
        assert names == ["'default' (its files)"]
        assert calls == [7]

    def test_one_that_cannot_be_imported_is_an_error_that_names_it(self, registry):
        register_store(THIRD_PARTY, "no.such.factory")
        with pytest.raises(ConfigurationError, match=r"no\.such\.factory"), opened(THIRD_PARTY):
            raise AssertionError

    def test_a_setting_that_it_refuses_is_an_error_and_no_outage(self, registry):
        def refuse(backend, **_):
            raise ConfigurationError("LOCATION: 7 is not accepted")

        register_store(THIRD_PARTY, refuse)
        with pytest.raises(ConfigurationError, match="7 is not accepted"), opened(THIRD_PARTY):
            raise AssertionError

    def test_one_that_fails_is_a_store_out_of_reach(self, registry):
        register_store(THIRD_PARTY, lambda backend, **_: {}["no such key"])
        with pytest.raises(StoreUnavailable, match="KeyError: 'no such"), opened(THIRD_PARTY):
            raise AssertionError


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
