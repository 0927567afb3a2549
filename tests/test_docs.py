"""The documentation against the code.

Sphinx is no dependency of the tests: .ci/run builds the site and fails on any warning. What can be
seen without it, such as links and the list of pages, is looked at here.
"""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest
from django.core.cache import close_caches
from django.core.checks.registry import registry
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.test import override_settings
from jinja2 import DictLoader, Environment

import django_jinja_bccache
from django_jinja_bccache import DjangoBytecodeCache, checks, host_checks
from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.bridge import _factories, open_store
from django_jinja_bccache.conf import bytecode_cache_from
from django_jinja_bccache.exceptions import NotSupported
from django_jinja_bccache.options import Options
from django_jinja_bccache.stores.base import Store
from testproject.caches import file_cache
from tests.pairs import PAIRS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [*PAGES, *sorted(ROOT.glob("*.md"))]
PUBLIC = sorted(name for name in django_jinja_bccache.__all__ if name.endswith("BytecodeCache"))
SHARED_OPTIONS = list(Options.__annotations__)

# Where nobody listens: nothing is asked of them here.
LOCATIONS = {
    "memcached": "127.0.0.1:1",
    "redis": "redis://127.0.0.1:1/0",
    "valkey": "redis://127.0.0.1:1/0",
    "db": "bytecode",
}


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables between a heading and the next one, without their heads."""
    text = (DOCS / page).read_text()
    below = re.search(rf"(?ms)^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text)
    assert below is not None, f"{page} has no heading {heading!r}"
    tables = re.findall(r"(?m)(?:^\|.*\n)+", below.group(1))
    lines = [line.strip("|") for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def blocks(page: Path, language: str = r"\w+") -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text())


ALIASES = {
    row[0].strip("`"): row
    for row in rows("backends.md", "Aliases in CACHES")
    if row[0].startswith("`")
}


class TestBackends:
    def opened(self, backend: str, directory: Path) -> tuple[Store, list[str]]:
        """The store for a backend, and the names of the raw stores' classes beneath it."""
        raw: list[str] = []

        def guard(store: Store, _name: str) -> Store:
            raw.append(type(store).__name__)
            return store

        kind = next((kind for kind in LOCATIONS if kind in backend.lower()), "")
        location = LOCATIONS.get(kind, str(directory))
        with override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": location}}):
            store = open_store("default", deadline=10, guard=guard)
            close_caches()
        return store, raw

    @pytest.mark.parametrize("backend", ALIASES)
    def test_the_table_names_the_store_behind_each_backend(self, backend, tmp_path):
        _, raw = self.opened(backend, tmp_path)
        documented = ALIASES[backend][1]
        assert {f"`{name}`" for name in raw} == ({documented} if "`" in documented else set())

    @pytest.mark.parametrize("backend", ALIASES)
    def test_it_says_which_stores_cannot_list_and_unpickle_first(self, backend, tmp_path):
        _, _, lists, unpickles = ALIASES[backend]
        store, raw = self.opened(backend, tmp_path)
        through_the_public_api = raw in (["DjangoCacheStore"], ["DatabaseCacheStore"])
        assert unpickles == ("yes" if through_the_public_api else "no")
        assert lists == ("no" if through_the_public_api else "yes")
        if through_the_public_api:
            with pytest.raises(NotSupported):
                list(store.scan("jinja2/bytecode/"))

    def test_every_registered_backend_has_a_row(self):
        ours = {
            backend
            for backend, factory in _factories.items()
            if isinstance(factory, str) and factory.startswith("django_jinja_bccache.bridge.")
        }
        assert ours <= set(ALIASES)

    def test_every_class_that_needs_no_alias_has_a_row(self):
        table = rows("backends.md", "Classes that need no alias")
        documented = {row[0].strip("`").partition("(")[0] for row in table}
        assert documented == set(PUBLIC) - {"DjangoBytecodeCache"}


def defaults(cls: type) -> dict[str, object]:
    """The arguments of a class by their names, each with its default or "required"."""
    return {
        name: "required" if each.default is each.empty else each.default
        for name, each in inspect.signature(cls).parameters.items()
        if each.kind is not each.VAR_KEYWORD
    }


def documented_defaults(heading: str) -> dict[str, object]:
    """The same, out of a table of configuration.md."""
    return {
        name.strip("`"): default if default == "required" else literal_eval(default.strip("`"))
        for name, _, default, _, _ in rows("configuration.md", heading)
    }


