"""The ground of a run: a corpus of its own, servers, distances, and filled caches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testproject.benchmarks import contenders, corpus
from testproject.benchmarks.contenders import LOOPBACK, NEAR, SHAPED, Contender, Place
from testproject.benchmarks.distance import Distance
from tests.servers import Memcached, Redis

if TYPE_CHECKING:
    from collections.abc import Sequence

RELEASE = "r1"
PUBLISHED = {contenders.PRELOADED, contenders.RELEASE}
FAR = 0.0008
GIGABIT = 1e9
LONGEST = 600
"""Seconds after which a measured process is given up."""

REPOSITORY = Path(__file__).resolve().parents[2]


class MeasuringError(Exception):
    """A measured process failed."""


@dataclass(frozen=True)
class Site:
    """A copy of a corpus that may be changed."""

    name: str
    root: Path

    @property
    def names(self) -> list[str]:
        return corpus.placed(self.name, self.root).names


class Ground:
    """Servers, distances and directories of one run; everything is gone at its end.

    Attributes:
        distances: The ways to the servers, by store and distance.
        memcached: The server for the contenders' own caches.
        blank: Another memcached, for what begins from nothing.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.distances: dict[tuple[str, str], Distance] = {}
        self.directory = Path()

    def __enter__(self) -> Ground:
        enter = self._stack.enter_context
        try:
            self.directory = Path(enter(tempfile.TemporaryDirectory(prefix="benchmarks-")))
            self.memcached = enter(Memcached("-m", "1024"))
            self.blank = enter(Memcached("-m", "2048"))
            self.redis = enter(Redis())
            for key, server, bits in (
                (("memcached", NEAR), self.memcached, 0),
                (("memcached", SHAPED), self.memcached, GIGABIT),
                (("blank", NEAR), self.blank, 0),
                (("redis", NEAR), self.redis, 0),
            ):
                ping = b"PING\r\n" if key[0] == "redis" else b"version\r\n"
                distance = Distance(server.address, ping, seconds=FAR, bits=bits)
                self.distances[key] = enter(distance)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def site(self, name: str, copy: str = "site") -> Site:
        """Return a copy of a corpus: "indico", "material" or "synthetic-COUNT"."""
        directory = self.directory / copy
        if name.startswith(corpus.SYNTHETIC):
            found = corpus.synthetic(int(name.removeprefix(corpus.SYNTHETIC)), directory)
            return Site(name, found.root)
        shutil.copytree(corpus.corpus(name).root, directory / name)
        return Site(name, directory / name)

    def distance(self, contender: Contender) -> Distance | None:
        """Return the proxy between a contender and its server, if there is one."""
        store = "redis" if contender.place.store == "redis" else "memcached"
        return self.distances.get((store, contender.place.distance))

    def fill(self, site: Site, wanted: Sequence[Contender]) -> dict[str, str]:
        """Fill every cache that is read from, each once; return the contenders left out, and why.

        A contender is left out if its cache cannot be filled.
        """
        fills = {contender: _filler(contender) for contender in wanted}
        groups: dict[Place, set[Contender]] = {}
        for filler in filter(_needs_filling, fills.values()):
            # What shares a store is filled one after the other.
            groups.setdefault(filler.place, set()).add(filler)
        errors: dict[Contender, str] = {}

        def fill_each(group: set[Contender]) -> None:
            # Ours come first; by then there is what the others reuse.
            for filler in sorted(group, key=lambda contender: contender.key, reverse=True):
                try:
                    self.measure(site, filler, "fill")
                except MeasuringError as error:
                    errors[filler] = str(error)

        with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
            list(executor.map(fill_each, groups.values()))
        return {
            contender.key: errors[filler]
            for contender, filler in fills.items()
            if filler in errors
        }

    def measure(
        self,
        site: Site,
        contender: Contender,
        task: str,
        *,
        address: str = "",
        distance: Distance | None = None,
        **job: Any,
    ) -> list[dict[str, Any]]:
        """Have a new process do a task for a contender; return the results of its stages.

        Args:
            address: The server's, if it is not the contender's own.
            distance: The way there, to count on.
        """
        distance = distance or self.distance(contender)
        address = address or self._address(contender)
        floor = self.directory / "caches" / contenders.FLOOR / "floor"
        tiers = tempfile.mkdtemp(dir=self.directory) if contender.new_host else ""
        job |= {
            "task": task,
            "kind": contender.kind,
            "mode": contender.mode,
            "corpus": site.name,
            "root": str(site.root),
            "names": site.names,
            "address": address,
            "directory": str(self._directory(contender)),
            "compiled": str(floor) if floor.exists() else "",
        }
        environment = environment_for(
            CORPUS=site.name,
            CORPUS_ROOT=str(site.root),
            DJANGO_SETTINGS_MODULE="testproject.benchmarks.peer_settings",
            BYTECODE_CACHE=self._url(contender, address, tiers),
            RELEASE=RELEASE if contender.mode in PUBLISHED else "",
            PACKS="0" if contender.mode == contenders.SINGLE else "1",
        )
        if contender.kind == contenders.BARE_MODULES:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        return run_job(job, environment, distance)

    def _address(self, contender: Contender) -> str:
        if found := self.distance(contender):
            return found.address
        return (self.redis if contender.place.store == "redis" else self.memcached).address

    def _directory(self, contender: Contender) -> Path:
        floors = {contenders.FLOOR, contenders.PAUSED_FLOOR}
        kind = contenders.FLOOR if contender.kind in floors else contender.kind
        return self.directory / "caches" / kind.replace(" ", "-")

    def _url(self, contender: Contender, address: str, tier: str) -> str:
        store, directory = contender.place.store, self._directory(contender)
        directory.mkdir(parents=True, exist_ok=True)
        urls = {
            "memcached": f"memcached://{address}",
            "redis": f"redis://{address}",
            "files": f"file://{directory / 'files'}",
            "sqlite": f"sqlite://{directory / 'cache.sqlite3'}",
            contenders.TIERED: f"file://{directory / 'tier'}|memcached://{address}",
            contenders.NEW_HOST: f"file://{tier}|memcached://{address}",
        }
        return urls.get(store, "")


