"""What is built for PyPI, and that it works where nothing of the checkout is."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "django_jinja_bccache"
COMMANDS = ("warm_bytecode", "clear_bytecode", "inspect_bytecode")
DATA = ("py.typed", "templates/django_jinja_bccache/panel.html")

# The lists of PyPI, as far as they could ever be ours: a misspelt classifier is refused there.
CLASSIFIERS = re.compile(
    r"Development Status :: (4 - Beta|5 - Production/Stable)"
    r"|Environment :: Web Environment"
    r"|Framework :: Django( :: (5\.2|6\.0|6\.1))?"
    r"|Intended Audience :: Developers"
    r"|Operating System :: POSIX"
    r"|Programming Language :: Python :: 3( :: Only|\.1[0-4])?"
    r"|Topic :: Internet :: WWW/HTTP :: Dynamic Content"
    r"|Typing :: Typed"
)
EXTRAS = {
    "debug-toolbar",
    "diskcache",
    "django-redis",
    "django-valkey",
    "progress",
    "pylibmc",
    "redis",
    "zstd",
}

# The panel's module can be imported only where the toolbar is one of INSTALLED_APPS.
IMPORT = """
import importlib, pkgutil, sys
sys.modules["typing_extensions"] = None
from django.conf import settings
settings.configure(SECRET_KEY="x" * 50)
import django_jinja_bccache
for module in pkgutil.walk_packages(django_jinja_bccache.__path__, "django_jinja_bccache."):
    if not module.name.endswith(".panels"):
        importlib.import_module(module.name)
"""

# As if nothing but the three dependencies were installed.
RENDER = """
import json, sys
for name in ("backports.zstd", "debug_toolbar", "diskcache", "django_redis", "django_valkey",
             "pylibmc", "redis", "tqdm", "typing_extensions", "valkey"):
    sys.modules[name] = None
import django
django.setup()
import django_jinja_bccache
from django.core.management import call_command
from django.template import engines
from django.test import Client
call_command("warm_bytecode", verbosity=0)
page = Client().get("/")
print(json.dumps({
    "from": django_jinja_bccache.__file__,
    "status": page.status_code,
    "hits": engines["jinja2"].env.bytecode_cache.statistics.hits,
    "misses": engines["jinja2"].env.bytecode_cache.statistics.misses,
}))
"""


def run_uv(*arguments: object) -> None:
    """Run the uv that made the environment; uv builds with a backend of its own, offline."""
    uv = shutil.which(
        "uv", path=os.pathsep.join([os.environ["PATH"], str(ROOT / ".cache/uv/bin")])
    )
    assert uv is not None, "no uv: see testproject/setup.sh"
    done = subprocess.run(
        [uv, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    run_uv("build", "--offline", "--quiet", "--out-dir", directory)
    return directory


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    [path] = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def files_of_the_package() -> set[str]:
    """The files of the checkout."""
    found = (path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_and_its_licence_and_nothing_else(wheel):
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == files_of_the_package()
    assert {f"django_jinja_bccache/{name}" for name in DATA} <= inside
    commands = {f"django_jinja_bccache/management/commands/{name}.py" for name in COMMANDS}
    assert commands <= inside
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_sdist_holds_what_the_wheel_is_built_from(built):
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert files_of_the_package() | {"LICENSE", "README.md", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith(("tests/", "testproject/", "."))]


def test_it_depends_on_three_packages_and_all_else_is_an_extra(metadata):
    required = metadata.get_all("Requires-Dist")
    always = [re.split(r"[<>=!~ ;]", each)[0] for each in required if "extra ==" not in each]
    assert sorted(always) == ["django", "jinja2", "pymemcache"]
    assert set(metadata.get_all("Provides-Extra")) == EXTRAS
    extras = [re.search(r"extra == '([\w-]+)'", each)[1] for each in required if "extra" in each]
    assert set(extras) == EXTRAS


def test_typing_extensions_is_for_type_checkers_alone():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_classifiers_are_ones_that_pypi_takes(metadata):
    classifiers = metadata.get_all("Classifier")
    assert not [each for each in classifiers if not CLASSIFIERS.fullmatch(each)]
    assert len(set(classifiers)) == len(classifiers)
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.10"


def test_the_readme_is_the_description(metadata):
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_the_installed_wheel_serves_the_test_project(wheel, tmp_path):
    site, project, cache = tmp_path / "site", tmp_path / "project", tmp_path / "cache"
    run_uv("pip", "install", "--offline", "--quiet", "--no-deps", "--target", site, wheel)
    ignore = shutil.ignore_patterns("__pycache__", ".*", "benchmarks", "load")
    shutil.copytree(ROOT / "testproject", project / "testproject", ignore=ignore)
    inherited = {name: value for name, value in os.environ.items() if "DJANGO" not in name}
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        cwd=project,
        env={
            **inherited,
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "BYTECODE_CACHE": f"file://{cache}",
            "PYTHONPATH": os.pathsep.join([str(site), str(project)]),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert Path(result["from"]).is_relative_to(site)
    assert result["status"] == 200
    assert result["hits"] > 0
    assert result["misses"] == 0