class TestConfiguration:
    SHARED = "Options of every class"
    IMPORTS = "import os; from pathlib import Path; BASE_DIR = Path('/srv'); "
    IMPORTS += "from pymemcache import Client; from redis import Redis; "
    IMPORTS += "from django_jinja_bccache import *"

    @pytest.fixture
    def accept(self, monkeypatch, tmp_path):
        """Has ``conf`` accept a value, which is given as Python source, or raise."""
        monkeypatch.setenv("BYTECODE_KEY", "k" * 50)
        monkeypatch.setenv("RELEASE", "r1")
        monkeypatch.chdir(tmp_path)
        names: dict[str, object] = {}
        exec(self.IMPORTS, names)

        def accept(source: str) -> None:
            memory = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
            with override_settings(CACHES={"default": memory, "bytecode": memory}):
                cache = bytecode_cache_from(eval(source, names), engine="jinja2")
                if cache is not None:
                    cache.validate()

        return accept

    def test_the_options_of_every_class_are_told_with_their_defaults(self):
        every = defaults(StoreBytecodeCache)
        assert documented_defaults(self.SHARED) == {name: every[name] for name in SHARED_OPTIONS}

    @pytest.mark.parametrize("name", PUBLIC)
    def test_so_are_the_arguments_of_each_class(self, name):
        every = defaults(getattr(django_jinja_bccache, name))
        own = {key: value for key, value in every.items() if key not in SHARED_OPTIONS}
        assert documented_defaults(name) == own

    @pytest.mark.parametrize("name", PUBLIC)
    def test_the_examples_of_the_tables_are_accepted(self, name, accept):
        not_taken = {"TieredBytecodeCache": {"deadline", "cooldown"}}.get(name, set())
        examples = {
            row[0].strip("`"): row[4].strip("`")
            for heading in (name, self.SHARED)
            for row in rows("configuration.md", heading)
        }
        for excluded in ("packs", "release"):  # which do not go together
            taken = examples.keys() - not_taken - {excluded}
            items = [f'"{key}": {examples[key]}' for key in taken]
            accept(f'{{"class": {name}, {", ".join(items)}}}')

    @pytest.mark.parametrize("page", ["backends", "configuration", "deployment", "security"])
    def test_the_settings_are_accepted(self, page, accept, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "mysite").mkdir()
        examples = blocks(DOCS / f"{page}.md", "python")
        for source in examples:
            if source.startswith("# mysite/caches.py"):
                (tmp_path / "mysite" / "caches.py").write_text(source)
        assert any(source.startswith('"OPTIONS"') for source in examples)
        for source in filter(lambda source: source.startswith('"OPTIONS"'), examples):
            accept(f'{{{source}}}["OPTIONS"]["bytecode_cache"]')
        for module in [name for name in sys.modules if name.partition(".")[0] == "mysite"]:
            monkeypatch.delitem(sys.modules, module)


def test_every_check_has_a_row_and_a_section_and_says_whether_it_is_for_deploys():
    def ids(functions) -> set[str]:
        modules = {checks.__name__, host_checks.__name__}
        ours = [each for each in functions if each.__module__ in modules]
        source = "".join(map(inspect.getsource, ours))
        found = re.findall(r'"(?:django_jinja_bccache\.(\w))?(\d{3})"', source)
        return {(kind or "W") + number for kind, number in found}

    text = (DOCS / "checks.md").read_text()
    deploying, always = ids(registry.deployment_checks), ids(registry.registered_checks)
    assert set(re.findall(r"(?m)^\| \[`(\w+)`\]", text)) == deploying | always
    assert set(re.findall(r"(?m)^## ([A-Z]\d{3})$", text)) == deploying | always
    [but] = re.findall(r"manage.py check +# all but (.*)", text)
    assert set(re.findall(r"\w\d{3}", but)) == deploying


@pytest.mark.parametrize("name", ["warm_bytecode", "clear_bytecode", "inspect_bytecode"])
def test_every_option_of_a_command_is_told_and_no_other(name):
    def options(command: BaseCommand) -> set[str]:
        parser = command.create_parser("manage.py", name)
        return {text for action in parser._actions for text in action.option_strings}

    package = "django_jinja_bccache"
    own = options(load_command_class(package, name)) - options(BaseCommand())
    cells = [row[0] for heading in ("Commands", name) for row in rows("commands.md", heading)]
    cells += re.findall(rf"(?m)^### {name} (.*)", (DOCS / "commands.md").read_text())
    assert {flag for cell in cells for flag in re.findall(r"--[\w-]+", cell)} == own


def test_every_page_is_in_the_table_of_contents():
    text = (DOCS / "index.md").read_text()
    listed = "".join(re.findall(r"(?ms)^```{toctree}\n.*?\n\n(.*?)```", text)).split()
    assert sorted(listed) == [page.stem for page in PAGES if page.stem != "index"]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_link_to_a_file_or_a_heading_leads_somewhere(page):
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text())
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", prose):
        target = (page.parent / path) if path else page
        assert target.is_file(), f"{page.name}: {path}"
        titles = re.findall(r"(?m)^#+ (.*)", target.read_text()) if anchor else []
        slugs = {re.sub(r"[^\w\- ]", "", each).lower().replace(" ", "-") for each in titles}
        assert not anchor or anchor in slugs, f"{page.name}: {path}#{anchor}"


