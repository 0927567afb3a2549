"""DatabaseCache on PostgreSQL: what goes wrong in it stays out of the site's transaction."""

import threading
import time
from contextlib import contextmanager, suppress
from copy import deepcopy

import jinja2
import pytest
from django.conf import settings
from django.core.cache import CacheKeyWarning
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.db.utils import ProgrammingError
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.exceptions import StoreError, StoreUnavailable
from tests.stores.contract import outcome
from tests.stores.opening import opened
from tests.stores.patient import OPERATIONS
from tests.stores.test_django import BACKENDS, ROOMY, DjangoContract, as_default_database

DATABASE_CACHE = f"{BACKENDS}.db.DatabaseCache"
VARCHAR = 255


@pytest.fixture
def database(postgresql, django_db_blocker):
    """PostgreSQL as the site's database, with an empty table for the cache and one for notes."""
    with as_default_database(postgresql.database), django_db_blocker.unblock():
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS cache_table; DROP TABLE IF EXISTS note")
            cursor.execute("CREATE TABLE note (body text)")
        with opened(DATABASE_CACHE, LOCATION="cache_table"):
            call_command("createcachetable")
        yield
        connection.close()


@pytest.fixture
def store(database):
    with opened(DATABASE_CACHE, LOCATION="cache_table", **ROOMY) as store:
        yield store


@pytest.fixture
def store_without_table(database):
    with opened(DATABASE_CACHE, LOCATION="no_table") as store:
        yield store


