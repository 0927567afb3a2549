"""A directory of files as a store, and what else may lie in that directory."""

import os
import struct
import time
from pathlib import Path

import jinja2
import pytest
from django.core.cache import CacheKeyWarning

from django_jinja_bccache import FileSystemBytecodeCache
from django_jinja_bccache.exceptions import (
    ConfigurationError,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.base import LARGEST_VALUE
from django_jinja_bccache.stores.filesystem import FileSystemStore
from tests.stores.contract import PREFIX, ListingContract
from tests.stores.opening import opened

FILE_BASED = "django.core.cache.backends.filebased.FileBasedCache"


class FilesContract(ListingContract):
    longest_key = 4096
    suffix = ".bytecode"

    @pytest.fixture
    def directory(self, tmp_path):
        return tmp_path / "cache"

    @pytest.fixture
    def crowd(self, directory):
        def plant(count: int) -> None:
            key = f"{PREFIX}x".encode()
            like_ours = struct.pack(">4sQH", b"jbcf", 0, len(key)) + key
            for number in range(count // 2):
                (directory / f"{number}{self.suffix}").write_bytes(like_ours)
                (directory / f"{number:040x}{self.suffix}").write_bytes(key)

        return plant


class TestDirectory(FilesContract):
    crowd_size = 100_000

    @pytest.fixture
    def store(self, directory):
        return FileSystemStore(directory)


class TestPatternOfJinja2(FilesContract):
    suffix = ".cache"

    @pytest.fixture
    def store(self, directory):
        return FileSystemStore(directory, "__jinja2_%s.cache")


@pytest.mark.filterwarnings(f"ignore::{CacheKeyWarning.__module__}.CacheKeyWarning")
class TestBesideAFileBasedCache(FilesContract):
    longest_key = 4096 - len("site:1:")

    @pytest.fixture
    def directory(self, tmp_path):
        return tmp_path / "cache" / "jinja2_bytecode"

    @pytest.fixture
    def store(self, tmp_path):
        with opened(FILE_BASED, LOCATION=tmp_path / "cache", KEY_PREFIX="site") as store:
            yield store


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def store(directory):
    return FileSystemStore(directory)


@pytest.fixture
def path(store, directory):
    """The file in which the store keeps the value ``value`` of the key ``key``."""
    store.set("key", b"value", None)
    [path] = directory.iterdir()
    return path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177, 0o777], ids=oct)
def test_only_the_owner_may_look_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        FileSystemStore(tmp_path / "a" / "b").set("key", b"1", None)
    finally:
        os.umask(before)
    [file] = (tmp_path / "a" / "b").iterdir()
    modes = [file.stat().st_mode & 0o777 for file in (tmp_path / "a", tmp_path / "a" / "b", file)]
    assert modes == [0o700, 0o700, 0o600]


def test_the_directory_is_made_when_something_is_stored_and_not_before(store, directory):
    assert store.get("key") is None
    assert store.get_many(["key"]) == {}
    assert store.delete_many(["key"]) == 0
    assert list(store.scan("")) == []
    assert store.usage().size == 0
    assert not directory.exists()
    store.set("key", b"1", None)
    assert store.get("key") == b"1"


def test_a_directory_that_was_removed_is_made_again(store, directory, path):
    path.unlink()
    directory.rmdir()
    assert store.get("key") is None
    store.set("key", b"again", None)
    assert store.get("key") == b"again"


def test_a_link_is_not_followed_and_is_replaced(store, path, tmp_path):
    target = tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    before = target.read_bytes()
    assert store.get("key") is None
    assert list(store.scan("")) == []
    store.set("key", b"own", None)
    assert store.get("key") == b"own"
    assert not path.is_symlink()
    assert target.read_bytes() == before


def test_a_link_is_removed_and_not_what_it_points_to(store, path, tmp_path):
    target = tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    assert store.delete_many(["key"]) == 1
    assert target.exists()
    assert not path.is_symlink()


@pytest.mark.timeout(20)
def test_a_named_pipe_holds_nobody_and_is_replaced(store, path):
    path.unlink()
    os.mkfifo(path)
    assert store.get("key") is None
    assert list(store.scan("")) == []
    store.set("key", b"own", None)
    assert store.get("key") == b"own"


def test_a_directory_in_a_files_place_is_a_miss_and_costs_no_descriptor(store, path):
    path.unlink()
    path.mkdir()
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        assert store.get("key") is None
        assert list(store.scan("")) == []
    assert len(os.listdir("/dev/fd")) == before
    with pytest.raises(StoreError):
        store.set("key", b"1", None)
    assert store.set_many({"key": b"1", "other": b"2"}, None) == ["key"]
    assert store.get_many(["key", "other"]) == {"other": b"2"}
    assert [name for name in os.listdir(path.parent) if ".new-" in name] == []


