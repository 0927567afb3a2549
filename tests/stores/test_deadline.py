"""Every operation is over at its deadline, however the server behaves."""

import socket
import ssl
import threading
import time
from collections.abc import Callable

import pymemcache
import pytest

from django_jinja_bccache.bridge.memcached import memcached_store, shared_client
from django_jinja_bccache.exceptions import NotSupported, StoreUnavailable
from django_jinja_bccache.stores.deadline import Deadline, DeadlineSocket, TLSContext
from tests.servers.tls import TLSMemcached
from tests.stores.opening import PYMEMCACHE, opened
from tests.stores.patient import OPERATIONS

DEADLINE = 0.3
# A generous bound: a client without time-outs would wait for ever.
SOON = 3.0

LISTING = {"scan": lambda store: list(store.scan(""))}
WRITE_BIG = {"set big": lambda store: store.set("key", bytes(900_000), None)}


def each(operations: dict[str, Callable]):
    return pytest.mark.parametrize("operate", operations.values(), ids=operations)


def fails_soon(operation: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        operation()
    assert time.monotonic() - began < SOON


@pytest.fixture
def through(memcached, proxy):
    return proxy(memcached.address)


@pytest.fixture
def store(through):
    """A store for whose client the user has set no time-out."""
    with opened(PYMEMCACHE, LOCATION=through.address, deadline=DEADLINE) as store:
        yield store


class TestAnIllServer:
    @each(OPERATIONS | WRITE_BIG | LISTING)
    @pytest.mark.parametrize("mode", ["black_hole", "refuse", "reset", "cut", "hang_connect"])
    def test_a_first_operation_fails_before_long(self, store, through, mode, operate):
        through.mode = mode
        fails_soon(lambda: operate(store))

    @each(OPERATIONS | WRITE_BIG | LISTING)
    @pytest.mark.parametrize("mode", ["black_hole", "refuse", "reset", "cut"])
    def test_one_on_an_open_connection_fails_before_long(self, store, through, mode, operate):
        store.set("key", b"1" * 1000, 100)
        through.mode = mode
        fails_soon(lambda: operate(store))

    @each(OPERATIONS | WRITE_BIG)
    def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for(
        self, store, through, operate
    ):
        store.set("key", b"1" * 1000, 100)
        through.trickle_interval = 0.2  # so that no single wait is longer than the deadline
        through.mode = "trickle"
        fails_soon(lambda: operate(store))

    @pytest.mark.parametrize(
        "mode", ["black_hole", "trickle", "refuse", "reset", "cut", "hang_connect"]
    )
    def test_once_it_is_well_again_the_next_operation_succeeds(self, store, through, mode):
        store.set("key", b"old" * 1000, 100)
        store.close()
        through.mode = mode
        fails_soon(lambda: store.get("key"))
        through.mode = "pass"
        for number in range(5):
            assert store.get("key") == b"old" * 1000
            store.set(f"other-{number}", b"%d" % number, 100)
            assert store.get(f"other-{number}") == b"%d" % number

    def test_garbled_values_come_in_time_and_mix_nothing_up(self, store, through):
        values = {f"key-{number}": bytes([number]) * 1000 for number in range(20)}
        store.set_many(values, 100)
        through.mode = "garble"
        began = time.monotonic()
        garbled = store.get_many(list(values))
        assert time.monotonic() - began < SOON
        assert {key: value[:500] for key, value in garbled.items()} == {
            key: value[:500] for key, value in values.items()
        }
        assert all(garbled[key] != values[key] for key in values)
        through.mode = "pass"
        assert store.get_many(list(values)) == values


class TestTimeoutsOfTheUsersOwn:
    @pytest.mark.parametrize("option", ["timeout", "connect_timeout"])
    def test_a_shorter_one_holds_beside_the_deadline(self, through, option):
        options = {option: 0.2}
        with opened(PYMEMCACHE, LOCATION=through.address, OPTIONS=options, deadline=60) as store:
            through.mode = "hang_connect" if option == "connect_timeout" else "black_hole"
            fails_soon(lambda: store.get("key"))

    def test_a_longer_one_does_not_outlast_the_deadline(self, through):
        options = {"timeout": 60, "connect_timeout": 60}
        with opened(PYMEMCACHE, LOCATION=through.address, OPTIONS=options, deadline=0.3) as store:
            through.mode = "black_hole"
            fails_soon(lambda: store.get("key"))


def read_slowly(server: TLSMemcached, connection: socket.socket) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    with context.wrap_socket(connection, server_side=True) as reader:
        while reader.recv(16_384):
            time.sleep(0.05)


class TestTLS:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory):
        with TLSMemcached(tmp_path_factory.mktemp("tls")) as server:
            yield server

    @pytest.fixture
    def through(self, server, proxy):
        return proxy(server.address)

    @pytest.fixture
    def store(self, server, through):
        server.flush()
        options = {"tls_context": server.context}
        with opened(
            PYMEMCACHE, LOCATION=through.address, OPTIONS=options, deadline=DEADLINE
        ) as store:
            yield store

    def test_values_go_through_it(self, store, server):
        value = bytes(range(256)) * 3_000
        store.set("key", value, 100)
        assert store.get("key") == value
        assert store.get_many(["key", "other"]) == {"key": value}
        assert server.get_raw(":1:key") == value

    @each(OPERATIONS)
    @pytest.mark.parametrize("mode", ["black_hole", "trickle", "cut", "hang_connect", "refuse"])
    def test_a_handshake_obeys_the_deadline(self, store, through, mode, operate):
        through.trickle_interval = 0.2
        through.mode = mode
        fails_soon(lambda: operate(store))

    @each(OPERATIONS | WRITE_BIG)
    @pytest.mark.parametrize("mode", ["black_hole", "trickle", "reset", "refuse"])
    def test_an_open_connection_obeys_the_deadline(self, store, through, mode, operate):
        store.set("key", b"1" * 1000, 100)
        through.trickle_interval = 0.2
        through.mode = mode
        fails_soon(lambda: operate(store))

    @each(OPERATIONS)
    def test_a_connection_that_died_while_idle_costs_no_operation(self, store, server, operate):
        store.get("key")
        server.restart()
        for _ in range(5):
            operate(store)

    def test_keys_are_not_listed_where_that_would_need_tls(self, store, server, through):
        client = pymemcache.Client(through.address, tls_context=server.context)
        users_own = memcached_store(shared_client(client, deadline=5), deadline=5)
        for each_ in (store, users_own):
            each_.set("key", b"1", 100)
            with pytest.raises(NotSupported, match="TLS"):
                list(each_.scan(""))
        client.close()

    def test_sending_to_one_who_reads_a_little_now_and_then_ends_at_the_deadline(self, server):
        end, other_end = socket.socketpair()
        with end, other_end:
            threading.Thread(target=read_slowly, args=[server, other_end]).start()
            deadline = Deadline()
            deadline.end = time.monotonic() + 60
            context = TLSContext(server.context, deadline)
            sender = context.wrap_socket(
                DeadlineSocket(end, deadline), server_hostname=server.host
            )
            sender.sendall(b"1")
            deadline.end = time.monotonic() + DEADLINE
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                sender.sendall(bytes(10_000_000))
            sender.close()
        assert time.monotonic() - began < SOON

    def test_a_certificate_that_is_not_trusted_is_an_error_of_the_store(self, through):
        options = {"tls_context": ssl.create_default_context()}
        with (
            opened(PYMEMCACHE, LOCATION=through.address, OPTIONS=options) as store,
            pytest.raises(StoreUnavailable, match="certificate"),
        ):
            store.get("key")


class TestSocket:
    """What a client's own code is given in place of a socket."""

    @pytest.fixture
    def deadline(self):
        return Deadline()

    @pytest.fixture
    def ends(self, deadline):
        end, other_end = socket.socketpair()
        with end, other_end:
            yield DeadlineSocket(end, deadline), other_end

    def test_it_is_read_into_a_buffer_as_by_hiredis(self, ends, deadline):
        near, far = ends
        deadline.end = time.monotonic() + DEADLINE
        far.sendall(b"+OK")
        buffer = bytearray(10)
        assert (near.recv_into(buffer), bytes(buffer[:3])) == (3, b"+OK")
        with pytest.raises(TimeoutError):
            near.recv_into(buffer)

    def test_once_the_time_is_over_it_is_used_no_more_whatever_has_come(self, ends, deadline):
        near, far = ends
        far.sendall(b"late")
        deadline.end = time.monotonic()
        for use in (lambda: near.recv(10), lambda: near.sendall(b"more")):
            with pytest.raises(TimeoutError, match="no answer before the deadline"):
                use()
        far.setblocking(False)
        with pytest.raises(BlockingIOError):
            far.recv(10)
