"""Visits to the site while its store is ill: every page right, what is counted, what is logged."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from django.template import engines
from django.test import Client, override_settings

from tests.engines import templates_with
from tests.servers.gunicorn import THREADS, WORKERS, Gunicorn

DEADLINE, COOLDOWN = 1.0, 1.0
PATIENCE = {"deadline": DEADLINE, "cooldown": COOLDOWN}
LONGEST = 30.0
"""Seconds after which a test no longer believes that anything will change."""

SITE_PAGES = (
    "/",
    "/plants/",
    "/help/delivery/",
    "/account/orders/",
    "/basket/",
    "/journal/",
    "/company/terms/",
    "/search/?q=fern",
)
GENERATED = [f"/generated/page-{number}/" for number in range(1200)]
WELL_KNOWN, NEW = GENERATED[:20], GENERATED[20:]
"""Pages that are asked for before the store falls ill, and those that are not."""

BASE = "<title>{% block title %}{% endblock %}</title>\n{% block body required %}{% endblock %}\n"
LINE = "<p>{{{{ name|upper }}}} {number} of {{{{ ['moss', 'ivy']|join(', ') }}}}</p>\n"
PART = "<footer>{{ name|length }}</footer>"

Counts = dict[int, Counter]
"""Process id -> what that process has counted."""
Pages = Callable[[Sequence[str]], list[bytes]]


@pytest.fixture(scope="session")
def generated_templates(tmp_path_factory) -> Path:
    """A directory with a template of its own for each generated page."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "generated").mkdir()
    (directory / "generated/base.html").write_text(BASE)
    (directory / "generated/part.html").write_text(PART)
    for page in GENERATED:
        name = page.split("/")[2]
        lines = "".join(LINE.format(number=f"{name}-{line}") for line in range(5))
        (directory / f"generated/{name}.html").write_text(
            "{% extends 'generated/base.html' %}{% block title %}{{ name }}{% endblock %}"
            f"{{% block body %}}{lines}{{% include 'generated/part.html' %}}{{% endblock %}}"
        )
    return directory


@pytest.fixture(scope="session")
def without_cache(generated_templates) -> Pages:
    """What the site answers without any cache."""
    known: dict[str, bytes] = {}

    def render(paths: Sequence[str]) -> list[bytes]:
        unknown = {path for path in paths if path not in known}
        if unknown:
            templates = templates_with(bytecode_cache=None)
            templates[0]["DIRS"] = [str(generated_templates)]
            with override_settings(TEMPLATES=templates, ROOT_URLCONF="tests.faults.site_urls"):
                assert engines["jinja2"].env.bytecode_cache is None
                known.update({path: Client().get(path).content for path in unknown})
        return [known[path] for path in paths]

    return render


