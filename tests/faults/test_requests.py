"""A server of the site while the way to its store is ill: each of 200 pages is right.

The tests in which a fault and a store are named run with `--every-fault`, but for one of each
store (`FAULTS_IN_EVERY_RUN` in `tests/conftest.py`).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.faults.visits import PATIENCE, Counts, Visited, Watch, total
from tests.servers import Proxy
from tests.servers.gunicorn import WORKERS

FILES = {"class": "django_jinja_bccache.FileSystemBytecodeCache"}
TIERS = {"class": "django_jinja_bccache.TieredBytecodeCache"}


@dataclass(frozen=True)
class Place:
    """A store that the site has beyond a proxy.

    Attributes:
        url: What the site is told, with the address to be filled in.
        server: The fixture that is the server, and with `_server` after it the one that makes it.
        nonsense: No answer to any request.
    """

    url: str
    server: str
    nonsense: bytes

    def option(self, directory) -> dict:
        return PATIENCE


class Tiers(Place):
    def option(self, directory) -> dict:
        local = {**FILES, "directory": str(directory / "local"), **PATIENCE}
        return {**TIERS, "local": local, "shared": {"alias": "default", **PATIENCE}}


NONSENSE = b"ERROR\r\n"
STORES = {
    "memcached": Place("memcached://{}", "memcached", NONSENSE),
    "pylibmc": Place("pylibmc://{}", "memcached", NONSENSE),
    "redis": Place("redis://{}/0", "redis", b"*2\r\n:1\r\n:2\r\n"),
    "tiers": Tiers("memcached://{}", "memcached", NONSENSE),
}


def mode(name: str) -> Callable[[Proxy, Place], None]:
    def begin(way: Proxy, place: Place) -> None:
        way.mode = name

    return begin


def hang_up_and_let_hang(way: Proxy, place: Place) -> None:
    way.mode = "refuse"
    way.mode = "hang_connect"


def answer_late(way: Proxy, place: Place) -> None:
    way.delay = PATIENCE["deadline"] / 2 + 0.01  # each way


def answer_nonsense(way: Proxy, place: Place) -> None:
    way.wrong_answer = place.nonsense
    way.mode = "swap"


OUTAGES: dict[str, Callable[[Proxy, Place], None]] = {
    "refused": mode("refuse"),
    "reset": mode("reset"),
    "black hole at connect": hang_up_and_let_hang,
    "black hole": mode("black_hole"),
    "one byte at a time": mode("trickle"),
    "cut": mode("cut"),
    "slow": answer_late,
}
WRONG_ANSWERS: dict[str, Callable[[Proxy, Place], None]] = {
    "nonsense": answer_nonsense,
    "the answer before": mode("swap"),
}


@pytest.fixture
def place(store) -> Place:
    return STORES[store]


@pytest.fixture
def way(place, request, proxy) -> Proxy:
    """What stands between the site and its store."""
    return proxy(request.getfixturevalue(place.server).address)


@pytest.fixture
def site(place, way, serve, tmp_path) -> Visited:
    """The site with a warm store."""
    site = serve(place.url.format(way.address), place.option(tmp_path))
    site.warm()
    return site


@pytest.mark.parametrize("store", STORES)
class TestOnTheWay:
    @pytest.mark.parametrize("fault", OUTAGES)
    def test_an_outage_costs_each_process_one_try_in_a_cooldown_and_is_told_once(
        self, place, way, site, store, fault
    ):
        OUTAGES[fault](way, place)
        watch = Watch()
        counts = site.visit(site.requests())
        assert total(counts, "misses") > 0
        for each in counts.values():
            assert 1 <= each["errors"] <= watch.tries
        assert site.news() == {process: ["WARNING"] for process in counts}

        if fault == "black hole" or (store, fault) == ("pylibmc", "one byte at a time"):
            # What had swallowed the connections, or let them trickle, closes them when it is well.
            way.mode = "refuse"
        way.delay, way.mode = 0.0, "pass"
        site.recovers(counts)
        site.is_well()

    @pytest.mark.parametrize("fault", ["short black hole"])
    def test_connections_that_died_together_are_found_out_together(self, way, site, fault):
        way.delay = 0.05  # so that threads meet, and each needs a connection of its own
        site.visit(site.new_pages(40))
        way.delay = 0.0
        assert site.news() == {}
        way.mode = "black_hole"
        counts: Counts = {}
        while len(counts) < WORKERS:  # one page at a time, so one connection at a time
            counts |= site.visit(site.new_pages(1))
        assert site.news() == {process: ["WARNING"] for process in counts}
        way.mode = "pass"
        site.recovers(counts)
        site.is_well()

    @pytest.mark.parametrize("fault", ["garbled"])
    def test_spoilt_values_are_misses_and_no_outage(self, way, site, store, fault):
        way.mode = "garble"
        counts = site.visit(site.requests())
        if store == "tiers":
            assert total(counts, "hits") > 0  # of what is in the files
        else:
            assert total(counts, "hits") == 0
            assert total(counts, "rejected") > 0
        assert total(counts, "errors") == 0
        assert site.news() == {}
        way.mode = "pass"
        site.is_well()

    @pytest.mark.parametrize("fault", WRONG_ANSWERS)
    def test_no_answer_to_another_question_gets_into_a_page(self, place, way, site, fault):
        WRONG_ANSWERS[fault](way, place)
        watch = Watch()
        counts = site.visit(site.requests())
        assert total(counts, "errors", "rejected") > 0
        owed = site.flickers(counts, watch)

        way.mode = "pass"
        site.recovers(owed.elements())
        site.is_well()


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("fault", ["killed and restarted every second"])
def test_a_server_that_dies_every_second_costs_no_page(
    place, serve, request, tmp_path, store, fault
):
    server = request.getfixturevalue(f"{place.server}_server")().start()
    site = serve(place.url.format(server.address), place.option(tmp_path))
    site.warm()
    restarts = 0
    enough = threading.Event()

    def restart() -> None:
        nonlocal restarts
        while not enough.wait(1):
            server.kill()
            server.start()
            restarts += 1

    restarting = threading.Thread(target=restart)
    restarting.start()
    watch = Watch()
    try:
        ill: set[int] = set()
        paths = site.requests()
        while paths or restarts < 3:
            counts = site.visit(paths[:40] or site.new_pages(8))
            del paths[:40]
            for each in counts.values():
                assert each["errors"] <= watch.tries
            for process, levels in site.news().items():
                before = [] if process not in ill else ["WARNING"]
                assert before + levels == alternating(len(before + levels))
                (ill.discard if levels[-1] == "INFO" else ill.add)(process)
    finally:
        enough.set()
        restarting.join()
    site.recovers(ill)
    site.is_well()


def alternating(number: int) -> list[str]:
    """What the log says of outages that end before the next one begins."""
    return (["WARNING", "INFO"] * number)[:number]
