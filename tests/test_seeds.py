"""What Jinja2's own documentation shows of bytecode caches works with this package's classes."""

import inspect
import io
import os
import sqlite3
import tempfile
from contextlib import closing
from datetime import datetime
from glob import glob
from types import CodeType

import jinja2
import memcache
import pytest
from jinja2 import Environment, FileSystemLoader
from jinja2.bccache import Bucket, BytecodeCache

from django_jinja_bccache import (
    CacheEntry,
    CacheStatistics,
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    MemcachedBytecodeCache,
    RedisBytecodeCache,
    SQLiteBytecodeCache,
    TieredBytecodeCache,
)
from django_jinja_bccache.exceptions import StoreError

METHODS = (
    *("load_bytecode", "dump_bytecode", "clear", "get_cache_key"),
    *("get_source_checksum", "get_bucket", "set_bucket"),
)


@pytest.fixture
def templates(tmp_path):
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "page.html").write_text("Hello {{ name }}")
    return folder


@pytest.fixture
def mc(memcached):
    client = memcache.Client([memcached.address])
    yield client
    client.disconnect_all()


class MinimalClient:
    """The minimal interface that MemcachedBytecodeCache documents, and nothing more."""

    def __init__(self, client: memcache.Client) -> None:
        self._client = client

    def set(self, key, value, *timeout):
        assert all(isinstance(seconds, int) for seconds in timeout)
        self._client.set(key, value, *timeout)

    def get(self, key):
        return self._client.get(key)


def loaded_in_new_processes(templates, *caches, **options) -> list[tuple[int, int]]:
    """Hits and misses of each cache, one after the other, for the documents' page."""
    counts = []
    for cache in caches:
        env = Environment(loader=FileSystemLoader(templates), bytecode_cache=cache, **options)
        for _ in range(2):
            assert env.get_template("page.html").render(name="World") == "Hello World"
        counts.append((cache.statistics.hits, cache.statistics.misses))
    return counts


