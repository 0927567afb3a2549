"""Checkouts of one site, each of a release with texts of its own, and servers that run them."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment

from testproject.caches import memcached_cache
from tests.servers.gunicorn import Answer, Gunicorn
from tests.sites import Site

SOURCES = {
    "base.html": "<title>MARK</title>{% block body %}{% endblock %}<hr>MARK",
    "home.html": "{% extends 'base.html' %}{% block body %}MARK & {% include 'part.html' %}"
    "{% endblock %}",
    "part.html": "<p>MARK {{ 'moss & ivy' }}</p>",
    "shop/item.html": "{% macro item(name) %}<li>MARK {{ name|upper }}</li>{% endmacro %}",
    "shop/list.html": "{% extends 'base.html' %}{% from 'shop/item.html' import item %}"
    "{% block body %}{% for name in ['moss', 'ivy'] %}{{ item(name) }}{% endfor %}MARK"
    "{% include 'part.html' %}{% endblock %}",
}
PAGES = ("home.html", "shop/list.html", "part.html")
MARK = re.compile(r"text-of-\w+")
WORKERS, THREADS = 1, 2
VISITORS = 4
# Nothing here is about a store that is slow, and the machine may be busy.
PATIENCE = {"deadline": 10}


def sources_of(text: str, filler: str = "") -> dict[str, str]:
    """The templates of a release whose every template shows this text.

    Args:
        text: The text.
        filler: Makes each template bigger, and no page.
    """
    return {
        name: source.replace("MARK", f"text-of-{text}") + f"{{% if filled %}}{filler}{{% endif %}}"
        for name, source in SOURCES.items()
    }


def pages_of(text: str) -> dict[str, str]:
    """What Jinja2 alone makes of them."""
    environment = Environment(loader=DictLoader(sources_of(text)), autoescape=True)
    return {name: environment.get_template(name).render() for name in PAGES}


def texts_in(pages: Mapping[str, str]) -> set[str]:
    """The texts of all releases of which anything is shown."""
    return {
        mark.removeprefix("text-of-") for page in pages.values() for mark in MARK.findall(page)
    }


class Checkout(Site):
    """A release of the site, in a directory of its own.

    Args:
        place: Where to put it.
        address: memcached's.
        text: What all of its templates show.
        release: The name of its release, if it has one.
        option: More of the engine's option `bytecode_cache`, another class perhaps.
    """

    def __init__(
        self,
        place: Path,
        address: str,
        text: str,
        release: str | None = None,
        **option: Any,
    ) -> None:
        store = {} if "class" in option else {"alias": "default"}
        cache = {**store, "release": release, **PATIENCE, **option}
        super().__init__(place, {"default": memcached_cache([address])}, cache)
        for file in (place / "templates").rglob("*.html"):
            file.unlink()
        self.show(text)
        self.settings |= {
            "ALLOWED_HOSTS": ["127.0.0.1"],
            "MIDDLEWARE": ["tests.lifecycle.pages.counting"],
            "ROOT_URLCONF": "tests.lifecycle.pages",
            # No process keeps a template, so each request loads its own.
            "TEMPLATES": [self.engine(cache_size=0)],
        }

    def show(self, text: str, filler: str = "") -> None:
        """Have all templates show another text."""
        for name, source in sources_of(text, filler).items():
            self.write(f"templates/{name}", source)

    def warm(self, *arguments: str) -> str:
        """Run `warm_bytecode`, which must succeed; return what it prints."""
        done = self.manage("warm_bytecode", *arguments)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def server(self) -> "CheckoutServer":
        """A server of it, not started yet; some process must have been run before."""
        return CheckoutServer(
            {
                "DJANGO_SETTINGS_MODULE": self.settings_module,
                "PYTHONPATH": self.environment["PYTHONPATH"],
                "PYTHONDONTWRITEBYTECODE": "1",
            }
        )


class CheckoutServer(Gunicorn):
    """gunicorn with one worker of two threads."""

    def command(self) -> list[str]:
        *command, application = super().command()
        return [*command, "--workers", str(WORKERS), "--threads", str(THREADS), application]

    def page(self, name: str) -> Answer:
        with self.connection() as ask:
            return ask(f"/{name}")


def alternate(servers: Sequence[Gunicorn], requests: int) -> list[list[Answer]]:
    """Ask the servers in turn, several visitors at once, for one page after the other.

    Returns:
        The answers of each server, in the order of `PAGES`, over and over.
    """
    each = requests // VISITORS
    assert each % (len(servers) * len(PAGES)) == 0

    def visit(_: int) -> list[list[Answer]]:
        answers: list[list[Answer]] = [[] for _ in servers]
        with servers[0].connection() as first, servers[1].connection() as second:
            asks = (first, second)
            for number in range(each):
                name = PAGES[number // len(servers) % len(PAGES)]
                turn = number % len(servers)
                answers[turn].append(asks[turn](f"/{name}"))
        return answers

    with ThreadPoolExecutor(VISITORS) as visitors:
        visits = list(visitors.map(visit, range(VISITORS)))
    return [[answer for one in visits for answer in one[turn]] for turn in range(len(servers))]


def assert_all_show(answers: Sequence[Answer], text: str) -> None:
    """Each of these answers is the page of that release, whole."""
    right = pages_of(text)
    expected = [right[PAGES[number % len(PAGES)]] for number in range(len(answers))]
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert [answer.body.decode() for answer in answers] == expected


def counted(answers: Sequence[Answer], name: str) -> int:
    """What the processes that gave these answers have counted in the end."""
    highest: dict[int, int] = {}
    for answer in answers:
        process = answer.counts["process"]
        highest[process] = max(highest.get(process, 0), answer.counts[name])
    assert highest
    return sum(highest.values())
