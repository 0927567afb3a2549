"""Many threads, forked children and requests at once: every page right, few connections."""

import asyncio
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import jinja2
import pytest
from django.test import Client, override_settings

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.stores.guard import Circuit, CircuitOpen
from tests.engines import templates_with
from tests.scripts import ROOT, run_script
from tests.servers.server import Server

THREADS = 16
# Seconds. A busy machine may leave a thread without a processor for longer than the default.
PATIENT = 20.0
SOURCES = {
    f"{number}.html": f"{{% for n in range({number}) %}}{{{{ n }}}},{{% endfor %}}{number}"
    for number in range(40)
}
EXPECTED = {
    f"{number}.html": "".join(f"{n}," for n in range(number)) + str(number) for number in range(40)
}


def wrong_pages(cache, seed: int) -> list[str]:
    """The templates that a process which has none of them yet does not render as it should."""
    environment = jinja2.Environment(loader=jinja2.DictLoader(SOURCES), bytecode_cache=cache)
    names = random.Random(seed).sample(list(SOURCES), k=len(SOURCES))
    return [name for name in names if environment.get_template(name).render() != EXPECTED[name]]


@pytest.fixture
def connections(backend, request):
    """Tells how many connections the store has taken since the test began; 0 if it has none."""
    if backend.name not in {"memcached", "pylibmc"}:
        return lambda: 0
    server = request.getfixturevalue("memcached")
    asked = 0

    def taken() -> int:
        nonlocal asked
        asked += 1
        return int(server.stats()["total_connections"]) - asked

    before = taken()
    return lambda: taken() - before


class TestThreads:
    def rounds(self, cache, count: int) -> list[str]:
        """The wrong pages of so many rounds, each of which has 16 new threads at once."""
        wrong = []
        for number in range(count):
            barrier = threading.Barrier(THREADS)

            def work(seed: int, barrier=barrier) -> list[str]:
                barrier.wait()
                return wrong_pages(cache, seed)

            with ThreadPoolExecutor(THREADS) as threads:
                seeds = range(number * THREADS, (number + 1) * THREADS)
                wrong += [name for names in threads.map(work, seeds) for name in names]
        return wrong

    def test_one_cache_serves_sixteen_at_once(self, backend, connections):
        cache = DjangoBytecodeCache(key="k", deadline=PATIENT)
        assert self.rounds(cache, 1) == []
        cold = cache.statistics
        assert cold.hits + cold.misses == THREADS * len(SOURCES)
        assert cold.misses == cold.stores == cold.miss_reasons["absent"] >= len(SOURCES)
        assert self.rounds(cache, 4) == []
        warm = cache.statistics
        assert (warm.hits - cold.hits, warm.misses - cold.misses) == (
            4 * cold.hits + 4 * cold.misses,
            0,
        )
        assert (warm.errors, warm.rejected) == (0, 0)
        assert connections() <= THREADS + 1  # 80 threads, and one asks for the statistics

    def test_threads_that_take_turns_share_one_connection(self, backend, connections):
        cache = DjangoBytecodeCache(key="k", deadline=PATIENT)
        assert wrong_pages(cache, 0) == []
        before = connections()
        for seed in range(30):
            thread = threading.Thread(target=wrong_pages, args=(cache, seed))
            thread.start()
            thread.join()
        assert (cache.statistics.hits, cache.statistics.errors) == (30 * len(SOURCES), 0)
        assert connections() == before

    def test_a_long_wait_is_no_illness_as_long_as_others_are_answered(self):
        now = 1000.0
        circuit = Circuit(cooldown=10.0, patience=0.1, clock=lambda: now)
        circuit.enter()  # a thread that the others leave no processor to
        for _ in range(20):
            now += 0.05
            circuit.succeed(circuit.enter())
        now += 0.11
        with pytest.raises(CircuitOpen):
            circuit.enter()


