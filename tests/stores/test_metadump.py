"""memcached's listing of its keys, from the server's own mouth."""

import time
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from urllib.parse import quote

import pytest

from django_jinja_bccache.exceptions import NotSupported, StoreUnavailable
from django_jinja_bccache.stores.metadump import metadump, server_settings
from tests.servers import Memcached
from tests.servers.server import free_port
from tests.stores.contract import eventually
from tests.stores.readers import in_threads
from tests.stores.test_memcached import crowd_on

DEADLINE = 10.0


def listed(server, deadline: float = DEADLINE):
    return list(metadump((server.host, server.port), deadline))


@pytest.mark.parametrize(
    "key", ["plain", "50%25", "süß/größe", "a=b&c=d", "key=x", "END", "\udcff\udcfe", "{}[]*?"]
)
def test_a_key_is_listed_as_it_was_stored(memcached, key):
    memcached.set_raw(key.encode("utf-8", "surrogateescape"), b"1")
    assert [item.key for item in listed(memcached)] == [key], quote(key, errors="surrogateescape")


def test_an_item_tells_its_size_its_last_access_and_its_expiry(memcached):
    memcached.set_raw("lasting", b"x" * 5_000)
    memcached.set_raw("ending", b"x", expire=500)
    items = {item.key: item for item in listed(memcached)}
    assert 5_000 < items["lasting"].size < 5_200
    assert items["lasting"].expires_at is None
    assert items["ending"].expires_at == pytest.approx(time.time() + 500, abs=5)
    assert items["ending"].accessed_at == pytest.approx(time.time(), abs=5)


def test_an_item_that_has_expired_is_not_listed(memcached):
    memcached.set_raw("ending", b"1", expire=1)
    memcached.set_raw("lasting", b"1")
    assert eventually(lambda: memcached.get_raw("ending") is None)
    assert [item.key for item in listed(memcached)] == ["lasting"]


def test_items_that_are_being_read_are_listed(memcached):
    keys = [f"key-{number}" for number in range(20)]
    for key in keys:
        memcached.set_raw(key, b"1")
    for _ in range(10):
        for key in keys * 3:
            memcached.get_raw(key)
        assert {item.key for item in listed(memcached)} == {*keys}


def test_a_server_that_does_not_know_how_to_list_those_is_asked_for_the_rest(
    memcached, monkeypatch
):
    memcached.set_raw("key", b"1")
    walks = (b"unknown", b"all")
    monkeypatch.setattr("django_jinja_bccache.stores.metadump._WALKS", walks)
    assert [item.key for item in listed(memcached)] == ["key"]


def test_an_empty_server_lists_nothing(memcached):
    assert listed(memcached) == []


def test_listings_at_the_same_time_wait_for_each_other_and_are_complete(memcached):
    crowd_on(memcached)(20_000)
    sizes: list[int] = []
    assert in_threads(4, lambda _: sizes.append(len(listed(memcached)))) == []
    assert sizes == [20_000] * 4


def test_a_listing_that_is_not_read_to_its_end_keeps_no_connection(memcached, proxy):
    crowd_on(memcached)(20_000)
    through = proxy(memcached.address)
    listing = metadump((through.host, through.port), DEADLINE)
    assert next(listing).size > 0
    assert through.open_connections == 1
    listing.close()
    assert eventually(lambda: through.open_connections == 0)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [(["-o", "no_lru_crawler"], "lru crawler disabled"), (["-X"], "metadump not allowed")],
)
def test_a_server_that_is_told_not_to_list_is_one_that_lists_nothing(
    memcached_server, arguments, answer
):
    with (
        memcached_server(*arguments) as server,
        pytest.raises(NotSupported, match=rf"does not list its keys.*{answer}"),
    ):
        listed(server)


class GetAndSetOnly(StreamRequestHandler):
    """A proxy that closes on what it does not know."""

    def handle(self):
        while self.rfile.readline().startswith((b"get ", b"set ")):
            self.wfile.write(b"END\r\n")


class AlwaysBusy(StreamRequestHandler):
    """A server on which somebody else lists one key after the other."""

    def handle(self):
        while self.rfile.readline():
            self.wfile.write(b"BUSY currently processing crawler request\r\n")


@contextmanager
def serving(kind: type[StreamRequestHandler]):
    with ThreadingTCPServer(("127.0.0.1", 0), kind) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address
        server.shutdown()
        thread.join()


def test_so_is_a_proxy_that_closes_the_connection_instead():
    with (
        serving(GetAndSetOnly) as address,
        pytest.raises(NotSupported, match=r"does not list its keys.*closed the connection"),
    ):
        list(metadump(address, DEADLINE))


def test_such_a_proxy_tells_no_settings():
    with serving(GetAndSetOnly) as address:
        assert server_settings(address, DEADLINE) == {}


def test_one_that_lists_for_somebody_else_is_not_waited_for_without_end():
    with (
        serving(AlwaysBusy) as address,
        pytest.raises(StoreUnavailable, match="is busy with another listing"),
    ):
        list(metadump(address, 0.2))


def test_so_is_one_that_is_no_memcached(redis):
    with pytest.raises(NotSupported, match=r"does not list its keys.*ERR unknown command"):
        listed(redis)


def test_a_unix_socket_is_an_address_too(tmp_path):
    with Memcached(unix_socket=tmp_path / "m.sock") as server:
        server.set_raw("key", b"1")
        assert [item.key for item in metadump(str(tmp_path / "m.sock"), DEADLINE)] == ["key"]


def test_a_server_that_is_not_there_is_out_of_reach(tmp_path):
    for address in (("127.0.0.1", free_port()), str(tmp_path / "no.sock")):
        with pytest.raises(StoreUnavailable):
            list(metadump(address, DEADLINE))
