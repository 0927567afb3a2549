"""Checkouts at different paths share entries, and each sees its own paths in its errors."""

import traceback
from pathlib import Path

import pytest
from django.shortcuts import render
from django.template import engines
from django.test import Client, override_settings
from django.urls import path
from jinja2 import DictLoader, Environment, FileSystemLoader

from django_jinja_bccache import DjangoBytecodeCache, FileSystemBytecodeCache

TEMPLATES = {
    "base.html": "<title>{% block title %}{% endblock %}</title>{% block body %}{% endblock %}",
    "list.html": "{% extends 'base.html' %}{% block body %}"
    "{% include 'item.html' %}{% endblock %}",
    "item.html": "{% from 'macros/prices.html' import price %}{{ price(0.5) }}",
    "macros/prices.html": "{% macro price(part) %}\n{{ 1 / part }}\n{% endmacro %}",
    "failing.html": "{% extends 'base.html' %}\n{% from 'macros/prices.html' import price %}\n"
    "{% block body %}\n  {{ price(0) }}\n{% endblock %}",
    "broken.html": "a\nb\n{% include 'unclosed.html' %}",
    "unclosed.html": "\n\n{% if true %}",
}
WORKING = [name for name in TEMPLATES if name != "unclosed.html"]


@pytest.fixture
def checkouts(tmp_path: Path) -> list[Path]:
    """Two directories with the same templates."""
    directories = [tmp_path / "release 1" / "pages", tmp_path / "release 2" / "web" / "pages"]
    for directory in directories:
        for name, source in TEMPLATES.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
    return directories


def environment_of(directory: Path, cache: object) -> Environment:
    return Environment(loader=FileSystemLoader(directory), bytecode_cache=cache)


def test_a_second_checkout_compiles_nothing(backend, checkouts):
    texts = []
    for directory in checkouts:
        cache = DjangoBytecodeCache(deadline=10)
        environment = environment_of(directory, cache)
        for name in WORKING:
            environment.get_template(name)
        texts.append(environment.get_template("list.html").render())
        counted = cache.statistics
    assert texts[0] == texts[1] == "<title></title>\n2.0\n"
    assert (counted.hits, counted.misses, counted.stores) == (len(WORKING), 0, 0)


def test_an_entry_has_the_same_bytes_wherever_it_was_compiled(checkouts, tmp_path):
    stored = []
    for number, directory in enumerate(checkouts):
        cache = FileSystemBytecodeCache(tmp_path / f"cache {number}", key="secret")
        environment = environment_of(directory, cache)
        for name in WORKING:
            environment.get_template(name)
        stored.append({entry.key: (entry.template, entry.bytecode) for entry in cache.entries()})
    assert stored[0] == stored[1]
    assert len(stored[0]) == len(WORKING)
    assert not any(b"release" in bytecode for _, bytecode in stored[0].values())


def frames_of(environment: Environment, name: str) -> list[tuple[str, int, str]]:
    try:
        environment.get_template(name).render()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        return [(frame.filename, frame.lineno, frame.line) for frame in frames]
    raise AssertionError(f"{name} did not fail")


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("failing.html", ("macros/prices.html", 2, "{{ 1 / part }}")),
        ("broken.html", ("unclosed.html", 3, "{% if true %}")),
    ],
)
def test_a_traceback_names_the_files_of_the_checkout_that_fails(backend, checkouts, name, last):
    for directory in checkouts:
        cache = DjangoBytecodeCache(deadline=10)
        frames = frames_of(environment_of(directory, cache), name)
        templates = [frame for frame in frames if frame[0].endswith(".html")]
        assert templates[-1] == (str(directory / last[0]), *last[1:])
        assert len(templates) > 1
        assert all(file.startswith(str(directory)) for file, _, _ in templates)
        assert frames == frames_of(environment_of(directory, None), name)
    assert cache.statistics.hits > 0
    assert cache.statistics.stores == 0


@pytest.mark.parametrize("name", ["failing.html", "broken.html"])
def test_a_template_without_a_file_keeps_the_name_that_jinja2_gives_it(backend, name):
    stock = frames_of(Environment(loader=DictLoader(TEMPLATES)), name)
    for _ in range(2):
        cache = DjangoBytecodeCache(deadline=10)
        cached = Environment(loader=DictLoader(TEMPLATES), bytecode_cache=cache)
        assert frames_of(cached, name) == stock
        assert cached.get_template("base.html").filename == "<template>"


def page(request, name):
    return render(request, name)


urlpatterns = [path("<path:name>", page)]


def debug_page(directory: Path, name: str) -> tuple[str, DjangoBytecodeCache]:
    """Django's page about an error, and the cache of the process that failed."""
    backend = "django_jinja_bccache.jinja2.Jinja2"
    options = {"bytecode_cache": {"deadline": 10}}
    templates = [{"BACKEND": backend, "DIRS": [directory], "OPTIONS": options}]
    with override_settings(DEBUG=True, ROOT_URLCONF=__name__, MIDDLEWARE=[], TEMPLATES=templates):
        response = Client(raise_request_exception=False).get(f"/{name}")
        assert response.status_code == 500
        return response.content.decode(), engines["jinja2"].env.bytecode_cache


@pytest.mark.parametrize(
    ("name", "file", "line"),
    [
        ("failing.html", "macros/prices.html", "{{ 1 / part }}"),
        ("failing.html", "failing.html", "  {{ price(0) }}"),
        ("broken.html", "unclosed.html", "{% if true %}"),
    ],
)
def test_djangos_debug_page_shows_the_files_of_the_checkout_that_fails(
    backend, checkouts, name, file, line
):
    for directory, other in (checkouts, checkouts[::-1]):
        content, cache = debug_page(directory, name)
        assert str(directory / file) in content
        assert line in content
        assert str(other) not in content
    assert cache.statistics.hits > 0