FORKS = """
    import json, os, signal, sys, threading
    from django.conf import settings
    from testproject.caches import caches_from
    settings.configure(CACHES=caches_from(sys.argv[1], None))
    from django_jinja_bccache import DjangoBytecodeCache
    from tests.test_concurrency import wrong_pages

    cache = DjangoBytecodeCache(key="k", deadline=float(sys.argv[2]))
    assert wrong_pages(cache, 0) == []
    stop = threading.Event()

    def work():
        seed = 0
        while not stop.is_set():
            assert wrong_pages(cache, seed) == []
            seed += 1

    # Forks find the cache in use by other threads: its lock and its connections are busy.
    users = [threading.Thread(target=work) for _ in range(3)]
    for user in users:
        user.start()
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            signal.alarm(50)  # rather than wait for ever
            before = cache.statistics
            wrong = [name for seed in range(10) for name in wrong_pages(cache, seed)]
            after = cache.statistics
            counts = [after.hits - before.hits, after.misses - before.misses, after.errors]
            os._exit(0 if wrong == [] and counts == [400, 0, 0] else 1)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    stop.set()
    for user in users:
        user.join()
    final = cache.statistics
    print(json.dumps([codes, final.misses, final.errors, final.rejected]))
    sys.stdout.flush()
    os._exit(0)
"""


class TestForks:
    def test_children_of_a_busy_process_and_their_parent_never_mix_up_answers(self, backend):
        assert run_script(FORKS, backend.url, PATIENT).result == [[0, 0, 0, 0], len(SOURCES), 0, 0]


APPLICATION = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
os.environ.update(DJANGO_SETTINGS_MODULE="testproject.settings", BYTECODE_CACHE=sys.argv[2])
from django.conf import settings
# Without templates in memory every request asks the bytecode cache for each of its own.
settings.TEMPLATES[0]["OPTIONS"] |= {
    "cache_size": 0, "bytecode_cache": {"deadline": float(sys.argv[4])}
}
from django.template import engines
import uvicorn
from testproject.asgi import application

async def with_statistics(scope, receive, send):
    if scope["type"] != "http" or scope["path"] != "/statistics":
        return await application(scope, receive, send)
    found = engines["jinja2"].env.bytecode_cache.storage.recorder.snapshot(None, None)
    body = json.dumps([found.hits, found.misses, found.stores, found.errors]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

uvicorn.run(with_statistics, port=int(sys.argv[3]), lifespan="off", log_level="warning")
"""


class Uvicorn(Server):
    """The site under ASGI, in a process of its own."""

    def __init__(self, bytecode_cache: str) -> None:
        super().__init__()
        self.bytecode_cache = bytecode_cache

    def command(self) -> list[str]:
        arguments = [str(ROOT), self.bytecode_cache, str(self.port), str(PATIENT)]
        return [sys.executable, "-c", APPLICATION, *arguments]

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/statistics").status_code == 200
        except httpx.HTTPError:
            return False


PATHS = ("/", "/plants/", "/plants/all/", "/help/delivery/", "/growers/")


@pytest.fixture
def expected() -> dict[str, str]:
    with override_settings(TEMPLATES=templates_with(bytecode_cache=None)):
        return {path: Client().get(path).text for path in PATHS}


class TestRequests:
    @pytest.fixture
    def site(self, backend):
        with Uvicorn(backend.url) as server:
            yield f"http://{server.address}"

    def fifty(self, site: str, at_once: int) -> dict[str, set[str]]:
        """What fifty requests get from each path, so many of them at once."""

        async def ask() -> dict[str, set[str]]:
            pages: dict[str, set[str]] = {path: set() for path in PATHS}
            turns = asyncio.Semaphore(at_once)
            async with httpx.AsyncClient(base_url=site, timeout=60) as client:

                async def one(path: str) -> None:
                    async with turns:
                        response = await client.get(path)
                    pages[path].add(response.text)

                await asyncio.gather(*(one(path) for path in PATHS * 10))
            return pages

        return asyncio.run(ask())

    def test_under_asgi_pages_are_right_and_connections_few(self, site, expected, connections):
        once = {path: {text} for path, text in expected.items()}
        assert self.fifty(site, at_once=1) == once
        hits, misses, stores, errors = httpx.get(f"{site}/statistics").json()
        assert misses == stores < hits
        assert errors == 0
        # Each of 50 requests had a thread of its own, and ended with request_finished.
        assert connections() <= 1

        assert self.fifty(site, at_once=50) == once
        assert connections() <= 50
        after = connections()
        assert self.fifty(site, at_once=1) == once
        assert connections() == after
        assert httpx.get(f"{site}/statistics").json() == [3 * hits + 2 * misses, misses, stores, 0]