class TestUsage:
    def test_file_system(self, templates, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        cache_dir = os.path.join(tempfile.gettempdir(), "jinja2_cache")
        os.makedirs(cache_dir, exist_ok=True)
        made = [FileSystemBytecodeCache(cache_dir) for _ in range(2)]
        assert loaded_in_new_processes(templates, *made) == [(0, 1), (1, 0)]
        patterned = FileSystemBytecodeCache(cache_dir, "%s.cache")
        assert loaded_in_new_processes(templates, patterned) == [(0, 1)]
        assert len(os.listdir(cache_dir)) == 2
        assert len(glob(f"{cache_dir}/__jinja2_*.cache")) == 1
        default = FileSystemBytecodeCache()
        assert loaded_in_new_processes(templates, default) == [(0, 1)]
        assert os.path.dirname(default.directory) == str(tmp_path)

    def test_memcached(self, templates, mc, memcached):
        made = [MemcachedBytecodeCache(mc, timeout=3600) for _ in range(2)]
        assert loaded_in_new_processes(templates, *made) == [(0, 1), (1, 0)]
        [key] = memcached.keys()
        assert key.startswith("jinja2/bytecode/")

    def test_any_client_with_get_and_set(self, templates, mc):
        client = MinimalClient(mc)
        made = [MemcachedBytecodeCache(client, "prefix:", timeout, True) for timeout in (60, None)]
        assert loaded_in_new_processes(templates, *made) == [(0, 1), (1, 0)]

    def test_redis(self, templates, redis):
        with redis.client() as r, redis.client(decode_responses=True) as of_texts:
            made = [RedisBytecodeCache(r), RedisBytecodeCache(of_texts, "jinja2:", 3600)]
            assert loaded_in_new_processes(templates, *made) == [(0, 1), (1, 0)]
            [key] = redis.keys()
            assert key.startswith("jinja2:")
            assert 3500 < r.ttl(key) <= 3600
            r.mset({f"other:{number}": "1" for number in range(100_000)})
            assert len(list(made[0].entries())) == 1
            made[0].clear()
            assert r.get(key) is None
            assert r.dbsize() == 100_000

    def test_sqlite(self, templates, tmp_path):
        database_path = tmp_path / "bytecode.sqlite3"
        made = [SQLiteBytecodeCache(database_path), SQLiteBytecodeCache(str(database_path))]
        assert loaded_in_new_processes(templates, *made) == [(0, 1), (1, 0)]
        with closing(sqlite3.connect(database_path)) as conn:
            assert conn.execute("SELECT count(*) FROM entry").fetchone() == (1,)
            made[0].clear()
            assert conn.execute("SELECT count(*) FROM entry").fetchone() == (0,)

    def test_the_file_of_the_documents_own_sqlite_cache_is_not_touched(self, templates, tmp_path):
        database_path = tmp_path / "bytecode.sqlite3"
        with closing(sqlite3.connect(database_path)) as conn:
            conn.execute("CREATE TABLE bytecode_cache (key TEXT PRIMARY KEY, bytecode BLOB)")
        before = database_path.read_bytes()
        cache = SQLiteBytecodeCache(database_path)
        assert loaded_in_new_processes(templates, cache) == [(0, 1)]
        with pytest.raises(StoreError, match="another program's database"):
            cache.clear()
        assert database_path.read_bytes() == before

    def test_without_the_memory_cache_every_load_asks_the_bytecode_cache(
        self, templates, tmp_path
    ):
        made = [FileSystemBytecodeCache(tmp_path) for _ in range(2)]
        counts = loaded_in_new_processes(templates, *made, cache_size=0, auto_reload=False)
        assert counts == [(1, 1), (2, 0)]

    def test_a_cache_of_the_users_own_stays_possible_beside_ours(self, templates, tmp_path):
        class MyCache(BytecodeCache):
            def load_bytecode(self, bucket):
                file = tmp_path / bucket.key
                if file.exists():
                    bucket.bytecode_from_string(file.read_bytes())

            def dump_bytecode(self, bucket):
                (tmp_path / bucket.key).write_bytes(bucket.bytecode_to_string())

        env = Environment(loader=FileSystemLoader(templates), bytecode_cache=MyCache())
        assert env.get_template("page.html").render(name="World") == "Hello World"
        ours = FileSystemBytecodeCache(tmp_path)
        bucket = Bucket(env, "key", "checksum")
        bucket.bytecode_from_string(next(tmp_path.glob("?" * 40)).read_bytes())
        ours.load_bytecode(bucket)
        assert bucket.code is None


class TestInterface:
    @pytest.mark.parametrize(
        ("ours", "jinja2s"),
        [
            (MemcachedBytecodeCache, jinja2.MemcachedBytecodeCache),
            (FileSystemBytecodeCache, jinja2.FileSystemBytecodeCache),
        ],
    )
    def test_a_class_takes_jinja2s_arguments_in_jinja2s_order(self, ours, jinja2s):
        def arguments(cls):
            return [
                (item.name, item.default) for item in inspect.signature(cls).parameters.values()
            ]

        assert arguments(ours)[: len(arguments(jinja2s))] == arguments(jinja2s)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "cls",
        [
            DjangoBytecodeCache,
            MemcachedBytecodeCache,
            RedisBytecodeCache,
            SQLiteBytecodeCache,
            FileSystemBytecodeCache,
            TieredBytecodeCache,
        ],
    )
    def test_a_method_takes_jinja2s_arguments(self, cls, method):
        assert issubclass(cls, BytecodeCache)
        expected = inspect.signature(getattr(BytecodeCache, method)).parameters
        parameters = inspect.signature(getattr(cls, method)).parameters
        assert [(item.name, item.default) for item in parameters.values()] == [
            (item.name, item.default) for item in expected.values()
        ]

    def test_every_method_does_what_the_document_says(self, backend):
        cache, env = DjangoBytecodeCache(), Environment()
        source = "Hello {{ name }}"
        key = cache.get_cache_key("page.html", filename="/srv/page.html")
        checksum = cache.get_source_checksum(source)
        assert isinstance(key, str)
        assert isinstance(checksum, str)
        bucket = cache.get_bucket(env, "page.html", "/srv/page.html", source)
        assert isinstance(bucket, Bucket)
        assert isinstance(bucket.code, CodeType)
        cache.set_bucket(bucket)
        code = bucket.code
        bucket.reset()
        assert bucket.code is None
        cache.load_bytecode(bucket)
        assert bucket.code.co_code == code.co_code
        cache.dump_bytecode(bucket)
        cache.clear()
        cache.load_bytecode(bucket)
        assert bucket.code is None

    def test_every_method_of_a_bucket_does_what_the_document_says(self, backend):
        cache, env = DjangoBytecodeCache(), Environment()
        bucket = Bucket(environment=env, key="key", checksum="checksum")
        bucket.code = env.compile("Hello", "page.html")
        string = bucket.bytecode_to_string()
        assert isinstance(string, bytes)
        cache.dump_bytecode(bucket)
        bucket.reset()
        cache.load_bytecode(bucket)
        assert bucket.bytecode_to_string() == string
        bucket.reset()
        bucket.bytecode_from_string(string)
        written = io.BytesIO()
        bucket.write_bytecode(written)
        assert written.getvalue() == string
        bucket.reset()
        bucket.load_bytecode(io.BytesIO(string))
        assert env.template_class.from_code(env, bucket.code, {}).render() == "Hello"


class TestManagement:
    def test_statistics_have_every_attribute_of_the_document(self, backend, templates):
        made = DjangoBytecodeCache(), DjangoBytecodeCache()
        assert loaded_in_new_processes(templates, *made) == [(0, 1), (1, 0)]
        statistics = made[1].statistics
        assert isinstance(statistics, CacheStatistics)
        assert (statistics.hits, statistics.misses, statistics.hit_ratio) == (1, 0, 1.0)
        assert statistics.size > 0
        assert statistics.max_size is None or statistics.max_size > statistics.size

    def test_an_entry_has_every_attribute_of_the_document(self, backend, templates):
        cache = DjangoBytecodeCache()
        loaded_in_new_processes(templates, cache)
        [entry] = cache.entries()
        assert isinstance(entry, CacheEntry)
        assert entry.key
        assert entry.checksum == cache.get_source_checksum("Hello {{ name }}")
        assert isinstance(entry.bytecode, bytes)
        assert isinstance(entry.created_at, datetime)
        assert isinstance(entry.accessed_at, datetime)