@contextmanager
def transaction_of_the_sites():
    """A transaction that must work to its end: it writes two notes, which are there afterwards."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM note; INSERT INTO note VALUES ('before')")
        yield
        cursor.execute("INSERT INTO note VALUES ('after')")
    with connection.cursor() as cursor:
        cursor.execute("SELECT body FROM note ORDER BY body")
        assert cursor.fetchall() == [("after",), ("before",)]


def words(queries: CaptureQueriesContext) -> list[str]:
    """The first word of each query that was sent."""
    return [query["sql"].split()[0] for query in queries.captured_queries]


@pytest.mark.filterwarnings(f"ignore::{CacheKeyWarning.__module__}.CacheKeyWarning")
class TestPostgreSQL(DjangoContract):
    reads_in_all = 1_000
    most_at_once = 1_000

    keeps_connections = False  # nor does Django, but for CONN_MAX_AGE
    longest_key = VARCHAR - len(":1:")

    @pytest.fixture
    def store(self, store):
        return store


class TestInATransaction:
    def test_what_is_stored_is_read(self, store):
        with transaction_of_the_sites():
            store.set("key", b"1", 100)
            assert store.get_many(["key", "other"]) == {"key": b"1"}
        assert store.get("key") == b"1"

    @pytest.mark.parametrize("name", ["get", "get_many", "set", "set_many", "delete_many"])
    def test_a_missing_table_leaves_it_whole(self, store_without_table, name):
        with transaction_of_the_sites():
            for _ in range(3):
                with pytest.raises(StoreError, match="no_table"):
                    OPERATIONS[name](store_without_table)

    @pytest.mark.filterwarnings(f"ignore::{CacheKeyWarning.__module__}.CacheKeyWarning")
    @pytest.mark.parametrize(
        "key", ["k" * 300, "x\0", "x\udcff"], ids=["long", "NUL", "surrogate"]
    )
    def test_a_key_that_the_table_does_not_take_leaves_it_whole(self, store, key):
        with transaction_of_the_sites():
            with pytest.raises(StoreError):
                store.set(key, b"1", 100)
            outcome(lambda: store.get(key))
            outcome(lambda: store.delete_many([key]))
            store.set("key", b"1", 100)

    def test_a_value_that_the_table_does_not_take_leaves_it_whole(self, store):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE cache_table ADD CHECK (length(value) < 1000)")
        with transaction_of_the_sites():
            with pytest.raises(StoreError, match="did not store 2000 bytes"):
                store.set("key", bytes(2000), 100)
            assert store.set_many({"key": bytes(2000), "good": b"1"}, 100) == ["key"]
            assert store.get("good") == b"1"

    def test_a_statement_time_out_leaves_it_whole_and_is_an_outage(self, store):
        holder = connections.create_connection("default")
        with holder.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE cache_table IN ACCESS EXCLUSIVE MODE")
            with transaction_of_the_sites(), connection.cursor() as own:
                own.execute("SET LOCAL statement_timeout = 200")
                with pytest.raises(StoreUnavailable, match="timeout"):
                    store.get("key")
                with pytest.raises(StoreUnavailable, match="timeout"):
                    store.set("key", b"1", 100)
        holder.close()

    def test_one_that_is_broken_already_stays_broken(self, store):
        with suppress(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
            with pytest.raises(ProgrammingError):
                cursor.execute("SELECT nonsense")
            with pytest.raises(StoreError):
                store.get("key")
            with pytest.raises(DatabaseError, match="aborted"):
                cursor.execute("SELECT 1")

    def test_it_is_so_where_the_site_commits_by_itself(self, store_without_table):
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO note VALUES ('kept')")
            with pytest.raises(StoreError):
                store_without_table.get("key")
            connection.commit()
            connection.set_autocommit(True)
            cursor.execute("SELECT body FROM note")
            assert cursor.fetchall() == [("kept",)]


class TestRoundTrips:
    def test_reading_outside_of_a_transaction_takes_one_query(self, store):
        store.set("key", b"1", 100)
        with CaptureQueriesContext(connection) as sent:
            assert store.get_many(["key", "other"]) == {"key": b"1"}
        assert words(sent) == ["SELECT"]

    def test_reading_inside_of_one_takes_a_savepoint_more(self, store):
        with transaction.atomic(), CaptureQueriesContext(connection) as sent:
            store.get("key")
        assert words(sent) == ["SAVEPOINT", "SELECT", "RELEASE"]


TEMPLATES = {
    "base.html": "<title>{% block title %}{% endblock %}</title>",
    "page.html": "{% extends 'base.html' %}{% block title %}Ferns{% endblock %}",
}


class TestPages:
    @pytest.fixture
    def page(self, store):
        """A page of a site that has just started, inside of a transaction; with its cache."""

        def render():
            cache = DjangoBytecodeCache()
            loader = jinja2.DictLoader(TEMPLATES)
            environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
            with transaction_of_the_sites():
                assert environment.get_template("page.html").render() == "<title>Ferns</title>"
            return cache.statistics

        return render

    def test_one_that_is_compiled_there_is_stored_for_the_next_process(self, page):
        assert page().stores == 2
        assert page().hits == 2

    def test_it_comes_all_the_same_where_there_is_no_table(self, page, caplog):
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE cache_table")
        assert page().errors == 1
        [warning] = caplog.messages
        assert "is unavailable" in warning
        assert "cache_table" in warning

    def test_it_comes_all_the_same_where_nothing_can_be_stored(self, page):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE cache_table ADD CHECK (false)")
        assert page().stores == 0

    def test_that_of_a_request_is_stored_with_atomic_requests(self, store, postgresql, client):
        atomic = {**postgresql.database, "ATOMIC_REQUESTS": True}
        connection.close()
        new_engines = override_settings(TEMPLATES=deepcopy(settings.TEMPLATES))
        with as_default_database(atomic), new_engines:
            page = client.get("/")
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM cache_table")
                assert cursor.fetchone()[0] > 0
                cursor.execute("DROP TABLE cache_table")
            connection.close()
        assert page.status_code == 200


class TestOtherTransactions:
    def test_nobody_waits_for_one_that_has_stored_the_same_and_goes_on(self, store):
        """PostgreSQL has the second wait for the end of the first."""
        outcomes = []

        def store_the_same():
            began = time.monotonic()
            for _ in range(3):
                store.set("key", b"1", 100)
                assert store.set_many({"key": b"1", "other": b"2"}, 100) == []
            with transaction.atomic():
                store.set("key", b"1", 100)
            outcomes.append(time.monotonic() - began)
            connection.close()

        with transaction.atomic():
            store.set("key", b"1", 100)
            thread = threading.Thread(target=store_the_same)
            thread.start()
            thread.join(20)
            assert len(outcomes) == 1
        thread.join()
        assert store.get_many(["key", "other"]) == {"key": b"1", "other": b"2"}


class Router:
    """Sends the cache's table to the database named "cache"."""

    def db_for_read(self, model, **hints):
        return "cache" if model._meta.app_label == "django_cache" else None

    db_for_write = db_for_read


class TestRouter:
    @pytest.fixture
    def routed(self, store, postgresql):
        connections.settings["cache"] = dict(connections.settings["default"])
        with override_settings(DATABASE_ROUTERS=[f"{__name__}.Router"]):
            yield store
        connections["cache"].close()
        del connections["cache"]
        del connections.settings["cache"]

    def test_the_savepoint_is_where_the_cache_is(self, routed):
        with transaction.atomic(using="cache"):
            with CaptureQueriesContext(connections["cache"]) as sent:
                routed.get("key")
            assert words(sent) == ["SAVEPOINT", "SELECT", "RELEASE"]
        with transaction.atomic(), CaptureQueriesContext(connections["cache"]) as sent:
            routed.get("key")
        assert words(sent) == ["SELECT"]
