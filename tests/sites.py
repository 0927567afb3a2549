"""Django projects whose every command and page runs in a new process; and engines in this one."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jinja2 import BaseLoader, Environment

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.discovery import CachedEngine
from testproject.caches import caches_from
from tests.backends import Backend
from tests.scripts import ROOT, Finished

BACKEND = "django_jinja_bccache.jinja2.Jinja2"

TEMPLATES = {
    "base.html": "<title>{% block title %}{% endblock %}</title>{% block body %}{% endblock %}",
    "home.html": "{% extends 'base.html' %}{% block title %}Home & garden{% endblock %}",
    "shop/item.html": "<li>{{ name|default('Fern') }}</li>",
    "shop/list.html": "{% extends 'base.html' %}{% block body %}"
    "{% for name in ['Moss', 'Ivy'] %}{% include 'shop/item.html' %}{% endfor %}{% endblock %}",
}


@dataclass(frozen=True)
class Visit:
    """What a new process did to render pages.

    Attributes:
        pages: The text of each.
        compiled: The names of the templates that Jinja2 compiled.
        log: What it wrote to its standard error.
        hits, misses, stores: What the process's caches counted.
    """

    pages: dict[str, str]
    compiled: list[str]
    log: str
    hits: int = 0
    misses: int = 0
    stores: int = 0


@dataclass
class Project:
    """A Django project.

    Attributes:
        settings_module: The dotted path of its settings.
        environment: Variables of its processes' environment.
    """

    settings_module: str
    environment: dict[str, str] = field(default_factory=dict)

    def manage(self, *arguments: str, typed: str = "", **environment: str) -> Finished:
        """Run ``manage.py`` with arguments, and with ``typed`` as its standard input."""
        return self.python("-m", "django", *arguments, typed=typed, **environment)

    def visit(self, *names: str, **environment: str) -> Visit:
        """Render pages (``/path/``) and templates (``name.html``) in one new process."""
        done = self.python("-m", "tests.visit", typed=json.dumps(names), **environment)
        return Visit(log=done.stderr, **done.result)

    def python(self, *arguments: str, typed: str = "", **environment: str) -> Finished:
        """Run Python with this project's settings; an unclosed socket or file is printed."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DEBUG", "DJANGO_JINJA_BCCACHE", "BYTECODE_CACHE", "SECRET_KEY"}
        }
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", *arguments],
            env={
                **inherited,
                "COLUMNS": "80",
                "DJANGO_SETTINGS_MODULE": self.settings_module,
                "PYTHONPATH": str(ROOT),
                # Modules are rewritten within the same second, which a .pyc would not notice.
                "PYTHONDONTWRITEBYTECODE": "1",
                **self.environment,
                **environment,
            },
            cwd=ROOT,
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


class Code(str):
    """Python source among a site's settings: ``Code("DjangoBytecodeCache()")``."""

    __slots__ = ()
    __repr__ = str.__str__


class Site(Project):
    """A small project in a directory, written anew before each of its processes starts.

    Args:
        directory: Where to put it.
        caches: Its CACHES.
        bytecode_cache: The option of its engines, unless they are told otherwise.
        databases: Its DATABASES, if it has any.

    Attributes:
        settings: Its settings, to be changed as a test needs it.
        imports: Python source at the top of its settings.
    """

    def __init__(
        self,
        directory: Path,
        caches: dict[str, Any],
        bytecode_cache: Any = "default",
        databases: dict[str, Any] | None = None,
    ) -> None:
        super().__init__("site_settings", {"PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"})
        self.directory = directory
        self.bytecode_cache = bytecode_cache
        self.imports = ""
        self.settings: dict[str, Any] = {
            "SECRET_KEY": "the secret of this site",
            "INSTALLED_APPS": ["django_jinja_bccache"],
            "CACHES": caches,
            "DATABASES": databases or {},
            "TEMPLATES": [self.engine()],
        }
        for name, source in TEMPLATES.items():
            self.write(f"templates/{name}", source)

    def engine(self, name: str = "jinja2", *, backend: str = BACKEND, **options: Any) -> Any:
        """An item for TEMPLATES."""
        return {
            "BACKEND": backend,
            "NAME": name,
            "DIRS": [str(self.directory / "templates")],
            "OPTIONS": {"bytecode_cache": self.bytecode_cache, **options},
        }

    def write(self, path: str, content: str | bytes) -> Path:
        """Write a file below the site's directory; return its path."""
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def python(self, *arguments: str, typed: str = "", **environment: str) -> Finished:
        lines = [f"{name} = {value!r}\n" for name, value in self.settings.items()]
        self.write("site_settings.py", "".join([self.imports, "\n", *lines]))
        done = super().python(*arguments, typed=typed, **environment)
        stdout, stderr = map(self._shortened, (done.stdout, done.stderr))
        return Finished(done.returncode, stdout, stderr)

    def _shortened(self, text: str) -> str:
        """Replace the directory, which is long in tests, by one that a server might have."""
        return text.replace(str(self.directory), "/srv/site")


def site_over(backend: Backend, directory: Path) -> Site:
    """A small project over a backend."""
    return Site(directory, backend.caches, backend.option, backend.databases)


@pytest.fixture
def site(backend: Backend, tmp_path: Path) -> Site:
    """A small project over the backend."""
    return site_over(backend, tmp_path / "site")


@pytest.fixture
def file_site(tmp_path: Path) -> Site:
    """A small project whose default cache is a directory, for what no store has a say in."""
    return Site(tmp_path / "site", caches_from(f"file://{tmp_path}/cache", Path()))


def cached_engine(loader: BaseLoader | None, name: str = "jinja2", **options: Any) -> CachedEngine:
    """An engine inside the test's own process, over the default cache."""
    cache = options.pop("bytecode_cache", None) or DjangoBytecodeCache()
    environment = Environment(loader=loader, bytecode_cache=cache, **options)
    return CachedEngine(name, environment, cache)
