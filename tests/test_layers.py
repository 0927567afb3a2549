"""Which module may import which, who may use private names, and how long a module may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import django_jinja_bccache

PACKAGE = "django_jinja_bccache"
ROOT = Path(django_jinja_bccache.__file__).parent
LONGEST = 300

# A module imports from the lines above its own, and from nothing else in the package.
LAYERS = """
exceptions
compression
entry
packs signing
describing
fingerprint
compiling
bytecode
statistics
options
stores
stores.base
stores.deadline stores.metadump stores.pool
stores.threads
stores.shared
stores.diskcache stores.django stores.filesystem stores.guard
stores.memcached stores.nodes stores.redis
stores.sqlite_connection
stores.replicated stores.sqlite stores.tiered
stores.alias
bridge
bridge.database bridge.diskcache bridge.local bridge.nodes bridge.redis
bridge.clients
bridge.pylibmc
bridge.memcached
opening accounting
storage
newest
archive directories pack_reader
published publishes
publishing
notes
bccache
caches overriding tiered
loader
conf
jinja2
discovery
reports
parallel preloading
clearing inspection warming
explaining
checks recording
host_checks panels
apps
management
management.base
management.commands
management.commands.clear_bytecode
management.commands.inspect_bytecode
management.commands.warm_bytecode
"""
LINES = {
    module: number for number, line in enumerate(LAYERS.split("\n")) for module in line.split()
}
# What stands for the whole package comes last.
LINES[""] = len(LINES)


def name_of(path: Path) -> str:
    """A module's name within the package, empty for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    return module.partition(".")[0]


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda name: name or PACKAGE)


def tree_of(module: str) -> ast.AST:
    return ast.parse(MODULES[module].read_text())


def imports_of(module: str) -> Iterator[tuple[str, int]]:
    """The full names that a module imports, wherever in it, each with its line."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute here"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name.removeprefix(f"{PACKAGE}.") in MODULES
                yield (name if is_module else node.module or ""), node.lineno


def all_imports_of(module: str) -> set[str]:
    """What a module imports, and what those modules of the package do, and so on."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        new = {name for name, _ in imports_of(waiting.pop())} - found
        found |= new
        own = {name.removeprefix(f"{PACKAGE}.") for name in new if name.startswith(PACKAGE)}
        waiting += own & MODULES.keys()
    return found


def private_uses_in(module: str) -> Iterator[tuple[str, int]]:
    """Names with an underscore in front that a module takes from something else than itself."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            is_own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            if not is_own:
                yield ast.unparse(node), node.lineno
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if is_private(alias.name):
                    yield f"{node.module}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr"}:
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield ast.unparse(node), node.lineno


def is_private(name: str) -> bool:
    of_every_named_tuple = {"_replace", "_asdict", "_fields"}  # public for all their names
    return name.startswith("_") and not name.startswith("__") and name not in of_every_named_tuple


@each_module
def test_a_module_has_its_place_in_the_layers(module):
    assert module in LINES, f"say in LAYERS where {module} stands"


@each_module
def test_a_module_imports_only_from_lines_above_its_own(module):
    wrong = [
        f"line {line}: {name}"
        for name, line in imports_of(module)
        if name.split(".")[0] == PACKAGE
        and not LINES[name.removeprefix(PACKAGE).lstrip(".")] < LINES[module]
    ]
    assert wrong == []


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) != "bridge"])
def test_only_the_bridge_uses_private_names_of_others(module):
    assert list(private_uses_in(module)) == []


def test_a_private_name_is_found_where_one_is_used():
    uses = [use for use, _ in private_uses_in("bridge.memcached")]
    assert "backend._options" in uses


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) == "stores"])
def test_a_store_knows_no_jinja2_nor_does_what_it_imports(module):
    assert "jinja2" not in {name.split(".")[0] for name in all_imports_of(module)}


def test_an_import_is_found_behind_another():
    assert {"jinja2", "django.core.exceptions"} <= all_imports_of("caches")


@each_module
def test_a_module_is_no_longer_than_300_lines(module):
    assert len(MODULES[module].read_text().splitlines()) <= LONGEST


def test_no_module_is_a_drawer_for_odds_and_ends():
    drawers = {"utils", "helpers", "common", "constants", "misc"}
    assert {name.rpartition(".")[2] for name in MODULES}.isdisjoint(drawers)
