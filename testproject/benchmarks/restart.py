"""From the start of gunicorn to the first byte of a page of the test project."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import jinja2

from testproject.benchmarks import contenders
from testproject.benchmarks.contenders import NEAR
from testproject.benchmarks.ground import REPOSITORY, MeasuringError, environment_for
from testproject.benchmarks.measures import say, summary
from tests.servers.server import free_port

if TYPE_CHECKING:
    from testproject.benchmarks.ground import Ground

PAGE = "/plants/"
LONGEST = 30


def restarts(ground: Ground, repeat: int) -> dict[str, Any]:
    """Start gunicorn with one worker, without a cache and over filled ones; ask for one page."""
    ground.blank.flush()
    address = ground.distances["blank", NEAR].address
    ours = {
        "files": f"file://{ground.directory / 'restart'}",
        f"memcached, {NEAR}": f"memcached://{address}",
    }
    environments = {contenders.NONE: environment_for(DJANGO_JINJA_BCCACHE="off")}
    for kind in (contenders.MODULES, contenders.JINJA2_FILES):
        directory = ground.directory / "restarts" / kind.replace(" ", "-")
        directory.mkdir(parents=True)
        environments[f"{kind} @ files"] = _peer(kind, str(directory))
    for kind in (contenders.JINJA2_MEMCACHED, contenders.DJANGO_JINJA):
        peer = _peer(kind, address, BYTECODE_CACHE=f"memcached://{address}")
        environments[f"{kind} @ memcached, {NEAR}"] = peer
    for environment in list(environments.values())[1:]:
        _python(environment, "-c", f"from {__name__} import fill; fill()")
    for place, url in ours.items():
        environment = environment_for(BYTECODE_CACHE=url)
        environments[f"ours: source-checked @ {place}"] = environment
        _python(environment, "testproject/manage.py", "warm_bytecode")
    times: dict[str, list[float]] = {label: [] for label in environments}
    for turn in range(repeat):
        say(f"restart of gunicorn, turn {turn + 1} of {repeat}")
        for label, environment in environments.items():
            times[label].append(_first_byte(environment))
    return {label: {"seconds": summary(values)} for label, values in times.items()}


def fill() -> None:
    """Fill the cache of ``restart_settings`` with all templates, in a process of its own."""
    import django
    from django.conf import settings
    from django.template import engines

    django.setup()
    engine = engines["jinja2"]
    sources = engine.env.overlay(loader=jinja2.FileSystemLoader(engine.template_dirs))
    if settings.PEER == contenders.MODULES:
        sources.compile_templates(settings.PLACE, zip=None, ignore_errors=False)
    for name in sources.list_templates():
        engine.env.get_template(name)


def _peer(kind: str, place: str, **environment: str) -> dict[str, str]:
    settings = "testproject.benchmarks.restart_settings"
    return environment_for(
        DJANGO_SETTINGS_MODULE=settings, PEER=kind, PEER_PLACE=place, **environment
    )


def _python(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )


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
