"""The site while its store is ill: its pages, what it counts, what it logs."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.template import engines
from django.test import Client, override_settings

from django_jinja_bccache import opening
from django_jinja_bccache.pack_reader import PackReader
from django_jinja_bccache.stores.guard import GuardedStore
from testproject.caches import caches_from
from tests.engines import templates_with

PAGES = ("/", "/plants/", "/help/delivery/", "/account/orders/")
DEADLINE, COOLDOWN = 2.0, 60.0


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    """The pages without any cache."""
    with override_settings(TEMPLATES=templates_with(bytecode_cache=None)):
        return pages()


def pages() -> list[bytes]:
    client = Client()
    responses = [client.get(page) for page in PAGES]
    assert [response.status_code for response in responses] == [200] * len(PAGES)
    return [response.content for response in responses]


class Clock:
    """The package's clock, which the tests set forward instead of waiting."""

    ahead = 0.0
    perf_counter = staticmethod(time.perf_counter)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class Watch:
    """A process of the site: its pages, and what it counts and logs from one look to the next."""

    def __init__(self, cache, caplog, clock: Clock) -> None:
        self.cache = cache
        self.log = caplog
        self.clock = clock
        self.last = self._snapshot()

    def pages(self) -> list[bytes]:
        """Render the pages with no template in memory."""
        engines["jinja2"].env.cache.clear()
        return pages()

    def wait_for_the_next_try(self) -> None:
        self.clock.ahead += COOLDOWN

    def counts(self):
        """Hits, misses, stores and errors since the last look, without asking the store."""
        last, self.last = self.last, self._snapshot()
        names = ("hits", "misses", "stores", "errors")
        return tuple(getattr(self.last, name) - getattr(last, name) for name in names)

    def _snapshot(self):
        return self.cache.storage.recorder.snapshot(None, None)

    def news(self) -> list[str]:
        """The levels of what was logged since the last look."""
        levels = [
            item.levelname for item in self.log.records if item.name == "django_jinja_bccache"
        ]
        self.log.clear()
        return levels


@pytest.fixture
def site(caplog, monkeypatch):
    """Starts the site with a store: `site("memcached://…")`, or an engine's option beside it."""
    clock = Clock()
    monkeypatch.setattr(opening, "time", clock)
    for user in (GuardedStore, PackReader):
        monkeypatch.setitem(user.__init__.__kwdefaults__, "clock", clock.monotonic)
    caplog.set_level(logging.INFO, "django_jinja_bccache")
    with ExitStack() as running:

        def start(url: str, **option: Any) -> Watch:
            running.enter_context(override_settings(CACHES=caches_from(url, Path())))
            option = option or {"cooldown": COOLDOWN, "deadline": DEADLINE}
            templates = templates_with(bytecode_cache=option)
            running.enter_context(override_settings(TEMPLATES=templates))
            cache = engines["jinja2"].env.bytecode_cache
            running.callback(lambda: cache.storage.opener.store().close())
            return Watch(cache, caplog, clock)

        yield start
