"""A cluster of Redis servers of one test's own."""

import subprocess
import time
from contextlib import ExitStack
from types import TracebackType

from tests.servers.redis import Redis
from tests.servers.server import ServerError, find_program, free_port


class Cluster:
    """Three Redis servers, each with a third of the keys."""

    def __init__(self) -> None:
        self.nodes = [
            Redis("--cluster-enabled", "yes", "--cluster-port", str(free_port())) for _ in range(3)
        ]
        self._running = ExitStack()

    def flush(self) -> None:
        for node in self.nodes:
            node.flush()

    def __enter__(self) -> "Cluster":
        for node in self.nodes:
            self._running.enter_context(node)
        addresses = [node.address for node in self.nodes]
        subprocess.run(
            [find_program("redis-cli"), "--cluster", "create", *addresses, "--cluster-yes"],
            check=True,
            capture_output=True,
        )
        end = time.monotonic() + 30
        while not all(self._is_ready(node) for node in self.nodes):
            if time.monotonic() > end:
                raise ServerError("the cluster was not ready after 30 seconds")
            time.sleep(0.02)
        return self

    def _is_ready(self, node: Redis) -> bool:
        with node.client() as client:
            return client.cluster("INFO")["cluster_state"] == "ok"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, error, traceback)
