"""A server of the site while its store has no room, or is not all there: each page is right."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.visits import PATIENCE, Visited, Watch, total
from tests.servers import Redis
from tests.test_servers import eventually

URLS = {"memcached": "memcached://{}", "pylibmc": "pylibmc://{}"}


def refuses_to_store(site: Visited) -> set[int]:
    """Two hundred pages while nothing can be stored; return the processes that found it out."""
    watch = Watch()
    counts = site.visit(site.requests())
    assert total(counts, "hits") > 0  # it still answers
    assert total(counts, "misses") > 0
    for each in counts.values():
        assert 1 <= each["errors"] <= watch.tries
    assert site.news() == {process: ["WARNING"] for process in counts}
    return set(counts)


@pytest.mark.parametrize("store", URLS)
class TestMemcached:
    @pytest.mark.parametrize("fault", ["out of memory"])
    def test_one_that_is_full_is_read_and_told_of_once(
        self, serve, memcached_server, store, fault
    ):
        server = memcached_server("-M", "-m", "2").start()
        site = serve(URLS[store].format(server.address))
        site.warm()
        server.fill()
        processes = refuses_to_store(site)
        server.flush()
        site.recovers(processes)
        site.is_well()

    @pytest.mark.parametrize("fault", ["evicting"])
    def test_one_that_forgets_nearly_everything_is_no_outage(
        self, serve, memcached_server, store, fault
    ):
        server = memcached_server("-m", "1", "-I", "512k").start()
        site = serve(URLS[store].format(server.address))
        site.visit(site.requests())
        while int(server.stats()["evictions"]) == 0:
            counts = site.visit(site.new_pages(100))
            assert total(counts, "errors") == 0
        counts = site.visit(site.requests())
        assert total(counts, "misses") > 0
        assert total(counts, "hits") > 0
        assert total(counts, "errors", "rejected") == 0
        assert site.news() == {}

    @pytest.mark.parametrize("packs", [True, False], ids=["packs", "entries"])
    @pytest.mark.parametrize("fault", ["node 2 of 3 gone"])
    def test_a_node_that_is_gone_costs_its_own_entries(
        self, serve, memcached_server, store, fault, packs
    ):
        nodes = [memcached_server().start() for _ in range(3)]
        url = URLS[store].format(",".join(node.address for node in nodes))
        site = serve(url, PATIENCE | {"packs": packs})
        site.warm()
        assert all(node.keys() for node in nodes)
        nodes[1].stop()
        watch = Watch()
        counts = site.visit(site.requests())
        assert total(counts, "hits") > total(counts, "misses") / 3 > 0
        for each in counts.values():
            # A request for packs of all nodes is no error, if it is the first to meet the lost
            # one: the others have answered it.
            assert (0 if packs else 1) <= each["errors"] <= watch.tries
        warnings = [line for line in site.server.log() if nodes[1].address in line]
        assert site.news() == {process: ["WARNING"] for process in counts}
        assert len(warnings) == len(counts)

        nodes[1].start()
        site.recovers(counts)
        site.is_well()
        assert all(node.keys() for node in nodes)


class Failure:
    """What Redis refuses to write for: each begins and ends like a with block."""

    @staticmethod
    @contextmanager
    def out_of_memory(server: Redis, other: Redis) -> Iterator[None]:
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
            yield
            client.config_set("maxmemory", "0")

    @staticmethod
    @contextmanager
    def misconf(server: Redis, other: Redis) -> Iterator[None]:
        """Its snapshots cannot be written any more."""
        with server.client() as client:
            client.config_set("save", "3600 1000000")
            Path(client.config_get("dir")["dir"]).rmdir()
            client.bgsave()
            assert eventually(lambda: status(client) == "err")
            yield
            client.config_set("stop-writes-on-bgsave-error", "no")
            client.config_set("save", "")  # else it would not end without one

    @staticmethod
    @contextmanager
    def replica(server: Redis, other: Redis) -> Iterator[None]:
        """It and its replica have changed places."""
        with server.client() as client, other.client() as new_primary:
            follow(other, server)
            new_primary.replicaof("NO", "ONE")
            follow(server, other)
            yield
            client.replicaof("NO", "ONE")


def status(client) -> str:
    persistence = client.info("persistence")
    if persistence["rdb_bgsave_in_progress"]:
        return ""
    return persistence["rdb_last_bgsave_status"]


def follow(replica: Redis, primary: Redis) -> None:
    with replica.client() as client:
        client.replicaof(primary.host, primary.port)
        assert eventually(lambda: client.info("replication")["master_link_status"] == "up", 20)


FAILURES = {
    "out of memory": Failure.out_of_memory,
    "MISCONF": Failure.misconf,
    "read-only replica": Failure.replica,
}


@pytest.mark.parametrize("store", ["redis"])
@pytest.mark.parametrize("fault", FAILURES)
def test_a_redis_that_writes_nothing_is_read_and_told_of_once(
    serve, redis_server, tmp_path, store, fault
):
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    server, other = redis_server("--dir", str(snapshots)).start(), redis_server().start()
    site = serve(server.url)
    site.warm()
    with FAILURES[fault](server, other):
        processes = refuses_to_store(site)
    site.recovers(processes)
    site.is_well()


@pytest.mark.parametrize("store", ["tiers"])
@pytest.mark.parametrize("fault", ["shared out of memory"])
def test_a_shared_tier_without_room_is_told_of_once_and_local_serves(
    serve, memcached_server, tmp_path, store, fault
):
    server = memcached_server("-M", "-m", "2").start()
    local = {
        "class": "django_jinja_bccache.FileSystemBytecodeCache",
        "directory": str(tmp_path / "local"),
        **PATIENCE,
    }
    shared = {"alias": "default", **PATIENCE}
    tiers = {"class": "django_jinja_bccache.TieredBytecodeCache", "local": local, "shared": shared}
    site = serve(f"memcached://{server.address}", tiers)
    site.warm()
    server.fill()
    processes = refuses_to_store(site)
    server.flush()
    site.recovers(processes)
    site.is_well()


CLIENTS = ["memcached", "pylibmc", "redis"]


@pytest.mark.parametrize("store", CLIENTS)
@pytest.mark.parametrize(
    "fault", ["defaults, black_hole", "defaults, hang_connect", "defaults, trickle"]
)
def test_nobody_waits_who_has_set_no_time_out_anywhere(serve, proxy, request, store, fault):
    kind = "redis" if store == "redis" else "memcached"
    way = proxy(request.getfixturevalue(kind).address, mode=fault.rpartition(" ")[2])
    url = f"{store}://{way.address}" + "/0" * (store == "redis")
    site = serve(url, option=None)
    watch = Watch(cooldown=10)
    counts = site.visit(site.requests())
    assert total(counts, "hits", "stores") == 0
    for each in counts.values():
        assert 1 <= each["errors"] <= watch.tries
    assert site.news() == {process: ["WARNING"] for process in counts}