def _needs_filling(contender: Contender) -> bool:
    return contender.kind != contenders.NONE


def _filler(contender: Contender) -> Contender:
    """Return the contender that fills what this one reads."""
    kind, mode, store = contender.kind, contender.mode, contender.place.store
    if kind == contenders.PAUSED_FLOOR:
        kind = contenders.FLOOR
    if mode:
        mode = contenders.RELEASE if mode in PUBLISHED else contenders.CHECKED
    if contender.new_host:
        store = contenders.TIERED
    return Contender(kind, mode, Place(store, LOOPBACK if contender.is_networked else ""))


def environment_for(**values: str) -> dict[str, str]:
    """Return the process environment of a measured process."""
    # ModuleLoader lives by the bytecode that Python itself keeps.
    unwanted = {"PYTHONDONTWRITEBYTECODE", "DJANGO_JINJA_BCCACHE", "BYTECODE_CACHE", "RELEASE"}
    inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
    return inherited | {name: value for name, value in values.items() if value}


def run_job(
    job: dict[str, Any], environment: dict[str, str], distance: Distance | None
) -> list[dict[str, Any]]:
    """Run a process of ``peers``; return its results, with what went through the proxy.

    Raises:
        MeasuringError: The process failed, or took too long.
    """
    results = []
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            [sys.executable, "-m", "testproject.benchmarks.peers"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            timer = threading.Timer(LONGEST, process.kill)
            timer.start()
            try:
                if distance:
                    distance.reset()
                _write(process, json.dumps(job))
                for line in process.stdout:
                    counts = distance.counts() if distance else {}
                    results.append(json.loads(line) | counts)
                    if distance:
                        distance.reset()
                    _write(process, "")
            except BaseException:
                process.kill()
                raise
            finally:
                timer.cancel()
        errors.seek(0)
        text = errors.read()
    if process.returncode != 0:
        raise MeasuringError(text.strip().rpartition("\n")[2] or "it ended without a word")
    for result in results:
        result["warnings"] = text[-500:]
    return results


def _write(process: subprocess.Popen[str], line: str) -> None:
    # A process that has died says why elsewhere.
    with suppress(BrokenPipeError):
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
