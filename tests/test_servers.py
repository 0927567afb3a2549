"""The test servers do what the tests that use them take for granted."""

import socket
import threading
import time
from contextlib import closing

import pytest

from tests.servers import Memcached, PostgreSQL, Redis
from tests.servers.server import ServerError, find_program

VALUE = bytes(range(256)) * 400


def ask(address: str, request: bytes, *, timeout: float = 5.0) -> bytes:
    """What comes back on a new connection until END, or until the connection closes."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        return ask_on(connection, request)


def ask_on(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    answer = b""
    while not answer.endswith((b"END\r\n", b"STORED\r\n")):
        piece = connection.recv(65_536)
        if not piece:
            break
        answer += piece
    return answer


def eventually(condition, timeout: float = 5.0) -> bool:
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def through(memcached, proxy):
    """A proxy before a memcached that holds VALUE under the name of value."""
    memcached.set_raw("value", VALUE)
    return proxy(memcached.address)


class TestMemcached:
    def test_a_value_comes_back_as_it_was_stored(self, memcached):
        memcached.set_raw("a", b"x\r\nEND\r\n\x00", flags=3)
        assert memcached.get_raw("a") == b"x\r\nEND\r\n\x00"
        assert memcached.get_raw("b") is None

    def test_keys_are_listed_unquoted(self, memcached):
        names = ["plain", "per%cent", "colon:1", "ümlaut", *(f"many-{i}" for i in range(2000))]
        for name in names[:50]:
            memcached.set_raw(name, b"1")
        assert sorted(memcached.keys()) == sorted(names[:50])

    @pytest.mark.parametrize("round_", [1, 2])
    def test_a_test_finds_it_empty(self, memcached, round_):
        assert memcached.keys() == []
        assert memcached.get_raw("left-over") is None
        memcached.set_raw("left-over", b"1")
        assert memcached.get_raw("left-over") == b"1"

    def test_stats_count(self, memcached):
        before = int(memcached.stats()["get_misses"])
        memcached.get_raw("a")
        assert int(memcached.stats()["get_misses"]) == before + 1

    @pytest.mark.parametrize("end", [Memcached.stop, Memcached.kill])
    def test_it_restarts_on_the_same_port_with_nothing_in_it(self, memcached_server, end):
        server = memcached_server()
        server.start()
        address, pid = server.address, server.pid
        server.set_raw("a", b"1")
        end(server)
        assert not server.running
        with pytest.raises(ConnectionRefusedError):
            ask(address, b"get a\r\n")
        server.start()
        assert server.running
        assert server.pid != pid
        assert server.address == address
        assert ask(address, b"get a\r\n") == b"END\r\n"

    def test_restart_and_close_can_be_repeated(self, memcached_server):
        server = memcached_server()
        server.restart()
        server.restart()
        directory = server.directory
        server.close()
        server.close()
        assert not directory.exists()

    def test_its_arguments_are_memcacheds(self, memcached_server):
        with memcached_server("-m", "8", "-I", "2m", "-M") as server:
            server.set_raw("big", b"x" * 1_500_000)
            assert int(server.stats()["limit_maxbytes"]) == 8 << 20

    def test_it_listens_on_a_unix_socket(self, memcached_server, tmp_path):
        path = tmp_path / "memcached.sock"
        with memcached_server(unix_socket=path) as server:
            server.set_raw("a", b"1")
            assert server.keys() == ["a"]
            assert server.address == f"unix:{path}"

    def test_what_it_said_is_in_the_error_when_it_does_not_start(self, memcached_server):
        with pytest.raises(ServerError, match="frobnicate"):
            memcached_server("--frobnicate").start()

    def test_a_server_that_is_not_installed_says_what_to_run(self):
        with pytest.raises(ServerError, match=r"sh tests/run\.sh"):
            find_program("no-such-server")


class TestRedis:
    def test_it_answers_and_holds_values(self, redis):
        with redis.client() as client:
            assert client.ping() is True
        redis.set_raw("a", b"\x00\xff", expire=100)
        assert redis.get_raw("a") == b"\x00\xff"
        assert redis.keys() == ["a"]

    @pytest.mark.parametrize("round_", [1, 2])
    def test_a_test_finds_it_empty(self, redis, round_):
        assert redis.keys() == []
        redis.set_raw("left-over", b"1")

    def test_it_restarts_on_the_same_port_with_nothing_in_it(self, redis_server):
        with redis_server() as server:
            server.set_raw("a", b"1")
            address = server.address
            server.restart()
            assert server.address == address
            assert server.keys() == []

    def test_a_replica_follows_and_is_read_only(self, redis_server, tmp_path):
        with redis_server() as primary, redis_server(replica_of=primary) as replica:
            primary.set_raw("a", b"1")
            assert eventually(lambda: replica.get_raw("a") == b"1")
            with pytest.raises(Exception, match="read only replica"):
                replica.set_raw("b", b"1")

    def test_it_listens_on_a_unix_socket_as_well(self, redis_server, tmp_path):
        import redis as redis_py

        with redis_server(unix_socket=tmp_path / "redis.sock") as server:
            with closing(redis_py.Redis.from_url(server.socket_url)) as client:
                client.set("a", "1")
            assert server.keys() == ["a"]


class TestPostgreSQL:
    def test_it_answers(self, postgresql):
        with postgresql.connection() as connection:
            assert connection.execute("select 1").fetchone() == (1,)

    def test_it_keeps_its_tables_over_a_restart(self):
        with PostgreSQL() as server:
            with server.connection() as connection:
                connection.execute("create table kept (id integer)")
            server.restart()
            with server.connection() as connection:
                assert connection.execute("select count(*) from kept").fetchone() == (0,)

    def test_its_port_wants_the_password(self, postgresql):
        import psycopg

        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(**{**_parameters(postgresql), "password": "wrong"})


def _parameters(server: PostgreSQL) -> dict:
    return {"host": server.host, "port": server.port, "user": "postgres", "dbname": "postgres"}


class TestProxyPassing:
    def test_values_pass_unchanged(self, through, memcached):
        assert VALUE in ask(through.address, b"get value\r\n")
        assert ask(through.address, b"set up 0 0 %d\r\n%s\r\n" % (len(VALUE), VALUE)) == (
            b"STORED\r\n"
        )
        assert memcached.get_raw("up") == VALUE

    def test_it_counts_connections_round_trips_and_bytes(self, through):
        with socket.create_connection((through.host, through.port), timeout=5) as connection:
            answers = [ask_on(connection, b"get value\r\n") for _ in range(3)]
            assert through.round_trips == 3
            assert through.connections == 1
            assert through.open_connections == 1
            assert through.bytes_up == 3 * len(b"get value\r\n")
            assert through.bytes_down == len(b"".join(answers))
        assert eventually(lambda: through.open_connections == 0)
        ask(through.address, b"get value\r\n")
        assert through.connections == 2
        through.reset_counts()
        assert (through.connections, through.round_trips, through.bytes_down) == (0, 0, 0)

    def test_many_keys_in_one_request_are_one_round_trip(self, through, memcached):
        for number in range(50):
            memcached.set_raw(f"key-{number}", VALUE)
        keys = b" ".join(b"key-%d" % number for number in range(50))
        assert ask(through.address, b"get " + keys + b"\r\n").count(VALUE) == 50
        assert through.round_trips == 1

    def test_each_direction_takes_the_delay_once(self, through):
        through.delay = 0.2
        with socket.create_connection((through.host, through.port), timeout=5) as connection:
            began = time.perf_counter()
            assert VALUE in ask_on(connection, b"get value\r\n")  # in several pieces
            assert 0.4 <= time.perf_counter() - began < 0.8

    def test_a_short_delay_is_kept_exactly(self, through):
        through.delay = 0.001
        with socket.create_connection((through.host, through.port), timeout=5) as connection:
            times = []
            for _ in range(50):
                began = time.perf_counter()
                ask_on(connection, b"get nothing\r\n")
                times.append(time.perf_counter() - began)
            assert min(times) >= 0.002
            assert sorted(times)[10] < 0.003

    def test_threads_go_through_side_by_side(self, through):
        answers = []

        def run():
            for _ in range(20):
                answers.append(ask(through.address, b"get value\r\n"))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 160
        assert len(set(answers)) == 1
        assert through.round_trips == through.connections == 160

    def test_it_stands_before_a_unix_socket(self, memcached_server, proxy, tmp_path):
        with memcached_server(unix_socket=tmp_path / "m.sock") as server:
            assert ask(proxy(server.address).address, b"get a\r\n") == b"END\r\n"

    def test_a_server_that_is_down_is_a_closed_connection(self, memcached_server, proxy):
        server = memcached_server()
        with pytest.raises(ConnectionResetError):
            ask(proxy(server.address).address, b"get a\r\n")

    def test_the_end_of_the_server_is_the_end_of_the_connection(self, memcached_server, proxy):
        with memcached_server() as server:
            stand_in = proxy(server.address)
            with socket.create_connection((stand_in.host, stand_in.port), timeout=5) as connection:
                ask_on(connection, b"get a\r\n")
                server.stop()
                assert connection.recv(1) == b""

    def test_closing_ends_its_thread_and_its_sockets(self, through):
        with socket.create_connection((through.host, through.port), timeout=5) as connection:
            ask_on(connection, b"get value\r\n")
            assert any(thread.name == repr(through) for thread in threading.enumerate())
            through.close()
            through.close()
            assert connection.recv(1) == b""
        assert not any(thread.name == repr(through) for thread in threading.enumerate())
        with pytest.raises(ConnectionRefusedError):
            ask(through.address, b"get value\r\n")


class TestProxyModes:
    @pytest.fixture
    def connection(self, through):
        """A connection that was open before the mode changed."""
        with socket.create_connection((through.host, through.port), timeout=0.5) as connection:
            ask_on(connection, b"get value\r\n")
            yield connection

    def test_an_unknown_mode_names_the_known_ones(self, through):
        with pytest.raises(ValueError, match="pass, refuse, reset"):
            through.mode = "sulk"

    def test_refuse(self, through, connection):
        through.mode = "refuse"
        assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            ask(through.address, b"get value\r\n")

    def test_reset(self, through, connection):
        through.mode = "reset"
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        with pytest.raises(ConnectionResetError):
            ask(through.address, b"get value\r\n")

    def test_black_hole(self, through, connection):
        through.mode = "black_hole"
        with pytest.raises(TimeoutError):
            ask_on(connection, b"get value\r\n")
        with pytest.raises(TimeoutError):
            ask(through.address, b"get value\r\n", timeout=0.2)
        assert eventually(lambda: through.open_connections == 1)
        through.mode = "pass"
        with pytest.raises(TimeoutError):
            ask_on(connection, b"get value\r\n")

    def test_black_hole_swallows_an_answer_under_way(self, through, connection):
        through.delay = 0.2
        connection.sendall(b"get value\r\n")
        time.sleep(0.25)
        through.mode = "black_hole"
        with pytest.raises(TimeoutError):
            connection.recv(1)

    def test_hang_connect(self, through, connection):
        through.mode = "hang_connect"
        with pytest.raises(TimeoutError):
            socket.create_connection((through.host, through.port), timeout=0.2)
        assert VALUE in ask_on(connection, b"get value\r\n")

    def test_trickle(self, through, connection):
        through.trickle_interval = 0.05
        through.mode = "trickle"
        connection.sendall(b"get value\r\n")
        time.sleep(0.5)
        assert 5 <= len(connection.recv(1000)) <= 12

    def test_cut(self, through, connection):
        through.mode = "cut"
        answer = ask_on(connection, b"get value\r\n")
        assert answer.startswith(b"VALUE value 0 %d\r\n" % len(VALUE))
        assert 1000 < len(answer) < len(VALUE)

    def test_garble_flips_values_and_nothing_else(self, through, connection, memcached):
        plain = ask_on(connection, b"get value\r\n")
        memcached.set_raw("short", b"1")
        through.mode = "garble"
        garbled = ask_on(connection, b"get value short value\r\n")
        header, middle = len(b"VALUE value 0 102400\r\n"), len(VALUE) // 2
        flipped = bytes(byte ^ 0xFF for byte in VALUE[middle:])
        value = plain[:header] + VALUE[:middle] + flipped + b"\r\n"
        assert garbled == value + b"VALUE short 0 1\r\n1\r\n" + value + b"END\r\n"

    def test_garble_reads_redis_too(self, redis: Redis, proxy):
        import redis as redis_py

        redis.set_raw("a", b"x" * 100)
        stand_in = proxy(redis.address, mode="garble")
        with closing(redis_py.Redis(stand_in.host, stand_in.port)) as client:
            assert client.mget("a", "b", "a") == [
                b"x" * 50 + b"\x87" * 50,
                None,
                b"x" * 50 + b"\x87" * 50,
            ]

    def test_swap_answers_each_request_with_the_answer_before_on_whatever_connection(
        self, through, connection, memcached
    ):
        plain = ask_on(connection, b"get value\r\n")
        memcached.set_raw("short", b"1")
        through.mode = "swap"
        assert ask(through.address, b"get short\r\n") == plain
        assert ask_on(connection, b"get nothing\r\n") == b"VALUE short 0 1\r\n1\r\nEND\r\n"
        assert ask_on(connection, b"get value\r\n") == b"END\r\n"
        assert ask(through.address, b"get nothing\r\n") == plain

    def test_swap_answers_every_request_with_the_wrong_answer_if_there_is_one(
        self, through, connection
    ):
        through.wrong_answer = b"VALUE other 0 5\r\nwrong\r\nEND\r\n"
        through.mode = "swap"
        for _ in range(2):
            assert ask_on(connection, b"get value\r\n") == through.wrong_answer
        through.mode = "pass"
        assert VALUE in ask_on(connection, b"get value\r\n")

    @pytest.mark.parametrize(
        "mode",
        ["refuse", "reset", "black_hole", "hang_connect", "trickle", "cut", "garble", "swap"],
    )
    def test_after_each_mode_it_passes_again_on_the_same_port(self, through, mode):
        address = through.address
        through.mode = mode
        through.mode = "pass"
        assert through.address == address
        assert VALUE in ask(address, b"get value\r\n")
