"""A server at a distance: the tests' proxy in a process of its own, which counts and delays.

``python -m testproject.benchmarks.distance UPSTREAM DELAY BITS`` is that process: each line that
it reads is a command, each line that it writes the answer.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.servers import Proxy, links

if TYPE_CHECKING:
    pass

PINGS = 60


class Distance:
    """A proxy before a server, so many seconds away, there and back.

    Args:
        upstream: The server's address.
        ping: A request that the server answers with one line.
        seconds: What a round trip is to take; the proxy's delay is adjusted until it does.
        bits: How many bits per second go through in each direction; 0 for as many as can.
    """

    def __init__(self, upstream: str, ping: bytes, *, seconds: float, bits: float = 0) -> None:
        self._ping = ping
        self._seconds = seconds
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "testproject.benchmarks.distance"),
                *(upstream, str(seconds / 2), str(bits)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address: str = self._answer()["address"]

    def __enter__(self) -> Distance:
        self._calibrate()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def reset(self) -> None:
        """Begin counting anew."""
        self._ask("reset")

    def counts(self) -> dict[str, int]:
        """Return ``round_trips`` and ``bytes``, both ways, since the last reset."""
        counts = self._ask("counts")
        return {
            "round_trips": counts["round_trips"],
            "bytes": counts["up"] + counts["down"],
        }

    def round_trip(self) -> float:
        """Return the seconds that a round trip takes now: the median of many."""
        host, _, port = self.address.rpartition(":")
        times = []
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(PINGS):
                began = time.perf_counter()
                connection.sendall(self._ping)
                while not connection.recv(4096).endswith(b"\n"):
                    pass
                times.append(time.perf_counter() - began)
        return statistics.median(times)

    def _calibrate(self) -> None:
        delay = self._seconds / 2
        for _ in range(3):
            delay = max(0.0, delay + (self._seconds - self.round_trip()) / 2)
            self._ask(f"delay {delay}")

    def _ask(self, command: str) -> dict[str, Any]:
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The proxy's process has ended.")
        return json.loads(line)


def shaped(bits: float) -> type[links.Direction]:
    """Return a proxy's direction through which so many bits go in a second."""

    class ShapedDirection(links.Direction):
        sent = 0.0

        def _schedule(self, data: bytes, after_last: float = 0.0) -> None:
            self.sent = max(time.perf_counter(), self.sent) + len(data) * 8 / bits
            self.last_due = max(self.sent + self.proxy.delay, self.last_due + after_last)
            self.queue.append((self.last_due, data))

    return ShapedDirection


def main() -> None:
    upstream, delay, bits = sys.argv[1:]
    if float(bits):
        links.Direction = shaped(float(bits))
    with Proxy(upstream, delay=float(delay)) as proxy:
        print(json.dumps({"address": proxy.address}), flush=True)
        for line in sys.stdin:
            command, *arguments = line.split()
            answer = {
                "round_trips": proxy.round_trips,
                "up": proxy.bytes_up,
                "down": proxy.bytes_down,
            }
            if command == "reset":
                proxy.reset_counts()
            elif command == "delay":
                proxy.delay = float(arguments[0])
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
