"""The Debug Toolbar's panel, as a developer sees it in a browser."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.browser.development import (
    PANEL,
    Developer,
    DevelopmentServer,
    developer,
    environment_for,
    take_screenshot,
)
from tests.scripts import ROOT
from tests.servers.server import free_port

PAGE = "/plant/jade-plant/"
ASYNC_PAGE = "/plant/jade-plant/availability/"
TEMPLATE = "{% extends 'base.html' %}{% block main %}A page{% endblock %}"

Serve = Callable[..., DevelopmentServer]


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    directory = tmp_path / "templates"
    directory.mkdir()
    return directory


@pytest.fixture
def serve(tmp_path: Path, templates: Path) -> Iterator[Serve]:
    """Starts the site in a new process; two of them share what is stored."""
    with ExitStack() as servers:

        def start(bytecode_cache: str = f"file://{tmp_path}/cache", **options):
            environment = environment_for(bytecode_cache, templates)
            return servers.enter_context(DevelopmentServer(environment, **options))

        yield start


@pytest.fixture
def visitor() -> Iterator[Developer]:
    with developer() as somebody:
        yield somebody
        assert somebody.complaints == []


def warm(server: DevelopmentServer) -> None:
    """Run warm_bytecode for a server's site."""
    subprocess.run(
        [sys.executable, "-m", "django", "warm_bytecode"],
        env=server.environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_a_cold_page_was_compiled_and_its_second_visit_loads_nothing(serve, visitor):
    url = serve().url + PAGE
    headers = visitor.visit(url)
    visitor.panel()
    take_screenshot(visitor.page, "panel-cold")

    rows = visitor.rows("loaded")
    assert rows[0]["Template"] == "shop/product.html"
    assert {row["From"] for row in rows} == {"compiled: absent"}
    for row in rows:
        assert row["Size"].endswith(("KB", "bytes"))
        steps = ("Fetching", "Loading", "Compiling", "Storing")
        assert all(row[step].endswith(" ms") for step in steps)
    count = str(len(rows))
    [summary] = visitor.rows("Summary")
    assert (summary["Templates"], summary["Compiled"]) == (count, count)
    assert visitor.subtitle.startswith(f"{count} templates, {count} compiled in ")
    for step in ("fetching", "loading", "compiling", "storing"):
        assert f"{PANEL}_{step};dur=" in headers["server-timing"]

    visitor.visit(url)
    assert visitor.subtitle == "No template loaded"
    content = visitor.panel().inner_text()
    assert "loaded no template that was not in this process's memory already" in content
    assert visitor.facts("this process since its start")["Templates in memory now"] == count


def test_a_warm_page_came_from_packs(serve, visitor):
    server = serve()
    warm(server)
    visitor.visit(server.url + PAGE)
    visitor.panel()
    take_screenshot(visitor.page, "panel-warm")

    rows = visitor.rows("loaded")
    assert {row["From"] for row in rows} == {"pack"}
    assert all(row["Size"].endswith("KB") for row in rows)
    assert visitor.rows("Summary")[0]["Round trips"] in {"1", "2"}
    assert {"Compiling", "Storing"}.isdisjoint(rows[0])
    assert visitor.subtitle.startswith(f"{len(rows)} templates, {len(rows)} from packs in ")
    process = visitor.facts("this process since its start")
    assert process["Found"] == f"{len(rows)} of {len(rows)} (100%)"
    settings = visitor.facts("settings of its cache")
    assert settings["Cache"] == "<DjangoBytecodeCache 'default'>"
    assert settings["timeout"] == "30 days"
    assert settings["packs"] == "yes"
    assert settings["auto_reload"] == "yes"


def test_with_the_store_down_the_panel_says_so(serve, visitor):
    visitor.visit(serve(f"memcached://127.0.0.1:{free_port()}").url + PAGE)
    content = visitor.panel()
    take_screenshot(visitor.page, "panel-store-down")

    assert {row["From"] for row in visitor.rows("loaded")} == {"compiled: store down"}
    assert visitor.subtitle.endswith(" ms, store down")
    assert visitor.rows("Summary")[0]["Compiling"].endswith(" ms")
    assert "Connection refused" in visitor.rows("failures")[0]["Message"]
    assert "The store failed, or is left alone for a while" in content.inner_text()


def test_an_async_view_is_seen_whichever_thread_it_renders_in(serve, visitor, templates):
    # The name is none that HTML could do without escaping.
    name = "<script>window.ran = 1<img src=x onerror='window.ran = 1'>.html"
    (templates / name).write_text(TEMPLATE)
    server = serve(asynchronous=True)
    visitor.visit(server.url + ASYNC_PAGE)
    visitor.panel()
    names = {row["Template"] for row in visitor.rows("loaded")}
    assert {"shop/availability.html", "base.html"} <= names

    visitor.visit(f"{server.url}/in-a-thread/?template={name}")
    assert visitor.subtitle.startswith("1 template, 1 compiled in ")
    content = visitor.panel()
    assert [row["Template"] for row in visitor.rows("loaded")] == [name]
    assert content.locator("script, img").count() == 0
    assert visitor.page.evaluate("window.ran") is None
