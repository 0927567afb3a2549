"""Template files out of wheels of the package index: downloaded once, unpacked once."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile

Placement = Callable[[ZipFile], dict[str, str]]

INDICO_TEMPLATE = re.compile(
    r"indico/(?:web|(?:modules|core)/(?P<module>.+?))/templates/(?P<name>.+(?<!/)(?<!\.py))"
)
MATERIAL_TEMPLATES = "material/templates/"
MATERIAL_ICON = re.compile(r'"(?:\.icons/)?([\w-]+/[\w/-]+)(?:\.svg)?"')
MINUTES = 60


class CorpusError(Exception):
    """A corpus cannot be had."""


def unpacked(requirement: str, directory: Path, placement: Placement) -> Path:
    """Return the folder with a wheel's templates, downloading the wheel if it is not there.

    Args:
        requirement: name and version, as in ``indico==3.2.9``.
        directory: where the folder is made.
        placement: given the open wheel, says which members go where in the folder.

    Raises:
        CorpusError: no wheel could be had, or it holds no template.
    """
    folder = directory / requirement.replace("==", "-")
    if folder.is_dir():
        return folder
    directory.mkdir(parents=True, exist_ok=True)
    # The folder appears complete or not at all: it is filled elsewhere and renamed.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".incomplete-") as workshop:
        wheel = _download(requirement, Path(workshop))
        templates = Path(workshop) / "templates"
        _unpack(wheel, templates, placement)
        _rename(templates, folder)
    return folder


def place_indico(wheel: ZipFile) -> dict[str, str]:
    """Give each module's templates a folder of their own, under the prefix of their names.

    Indico's loaders add the module to the name: ``index.html`` of ``events/registration`` is
    ``events/registration/index.html``. Jinja2's PrefixLoader would hand the short name on to
    the compiler, and different templates would share a name; a search path of many folders keeps
    the names, as Django's APP_DIRS does.
    """
    members = {}
    for member in wheel.namelist():
        if found := INDICO_TEMPLATE.fullmatch(member):
            module = found["module"]
            folder = f"{module.replace('/', '.')}/{module}" if module else "web"
            members[member] = f"{folder}/{found['name']}"
    return members


def place_material(wheel: ZipFile) -> dict[str, str]:
    """Take every page and, of 14,000 icons, those that the pages name."""
    members = [name for name in wheel.namelist() if name.startswith(MATERIAL_TEMPLATES)]
    pages = {name for name in members if name.endswith(".html")}
    named = {icon for page in pages for icon in MATERIAL_ICON.findall(wheel.read(page).decode())}
    icons = {f"{MATERIAL_TEMPLATES}.icons/{icon}.svg" for icon in named}
    return {
        name: name.removeprefix(MATERIAL_TEMPLATES) for name in members if name in pages | icons
    }


def _download(requirement: str, directory: Path) -> Path:
    # The templates are only read, so it does not matter for which Python the package is.
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input"]
    try:
        finished = subprocess.run(
            [*command, "--dest", str(directory), requirement],
            capture_output=True,
            text=True,
            timeout=10 * MINUTES,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CorpusError(f"{requirement}: no download within {error.timeout:.0f} s.") from error
    wheel = next(directory.glob("*.whl"), None)
    if finished.returncode != 0 or wheel is None:
        raise CorpusError(f"{requirement} could not be downloaded:\n{finished.stderr.strip()}")
    return wheel


def _pip() -> list[str]:
    for command in _pip_candidates():
        asked = subprocess.run([*command, "--version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return command
    raise CorpusError(
        "No pip to download a corpus with: install pip into this environment, or uv."
    )


def _pip_candidates() -> Iterator[list[str]]:
    yield [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        yield [uv, "run", "--no-project", "--with", "pip", "python", "-m", "pip"]
    if pip := shutil.which("pip"):
        yield [pip]


def _unpack(wheel: Path, directory: Path, placement: Placement) -> None:
    try:
        with ZipFile(wheel) as archive:
            members = placement(archive)
            for member, target in members.items():
                info = archive.getinfo(member)
                # extract() keeps any name inside the directory, which a write of our own may not.
                info.filename = target
                archive.extract(info, directory)
    except BadZipFile as error:
        raise CorpusError(f"{wheel.name} is not a readable wheel: {error}") from error
    if not members:
        raise CorpusError(f"{wheel.name} holds no templates where they are looked for.")


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:
        # Another process may have been quicker; what it made is the same.
        if not target.is_dir():
            raise
