"""A server of the site while its files or its SQLite file are ill: each of 200 pages is right."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.visits import PATIENCE, Visited, Watch, total

NOBODY = 65_534
# Those who write to one SQLite file at the same time wait for one another.
DEADLINE = 3.0
STORES = {
    "files": {"class": "django_jinja_bccache.FileSystemBytecodeCache"},
    "sqlite": {"class": "django_jinja_bccache.SQLiteBytecodeCache"},
}


class Place:
    """Where the entries are: a directory with files, or with one SQLite file in it."""

    def __init__(self, store: str, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "bytecode.sqlite3" if store == "sqlite" else None
        where = {"database_path": str(self.database)} if self.database else {}
        self.option = {
            **STORES[store],
            **(where or {"directory": str(directory)}),
            **PATIENCE,
            "deadline": DEADLINE,
        }

    def paths(self) -> list[Path]:
        return [path for path in self.directory.iterdir() if path.is_file()]


@pytest.fixture
def place(store, tmp_path) -> Place:
    return Place(store, tmp_path / "cache")


@pytest.fixture
def site(place, serve, tmp_path) -> Visited:
    """The site with a warm store; it has to obey permissions."""
    site = serve(f"file://{tmp_path}/unused", place.option, obeys_permissions=True)
    site.warm()
    return site


@contextmanager
def read_only(place: Place) -> Iterator[None]:
    modes = {path: path.stat().st_mode for path in place.paths()}
    for path in modes:
        path.chmod(0o400)
    place.directory.chmod(0o500)
    yield
    place.directory.chmod(0o700)
    for path, mode in modes.items():
        with suppress(FileNotFoundError):
            path.chmod(mode)


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Another process does not come to an end with what it writes."""
    script = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "connection.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(place.database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate(timeout=10)


@contextmanager
def foreign(place: Place) -> Iterator[None]:
    """The directory belongs to somebody who lets nobody else in."""
    owner = os.geteuid()
    if owner == 0:
        os.chown(place.directory, NOBODY, NOBODY)
    else:
        place.directory.chmod(0)
    yield
    if owner == 0:
        os.chown(place.directory, 0, 0)
    place.directory.chmod(0o700)


def spoil_header(place: Place) -> None:
    with place.database.open("r+b") as file:
        file.write(b"\xff" * 100)


