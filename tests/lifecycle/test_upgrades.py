"""Upgrades of Python and of Jinja2, while processes of both versions share one store."""

import os
import shutil
import sys
from pathlib import Path

import jinja2
import pytest

from tests.lifecycle.checkouts import PAGES, SOURCES, Checkout, pages_of
from tests.lifecycle.elsewhere import Elsewhere, other_pythons
from tests.scripts import ROOT

WITHOUT_ZSTD = "import sys; sys.modules['backports.zstd'] = sys.modules['compression.zstd'] = None"


@pytest.fixture
def before(memcached, tmp_path: Path) -> Checkout:
    """A release, warm."""
    before = Checkout(tmp_path / "before", memcached.address, "first", "1")
    before.warm()
    return before


@pytest.fixture(scope="session")
def modules(tmp_path_factory) -> Path:
    """Where other Pythons keep the bytecode of modules, so that they start as fast as ours."""
    return tmp_path_factory.mktemp("modules")


@pytest.fixture
def pythons(memcached, modules, tmp_path: Path) -> list[Elsewhere]:
    """Releases under other Pythons; if there is no other, under one that optimises."""
    found = other_pythons()
    made = [
        Elsewhere(
            tmp_path / f"python {number}",
            memcached.address,
            "first",
            "1",
            interpreter=path,
            bytecode=modules,
        )
        for number, path in enumerate(found or [sys.executable])
    ]
    if not found:
        made[0].environment["PYTHONOPTIMIZE"] = "1"
    return made


@pytest.fixture
def other_python(pythons) -> Elsewhere:
    """The same release under another Python."""
    return pythons[0]


@pytest.fixture
def other_jinja2(memcached, tmp_path: Path) -> Checkout:
    """The same release with a Jinja2 whose bytecode is of no use to the other one.

    It is a copy of Jinja2 with another version, in which a function has another name that all
    compiled templates import.
    """
    copy = tmp_path / "packages" / "jinja2"
    shutil.copytree(Path(jinja2.__file__).parent, copy)
    renamed = 0
    for file in copy.glob("*.py"):
        text = file.read_text()
        renamed += text.count("TemplateReference")
        file.write_text(text.replace("TemplateReference", "ReferenceToTemplate"))
    assert renamed > 3
    with (copy / "__init__.py").open("a") as file:
        file.write('\n__version__ = "99.1"\n')
    after = Checkout(tmp_path / "after", memcached.address, "first", "1")
    after.environment["PYTHONPATH"] = os.pathsep.join(
        [str(copy.parent), str(after.directory), str(ROOT)]
    )
    return after


@pytest.mark.parametrize("version", ["other_python", "other_jinja2"])
def test_both_versions_are_served_the_same_and_use_nothing_of_each_other(
    before, memcached, version, request
):
    after = request.getfixturevalue(version)
    keys = set(memcached.keys())
    first = after.visit(*PAGES)  # before anything is warm for it
    assert sorted(set(first.compiled)) == sorted(SOURCES)
    [line] = first.log.splitlines()
    assert line.startswith("The templates of release '1' of engine 'jinja2' were warmed last ")
    assert first.pages == pages_of("first")
    assert keys < set(memcached.keys())

    # The same release, and not another content of it.
    warmed = after.warm()
    assert f"{len(SOURCES)} stored already, 0 compiled" in warmed
    for checkout in (after, before):
        visit = checkout.visit(*PAGES)
        assert (visit.compiled, visit.misses, visit.log) == ([], 0, "")
        assert visit.pages == first.pages


def succeeds(checkout: Checkout, *arguments: str) -> str:
    done = checkout.manage(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_commands_of_each_python_leave_what_the_other_serves(memcached, pythons, tmp_path):
    # The oldest, for that is the one whose code differs most.
    checkouts = [Checkout(tmp_path / "own", memcached.address, "0", "0"), pythons[-1]]
    for number, checkout in enumerate(checkouts):
        checkout.show(f"{number}")
        option = checkout.settings["TEMPLATES"][0]["OPTIONS"]["bytecode_cache"]
        option["release"] = f"{number}"
        checkout.imports = WITHOUT_ZSTD  # which the other may not have either
        checkout.warm()
    keys = set(memcached.keys())
    assert len(keys) > len(checkouts) * len(SOURCES)
    for checkout in checkouts:
        assert "  stored      5" in succeeds(checkout, "inspect_bytecode")
        assert "removed 0 entries" in succeeds(checkout, "clear_bytecode", "--stale", "--noinput")
        assert set(memcached.keys()) == keys
    for number, checkout in enumerate(checkouts):
        visit = checkout.visit(*PAGES)
        assert (visit.compiled, visit.pages) == ([], pages_of(f"{number}"))


def test_clearing_what_is_stale_where_packs_cannot_be_decompressed_keeps_what_is_served(
    before, memcached, tmp_path
):
    without_zstd = Checkout(tmp_path / "without", memcached.address, "second", "2")
    without_zstd.imports = WITHOUT_ZSTD
    without_zstd.warm()
    cleared = without_zstd.manage("clear_bytecode", "--stale", "--noinput")
    assert cleared.returncode == 0
    visit = before.visit(*PAGES)
    assert (visit.compiled, visit.pages) == ([], pages_of("first"))