class TestReadme:
    TEXT = (ROOT / "README.md").read_text()
    RUN = json.loads((DOCS / "benchmarks.json").read_text())
    NEAR = "memcached, 0.8 ms"
    PEERS = (
        "no cache",
        "jinja2 FileSystemBytecodeCache @ files",
        f"jinja2 MemcachedBytecodeCache @ {NEAR}",
        f"django-jinja BytecodeCache @ {NEAR}",
        "jinja2 ModuleLoader @ files",
    )

    def time(self, part: str, key: str) -> str:
        milliseconds = self.RUN[part][key]["seconds"]["median"] * 1000
        return f"{milliseconds:,.{int(milliseconds < 10)}f} ms"

    @pytest.mark.parametrize(
        ("row", "part", "others"),
        [
            (
                "all 725 templates",
                "load",
                [
                    "jinja2 ModuleLoader without .pyc @ files",
                    f"ours: release, preload() @ {NEAR}",
                    "ours: release, preload() @ files",
                ],
            ),
            (
                "first page (18 templates)",
                "first",
                [f"ours: release @ {NEAR}", "ours: release @ files"],
            ),
        ],
    )
    def test_the_times_of_the_comparison_are_those_of_the_recorded_run(self, row, part, others):
        [line] = re.findall(rf"(?m)^\| {re.escape(row)} \|.*", self.TEXT)
        expected = [self.time(part, key) for key in (*self.PEERS, *others)]
        assert re.findall(r"[\d.,]+ ms", line) == expected

    def test_so_are_the_figures_before_it_and_the_other_pages_know_the_rest(self):
        prose = " ".join(self.TEXT.partition("## Installation")[0].split())
        release = f"ours: release, preload() @ {self.NEAR}"
        quoted = [release, f"ours: source-checked @ {self.NEAR}", self.PEERS[2], self.PEERS[1]]
        times = re.findall(r"(?<![\d.])[\d,]+ ms", prose)
        assert times == [self.time("load", key) for key in quoted]
        assert f"{self.RUN['load']['no cache']['seconds']['median']:.1f} seconds" in prose
        assert f"{self.RUN['facts']['templates']} templates" in prose
        trips = self.RUN["first"][f"ours: release @ {self.NEAR}"], self.RUN["load"][release]
        assert [each["round_trips"] for each in trips] == [2, 3]
        assert f"{len(PAIRS)} pairs of environments" in prose
        for page, number in (("security", "144,392"), ("reliability", "8,901")):
            assert number in prose
            assert number in (DOCS / f"{page}.md").read_text()


VARYING = re.compile(
    r"\d+\.\d+ s|[\d.]+ [KM]?B|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\b[0-9a-f]{16,64}\b"
)
FILE = re.compile(r"(?:#|\{#) ([\w/]+\.\w+)( \(at the end\))?(?: #\})?\n")
VISIT = """
import django
django.setup()
from django.template import engines
from django.test import Client
print(Client(SERVER_NAME="localhost").get("/").content.decode())
statistics = engines["jinja2"].env.bytecode_cache.statistics
print(statistics.hits, statistics.misses)
"""


def test_the_quickstart_works_as_it_stands(tmp_path):
    inherited = {name: value for name, value in os.environ.items() if "DJANGO" not in name}

    def python(*arguments: str, **environment: str) -> str:
        environment = {**inherited, "PYTHONPATH": str(ROOT), **environment}
        command = [sys.executable, *arguments]
        return subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)

    for block in blocks(DOCS / "quickstart.md"):
        command, _, shown = block.partition("\n")
        if file := FILE.match(block):
            path = tmp_path / file[1]
            path.parent.mkdir(exist_ok=True)
            with path.open("a" if file[2] else "w") as stream:
                stream.write(block)
        elif command.startswith("$ django-admin"):
            python("-m", "django", *shlex.split(command)[2:])
        elif command == "$ python manage.py runserver":
            page = python("-c", VISIT, DJANGO_SETTINGS_MODULE="mysite.settings")
            assert "<li>Moss</li>" in page
            assert page.endswith("\n2 0\n")
        elif command.startswith("$ python manage.py"):
            told = python(*shlex.split(command)[2:])
            assert VARYING.sub("…", told) == VARYING.sub("…", shown)


def test_the_store_of_the_contributors_guide_works(tmp_path, monkeypatch):
    [source] = blocks(ROOT / "CONTRIBUTING.md", "python")
    files = tmp_path / "bytecode"
    source = source.replace("mysite.caches", "own_caches")
    source = source.replace("/var/cache/mysite/bytecode", str(files))
    (tmp_path / "own_caches.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("django_jinja_bccache.bridge._factories", dict(_factories))
    ours = {**file_cache(tmp_path / "cache"), "BACKEND": "own_caches.OurCache"}
    with override_settings(CACHES={"default": ours}):
        for hits in (0, 1):
            cache = DjangoBytecodeCache()
            loader = DictLoader({"a.html": "{{ 1 }}"})
            Environment(loader=loader, bytecode_cache=cache).get_template("a.html")
            assert cache.statistics.hits == hits
    assert any(files.iterdir())
    monkeypatch.delitem(sys.modules, "own_caches")