def truncate(place: Place) -> None:
    for path in place.paths():
        os.truncate(path, path.stat().st_size // 2)


@contextmanager
def spoilt_header(place: Place) -> Iterator[None]:
    spoil_header(place)
    yield
    remove(place)


@contextmanager
def truncated_database(place: Place) -> Iterator[None]:
    with closing(sqlite3.connect(place.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(place.database, place.database.stat().st_size // 2)
    yield
    remove(place)


def remove(place: Place) -> None:
    for path in place.paths():
        path.unlink()


Fault = Callable[[Place], AbstractContextManager[None]]
Kind = tuple[str, str]
NOT_SEEN_BY_OPEN_CONNECTIONS = {("sqlite", "read-only"), ("sqlite", "corrupt header")}
REFUSALS: dict[Kind, Fault] = {
    ("files", "read-only"): read_only,
    ("sqlite", "read-only"): read_only,
    ("sqlite", "locked"): locked,
}
OUTAGES: dict[Kind, Fault] = {
    ("sqlite", "corrupt header"): spoilt_header,
    ("sqlite", "truncated"): truncated_database,
}


def refuses_to_store(site: Visited) -> set[int]:
    """Two hundred pages while nothing can be stored; return the processes that found it out."""
    watch = Watch()
    counts = site.visit(site.requests())
    assert total(counts, "hits") > 0
    assert total(counts, "misses") > 0
    for each in counts.values():
        assert 1 <= each["errors"] <= watch.tries
    assert site.news() == {process: ["WARNING"] for process in counts}
    return set(counts)


@contextmanager
def befallen(place: Place, site: Visited, fault: Fault, kind: Kind) -> Iterator[None]:
    """The site with a fault that its processes notice."""
    if kind not in NOT_SEEN_BY_OPEN_CONNECTIONS:
        with fault(place):
            yield
        return
    site.stop()
    with fault(place):
        site.start()
        yield


@pytest.mark.parametrize(("store", "fault"), REFUSALS)
def test_a_place_that_cannot_be_written_is_read_and_told_of_once(place, site, store, fault):
    with befallen(place, site, REFUSALS[store, fault], (store, fault)):
        processes = refuses_to_store(site)
    if (store, fault) == ("sqlite", "read-only"):
        # Of the connections that were opened meanwhile each fails once before it is replaced.
        site.stop()
        site.start()
    else:
        site.recovers(processes)
    site.is_well()


@pytest.mark.parametrize(("store", "fault"), OUTAGES)
def test_a_place_that_cannot_be_read_is_tried_once_in_a_cooldown_and_told_of_once(
    place, site, store, fault
):
    with befallen(place, site, OUTAGES[store, fault], (store, fault)):
        watch = Watch()
        counts = site.visit(site.requests())
        assert total(counts, "misses") > 0
        for each in counts.values():
            assert 1 <= each["errors"] <= watch.tries
        assert site.news() == {process: ["WARNING"] for process in counts}
    site.recovers(counts)
    site.is_well()


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("fault", ["foreign owner"])
def test_somebody_elses_directory_is_left_alone_and_told_of(place, site, store, fault):
    with foreign(place):
        watch = Watch()
        counts = site.visit(site.requests())
        assert total(counts, "hits", "stores") == 0
        owed = site.flickers(counts, watch)
        assert owed.keys() == counts.keys()
    site.recovers(owed.elements())
    site.is_well()


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("fault", ["directory gone"])
def test_a_directory_that_is_gone_is_made_again(place, site, store, fault):
    shutil.rmtree(place.directory)
    counts = site.visit(site.requests())
    assert total(counts, "misses") > 0
    assert total(counts, "stores") > 0
    assert total(counts, "errors") == 0
    assert place.directory.is_dir()
    assert site.news() == {}
    site.is_well()


@pytest.mark.parametrize(("store", "fault"), [("files", "truncated")])
def test_files_that_were_cut_short_are_written_again(place, site, store, fault):
    truncate(place)
    counts = site.visit(site.requests())
    assert total(counts, "rejected") > 0
    assert total(counts, "errors") == 0
    assert site.news() == {}
    site.is_well()


class Disk:
    """A small file system, or a limit for the site's files where none may be mounted.

    Args:
        directory: Where it is.
        is_mounted: Whether it is one of its own.
    """

    def __init__(self, directory: Path, *, is_mounted: bool) -> None:
        self.directory = directory
        self.is_mounted = is_mounted

    @contextmanager
    def full(self, processes: set[int]) -> Iterator[None]:
        if not self.is_mounted:
            limit = resource.RLIMIT_FSIZE
            before = {process: resource.prlimit(process, limit) for process in processes}
            for process, (_soft, hard) in before.items():
                # More than the log has, and less than any entry.
                resource.prlimit(process, limit, (1500, hard))
            yield
            for process, limits in before.items():
                resource.prlimit(process, limit, limits)
            return
        filling = self.directory / "filling"
        with filling.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
        filling.unlink()


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(directory)]
    is_mounted = (
        os.geteuid() == 0
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    yield Disk(directory, is_mounted=is_mounted)
    if is_mounted:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("fault", ["disk full"])
def test_a_full_disk_is_read_and_told_of_once(disk, serve, tmp_path, store, fault):
    place = Place(store, disk.directory / "cache")
    site = serve(f"file://{tmp_path}/unused", place.option)
    processes = set(site.warm())
    with disk.full(processes):
        assert refuses_to_store(site) == processes
    site.recovers(processes)
    site.is_well()
