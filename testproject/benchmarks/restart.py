"""From the start of gunicorn to the first byte of a page of the test project."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from testproject.benchmarks.contenders import NEAR
from testproject.benchmarks.ground import REPOSITORY, MeasuringError, environment_for
from testproject.benchmarks.measures import say, summary
from tests.servers.server import free_port

if TYPE_CHECKING:
    from testproject.benchmarks.ground import Ground

PAGE = "/plants/"
LONGEST = 30


def restarts(ground: Ground, repeat: int) -> dict[str, Any]:
    """Start gunicorn with one worker, without a cache and over warmed ones; ask for one page."""
    ground.blank.flush()
    off = environment_for(DJANGO_JINJA_BCCACHE="off")
    files = f"file://{ground.directory / 'restart'}"
    memcached = f"memcached://{ground.distances['blank', NEAR].address}"
    environments = {
        "no cache": off,
        "ours: source-checked @ files": environment_for(BYTECODE_CACHE=files),
        f"ours: source-checked @ memcached, {NEAR}": environment_for(BYTECODE_CACHE=memcached),
    }
    for environment in list(environments.values())[1:]:
        subprocess.run(
            [sys.executable, "testproject/manage.py", "warm_bytecode"],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    times: dict[str, list[float]] = {label: [] for label in environments}
    for turn in range(repeat):
        say(f"restart of gunicorn, turn {turn + 1} of {repeat}")
        for label, environment in environments.items():
            times[label].append(_first_byte(environment))
    return {label: {"seconds": summary(values)} for label, values in times.items()}


def _first_byte(environment: dict[str, str]) -> float:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", "1", "--bind", f"127.0.0.1:{port}"]
    began = time.perf_counter()
    server = subprocess.Popen(
        [*command, "--log-level", "error", "testproject.wsgi"], cwd=REPOSITORY, env=environment
    )
    try:
        with _connection(port, server) as connection:
            request = f"GET {PAGE} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = connection.recv(64)
            seconds = time.perf_counter() - began
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    if b" 200 " not in answer:
        raise MeasuringError(f"gunicorn answered {answer!r}")
    return seconds


def _connection(port: int, server: subprocess.Popen[bytes]) -> socket.socket:
    end = time.monotonic() + LONGEST
    while time.monotonic() < end and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=LONGEST)
        except ConnectionRefusedError:
            time.sleep(0.002)
    raise MeasuringError("gunicorn did not start")