class Visited:
    """The site as its visitors see it, and its log.

    Args:
        server: Where it runs.
        without_cache: What its pages are to be.
    """

    def __init__(self, server: Gunicorn, without_cache: Pages) -> None:
        self.server = server
        self._right = without_cache
        self._new = iter(NEW)
        self._counts: Counts = {}
        self._read = 0

    def new_pages(self, number: int) -> list[str]:
        """Pages whose templates no process has loaded."""
        pages = list(islice(self._new, number))
        assert len(pages) == number
        return pages

    def visit(self, paths: Sequence[str]) -> Counts:
        """Ask for pages, which must all be right; return what each process counted meanwhile."""
        before = {process: counts.copy() for process, counts in self._counts.items()}
        answers = self.server.get(paths)
        for path, answer, right in zip(paths, answers, self._right(paths), strict=True):
            assert (path, answer.status) == (path, 200)
            assert (path, answer.body) == (path, right)
            counts = answer.counts.copy()
            process = counts.pop("process")
            # A process never counts down.
            self._counts[process] = self._counts.get(process, Counter()) | Counter(counts)
        return {
            process: self._counts[process] - before.get(process, Counter())
            for process in {answer.counts["process"] for answer in answers}
        }

    def news(self) -> dict[int, list[str]]:
        """The levels of what each process has logged since the last look; nobody else may."""
        lines = self.server.log()[self._read :]
        self._read += len(lines)
        levels: dict[int, list[str]] = {}
        for line in lines:
            match = re.match(r"(\d+) (\w+) django_jinja_bccache: ", line)
            assert match, "\n".join(lines)
            levels.setdefault(int(match[1]), []).append(match[2])
        return levels

    def stop(self) -> None:
        """End the server, for something to be done behind its back."""
        self.server.stop()

    def start(self) -> None:
        """Start the server anew, with new processes and an empty log."""
        self.server.start()
        self._counts, self._read = {}, 0

    def warm(self) -> Counts:
        """Fill the store, and have every process use it, with all of its threads if possible.

        Where processors are busy, a thread may have gone on without a store that kept another one
        waiting: what it did not store is stored by the next visit.
        """
        self.visit([*SITE_PAGES, *WELL_KNOWN])
        end = time.monotonic() + LONGEST
        while True:
            counts = self.visit(WELL_KNOWN * 4)
            if len(counts) == WORKERS and set(sum(counts.values(), Counter())) == {"hits"}:
                assert self.news() == {}
                return counts
            assert time.monotonic() < end, counts

    def requests(self) -> list[str]:
        """Two hundred, new templates among them."""
        new = self.new_pages(60)
        known = [*WELL_KNOWN * 3, *SITE_PAGES * 2, *WELL_KNOWN * 3, *WELL_KNOWN[:4]]
        # Two of those that are known, one that is new, and again.
        mixed = [
            page for three in zip(known[::2], known[1::2], new, strict=False) for page in three
        ]
        paths = mixed + known[2 * len(new) :]
        assert len(paths) == 200
        return paths

    def flickers(self, counts: Counts, watch: "Watch") -> Counter:
        """An outage that now and then seems to be over; how often each process owes its end.

        It begins at most once in a cool-down. Each time, all threads may be on their way.
        """
        owed: Counter = Counter()
        for each in counts.values():
            assert each["errors"] <= watch.tries * (THREADS + 1)
        for process, levels in self.news().items():
            assert set(levels) <= {"WARNING", "INFO"}
            assert levels.count("WARNING") <= watch.tries
            owed[process] = levels.count("WARNING") - levels.count("INFO")
            assert owed[process] >= 0
        return owed

    def recovers(self, warned: Iterable[int]) -> None:
        """The store is well: each process finds it out by its next try, and says so.

        Args:
            warned: The processes, each as often as it has warned.
        """
        end = time.monotonic() + LONGEST
        waiting = Counter(list(warned))
        while waiting:
            assert time.monotonic() < end, waiting
            counts = self.visit(self.new_pages(8))
            for process, levels in self.news().items():
                assert set(levels) == {"INFO"}
                assert len(levels) <= waiting[process]
                waiting -= Counter({process: len(levels)})
            assert total(counts, "errors") == 0
            time.sleep(COOLDOWN / 10)

    def is_well(self) -> None:
        """What one process has stored all of them find; nothing fails, nothing is logged."""
        end = time.monotonic() + LONGEST
        while True:
            pages = self.new_pages(16)
            self.visit(pages)
            counts = self.visit(pages * 2)
            assert total(counts, "errors", "rejected") == 0
            assert self.news() == {}
            if sum(counts.values(), Counter()) == {"hits": len(pages) * 2 * 3}:
                return
            assert time.monotonic() < end, counts


def total(counts: Counts, *names: str) -> int:
    """What all processes have counted together."""
    return sum(each[name] for each in counts.values() for name in names)


class Watch:
    """How often processes may have tried a store that was ill from here on."""

    def __init__(self, cooldown: float = COOLDOWN) -> None:
        self._began = time.monotonic()
        self._cooldown = cooldown

    @property
    def tries(self) -> int:
        """Those of the threads that were on their way when it fell ill, then one by cool-down."""
        return THREADS + int((time.monotonic() - self._began) / self._cooldown)


@pytest.fixture
def serve(generated_templates, without_cache):
    """Starts the site: `serve("memcached://…")`, with the engine's option if it is another one."""
    with ExitStack() as running:

        def serve(url: str, option: Any = PATIENCE, *, obeys_permissions: bool = False) -> Visited:
            environment = {"BYTECODE_CACHE": url, "FAULT_TEMPLATES": str(generated_templates)}
            if option is not None:
                environment["FAULT_OPTION"] = json.dumps(option)
            server = Gunicorn(environment, obeys_permissions=obeys_permissions)
            return Visited(running.enter_context(server), without_cache)

        yield serve