def test_a_file_cut_anywhere_before_its_value_is_a_miss(store, path):
    content = path.read_bytes()
    for size in range(len(content) - len(b"value")):
        path.write_bytes(content[:size])
        assert store.get("key") is None
        assert list(store.scan("key")) == []
    store.set("key", b"value", None)
    assert store.get("key") == b"value"


def test_a_file_under_another_keys_name_is_a_miss(store, path):
    store.set("other", b"other's", None)
    [other] = set(path.parent.iterdir()) - {path}
    other.replace(path)
    assert store.get("key") is None


@pytest.mark.parametrize("same_format", [True, False])
def test_a_file_of_somebody_elses_is_a_miss_and_stays(store, path, same_format):
    beside = path.with_name("notes.bytecode")
    beside.write_text("mine")
    foreign = b"JBCF" + path.read_bytes()[4:] if same_format else b"also mine"
    path.write_bytes(foreign)
    assert store.get("key") is None
    assert list(store.scan("")) == []
    assert store.delete_many([]) == 0
    assert (beside.read_text(), path.read_bytes()) == ("mine", foreign)


def test_what_killed_writers_left_goes_with_the_next_removal_once_it_is_old(store, path):
    old, new, foreign = (
        path.with_name(name)
        for name in (".new-abcd_123.bytecode", ".new-efgh4567.bytecode", ".new-year.bytecode")
    )
    for file in (old, new, foreign):
        file.write_bytes(b"half")
    for file in (old, foreign):
        os.utime(file, (time.time() - 3600,) * 2)
    store.delete_many([])
    assert {file.name for file in path.parent.iterdir()} == {path.name, new.name, foreign.name}


@pytest.mark.parametrize(
    "pattern",
    ["", "x", "%s%s", "%s-%d", "100%-%s", "%%s", "%S", "a/%s", "../%s", "%s\0", "%(key)s"],
)
def test_a_pattern_that_is_no_file_name_with_one_placeholder_is_refused(tmp_path, pattern):
    with pytest.raises(ConfigurationError, match=r"exactly one %s.*__jinja2_%s\.cache"):
        FileSystemStore(tmp_path, pattern)


@pytest.mark.parametrize("pattern", ["%s", "[v1]%s.cache", "a.*%s", "%s.ümlaut", "{%s}"])
def test_any_other_pattern_finds_its_own_files_and_no_others(tmp_path, pattern):
    store = FileSystemStore(tmp_path, pattern)
    store.set_many({"a": b"1", "b": b"2"}, None)
    (tmp_path / pattern.replace("%s", "keep")).write_text("mine")
    assert sorted(item.key for item in store.scan("")) == ["a", "b"]
    assert store.delete_many(["a", "b"]) == 2
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("pattern", ["%s.cache", "[v1]%s.cache"])
def test_clear_removes_every_entry_and_nothing_else(tmp_path, pattern):
    cache = FileSystemBytecodeCache(tmp_path / "cache", pattern, key="secret")
    cache.clear()  # the directory is not there yet
    loader = jinja2.DictLoader({"a.html": "a", "b.html": "b"})
    environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
    for name in loader.mapping:
        environment.get_template(name)
    keep = tmp_path / "cache" / "keep.cache"
    keep.write_text("mine")
    assert len(os.listdir(keep.parent)) == 3
    cache.clear()
    assert list(keep.parent.iterdir()) == [keep]


def test_a_directory_below_a_file_is_out_of_reach(tmp_path):
    (tmp_path / "file").write_text("")
    store = FileSystemStore(tmp_path / "file" / "cache")
    for operation in (
        lambda: store.get("key"),
        lambda: store.get_many(["key"]),
        lambda: list(store.scan("")),
        store.usage,
    ):
        with pytest.raises(StoreUnavailable):
            operation()
    with pytest.raises(StoreError):
        store.set("key", b"1", None)
    assert store.set_many({"key": b"1"}, None) == ["key"]
    with pytest.raises(StoreError):
        store.delete_many(["key"])


def test_a_value_beyond_the_limit_is_too_large(store):
    big = bytes(LARGEST_VALUE + 1)
    with pytest.raises(ValueTooLarge) as caught:
        store.set("big", big, None)
    assert (caught.value.size, caught.value.limit) == (len(big), LARGEST_VALUE)
    assert store.set_many({"a": b"1", "big": big, "b": b"2"}, None) == ["big"]
    assert store.get_many(["a", "big", "b"]) == {"a": b"1", "b": b"2"}


def test_where_there_are_no_temporary_files_the_default_directory_costs_no_page(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    cache = FileSystemBytecodeCache(key="secret")
    loader = jinja2.DictLoader({"a.html": "a page"})
    environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
    assert environment.get_template("a.html").render() == "a page"
    assert cache.statistics.miss_reasons == {"store down": 1}


def test_a_relative_directory_is_one(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FileSystemStore("relative/cache").set("key", b"1", None)
    assert FileSystemStore(tmp_path / "relative" / "cache").get("key") == b"1"
