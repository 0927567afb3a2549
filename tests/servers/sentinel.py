"""A Redis Sentinel of one test's own."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers.redis import Redis
from tests.servers.server import Server, find_program

SERVICE = "mymaster"


class Sentinel(Server):
    """A process that tells clients where the primary is, and replaces it when it is down.

    One is enough to decide on a new primary.

    Args:
        primary: The server that it watches, with its replicas; it must be running.
        replicas: Those of them that it must have found before it counts as started.
        down_after: Seconds without an answer after which it replaces the primary.
    """

    def __init__(
        self, primary: Redis, *, replicas: Sequence[Redis] = (), down_after: float = 600.0
    ) -> None:
        super().__init__()
        self.down_after = down_after
        self.primary = primary
        self.replicas = replicas

    def command(self) -> list[str]:
        settings = self.directory / "sentinel.conf"
        if not settings.exists():  # it writes down there what it knows
            settings.write_text(
                f"bind {self.host}\n"
                f"port {self.port}\n"
                f"dir {self.directory}\n"
                f"sentinel monitor {SERVICE} {self.primary.host} {self.primary.port} 1\n"
                f"sentinel down-after-milliseconds {SERVICE} {self.down_after * 1000:.0f}\n"
                f"sentinel failover-timeout {SERVICE} 1000\n"
            )
        return [find_program("redis-server"), str(settings), "--sentinel"]

    def answers(self) -> bool:
        try:
            return self._state()["num-slaves"] >= len(self.replicas)
        except redis.RedisError:
            return False

    @property
    def primary_address(self) -> str:
        """Where the primary is now."""
        state = self._state()
        return f"{state['ip']}:{state['port']}"

    def _state(self) -> dict[str, Any]:
        options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 5}
        with closing(redis.Redis(self.host, self.port, **options)) as client:
            return client.sentinel_masters()[SERVICE]
