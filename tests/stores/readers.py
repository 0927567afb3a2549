"""The part of the contract that has many readers: threads, forks, tasks, request after request."""

import asyncio
import os
import random
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.signals import request_finished
from django.db import connections

from django_jinja_bccache.stores.base import Store

PREFIX = "jinja2/bytecode/"
THREADS, FORKS, TASKS, REQUESTS = 16, 4, 30, 50


def in_threads(count: int, run: Callable[[int], object]) -> list[BaseException]:
    """Run something in threads that begin together; return what they raised."""
    barrier = threading.Barrier(count)
    raised: list[BaseException] = []

    def begin(number: int) -> None:
        barrier.wait(10)
        try:
            run(number)
        except BaseException as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=begin, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def in_forks(count: int, run: Callable[[int], object]) -> list[str]:
    """Run something in as many forked children at once; return what went wrong in them."""
    connections.close_all()  # PostgreSQL's must not be shared
    receivers = []
    for number in range(count):
        receiver, sender = os.pipe()
        child = os.fork()
        if not child:
            report = "did not end"
            try:
                run(number)
                report = ""
            except BaseException:
                report = traceback.format_exc()
            finally:
                os.write(sender, report.encode()[-4_000:])
                os._exit(0)
        os.close(sender)
        receivers.append((child, receiver))
    reports = []
    for child, receiver in receivers:
        with open(receiver) as pipe:
            reports.append(pipe.read())
        os.waitpid(child, 0)
    return [report for report in reports if report]


def distinct_values(count: int) -> dict[str, bytes]:
    """As many keys, each with a value that no other key has."""
    return {
        f"{PREFIX}{number}": f"{number}:".encode() * (1 + number % 400) for number in range(count)
    }


def open_files() -> tuple[int, set[str]]:
    """How many file descriptors this process has open, and which sockets are among them."""
    links = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(path))
        except FileNotFoundError:  # the directory that is being listed
            continue
    return len(links), {link for link in links if link.startswith("socket:")}


class ManyReaders:
    """What a store does for many that read at once.

    Each test has `reads_in_all` reads; with ``--long``, each of its readers has as many.
    """

    # How many reads a test has: fewer where each is long.
    reads_in_all = 3_000
    # Whether what it connects to stays connected when a request has ended.
    keeps_connections = True

    @pytest.fixture
    def values(self, store: Store) -> dict[str, bytes]:
        values = distinct_values(64)
        assert store.set_many(values, 1_000) == []
        return values

    @pytest.fixture
    def reads(self, request: pytest.FixtureRequest) -> Callable[[int], int]:
        """How many reads each of so many readers has."""
        is_long = request.config.getoption("--long")
        return lambda readers: 10_000 if is_long else -(-self.reads_in_all // readers)

    def test_16_threads_read_their_own_keys_values(self, store: Store, values, reads):
        def read(number: int) -> None:
            for key in random.Random(number).choices(list(values), k=reads(THREADS)):
                assert store.get(key) == values[key]

        assert in_threads(THREADS, read) == []

    def test_4_forks_read_their_own_keys_values(self, store: Store, values, reads):
        assert store.get_many(list(values)) == values  # so that there is something to inherit

        def read(number: int) -> None:
            for key in random.Random(number).choices(list(values), k=reads(FORKS)):
                assert store.get(key) == values[key]

        assert in_forks(FORKS, read) == []
        assert store.get_many(list(values)) == values

    def test_30_tasks_read_their_own_keys_values(self, store: Store, values, reads):
        """Some call the store in the event loop, as async views do, and some in threads."""

        async def read(number: int, threads: ThreadPoolExecutor) -> None:
            loop = asyncio.get_running_loop()
            for key in random.Random(number).choices(list(values), k=reads(TASKS)):
                if number % 2:
                    found = store.get(key)
                    await asyncio.sleep(0)
                else:
                    found = await loop.run_in_executor(threads, store.get, key)
                assert found == values[key]

        async def read_all() -> None:
            with ThreadPoolExecutor(8) as threads:
                await asyncio.gather(*(read(number, threads) for number in range(TASKS)))
                all_there = threading.Barrier(8)
                list(
                    threads.map(lambda _: (all_there.wait(10), connections.close_all()), range(8))
                )

        asyncio.run(read_all())

    def test_50_requests_later_it_has_the_same_connections_and_no_more_files(
        self, store: Store, values
    ):
        def request() -> None:
            assert store.get_many(list(values)) == values
            store.set("other", b"1", 100)
            request_finished.send(self.__class__)

        request()
        count, sockets = open_files()
        for _ in range(REQUESTS):
            request()
        count_afterwards, sockets_afterwards = open_files()
        assert count_afterwards <= count
        if self.keeps_connections:
            assert sockets_afterwards <= sockets
