"""A Redis of one test's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers.server import Server, ServerError, find_program


class Redis(Server):
    """A Redis on a free loopback port, in memory only.

    Args:
        arguments: More of redis-server's own arguments: `Redis("--maxmemory", "2mb")`.
        replica_of: The server whose replica this is; `start` waits until both are in step.
        unix_socket: Listen on this path as well.
        password: Ask clients for it.
    """

    program: ClassVar[str] = "redis-server"

    def __init__(
        self,
        *arguments: str,
        replica_of: "Redis | None" = None,
        unix_socket: Path | str | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__()
        self.arguments = arguments
        self.password = password
        self.replica_of = replica_of
        self.unix_socket = unix_socket and Path(unix_socket)

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    @property
    def socket_url(self) -> str:
        return f"unix://{self.unix_socket}?db=0"

    def command(self) -> list[str]:
        options = {
            "--bind": self.host,
            "--port": str(self.port),
            "--dir": str(self.directory),
            "--save": "",
            "--appendonly": "no",
            "--repl-diskless-sync-delay": "0",
        }
        if self.unix_socket:
            options["--unixsocket"] = str(self.unix_socket)
        if self.password:
            options["--requirepass"] = self.password
        command = [find_program(self.program)]
        for option in options.items():
            command += option
        if self.replica_of:
            command += ["--replicaof", self.replica_of.host, str(self.replica_of.port)]
        return [*command, *self.arguments]

    def answers(self) -> bool:
        try:
            with self.client() as client:
                if not self.replica_of:
                    return bool(client.ping())
                return client.info("replication").get("master_link_status") == "up"
        except redis.RedisError:
            return False

    @contextmanager
    def client(self, **options: Any) -> Iterator[redis.Redis]:
        """A redis-py client for a with block, which tries once; values are bytes."""
        options = {"password": self.password, "socket_timeout": 10, **options}
        options.setdefault("retry", Retry(NoBackoff(), 0))
        client = redis.Redis(self.host, self.port, **options)
        try:
            yield client
        finally:
            client.close()

    def keys(self) -> list[str]:
        """Every key that the server holds, in no order."""
        with self.client() as client:
            return [key.decode() for key in client.scan_iter()]

    def get_raw(self, key: str | bytes) -> bytes | None:
        with self.client() as client:
            return client.get(key)

    def set_raw(self, key: str | bytes, value: bytes, expire: int | None = None) -> None:
        """Store a value; `expire` is in seconds, None for never."""
        with self.client() as client:
            client.set(key, value, ex=expire)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def wait_for_replicas(self, count: int = 1) -> None:
        """Return when so many replicas have all that was written so far."""
        with self.client() as client:
            client.ping()  # WAIT is about what its own connection has seen written
            if client.wait(count, 10_000) < count:
                raise ServerError("a replica was not in step after 10 seconds")


class ValkeyServer(Redis):
    """The same of Valkey's own make."""

    program = "valkey-server"
