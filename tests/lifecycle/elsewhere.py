"""Checkouts that run as another user or under another Python; what there is on this machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.lifecycle.checkouts import Checkout
from tests.scripts import ROOT, Finished

OLDEST = 10
"""The oldest Python 3 that the package is for."""

# What a process of a site imports.
IMPORTS = "import django, jinja2, pymemcache, django_jinja_bccache"


class Elsewhere(Checkout):
    """A checkout whose processes are of another user, or of another Python.

    Args:
        place: Where to put it.
        details: Those of a checkout, as for `option`.
        interpreter: The path of its Python.
        user: Whose its processes are; empty for whoever runs the tests.
        bytecode: Where Python keeps the bytecode of modules, if it is to; the settings must then
            stay as they are from the first process on.
    """

    def __init__(
        self,
        place: Path,
        *details: Any,
        interpreter: str,
        user: str = "",
        bytecode: Path | None = None,
        **option: Any,
    ) -> None:
        super().__init__(place, *details, **option)
        self.interpreter, self.user = interpreter, user
        if bytecode:
            self.environment["PYTHONPYCACHEPREFIX"] = str(bytecode)

    def python(self, *arguments: str, typed: str = "", **environment: str) -> Finished:
        launch = ("-m", "tests.lifecycle.launch", self.user, self.interpreter)
        return super().python(*launch, *arguments, typed=typed, **environment)


def candidates() -> dict[str, int]:
    """CPythons that may be on this machine, by path, the tests' own first; and 12 for 3.12."""
    own = Path(sys.executable)
    places = [own.resolve().parent, *map(Path, os.get_exec_path()), Path("/usr/bin")]
    # Where versions lie side by side: …/3.11.7/bin/python3
    places += sorted(own.resolve().parent.parent.parent.glob("*/bin"))
    found: dict[str, int] = {}
    for path in (own, *(place / "python3" for place in places), *in_all(places)):
        version = re.fullmatch(r"python3\.(\d+)", path.resolve().name)
        if version and os.access(path, os.X_OK):
            found.setdefault(str(path), int(version[1]))
    return found


def in_all(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        yield from sorted(place.glob("python3.[0-9][0-9]"))


@cache
def runs(interpreter: str, user: str = "") -> bool:
    """Tell whether it can run a site as this user."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.lifecycle.launch", user, interpreter, "-c", IMPORTS],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def other_pythons() -> list[str]:
    """The newest and the oldest interpreter of other versions than the tests' own."""
    others = {
        path: minor
        for path, minor in candidates().items()
        if minor >= OLDEST and minor != sys.version_info[1]
    }
    ordered = sorted(others, key=others.__getitem__)
    ends = [next(filter(runs, each), None) for each in (ordered[::-1], ordered)]
    return [path for path in dict.fromkeys(ends) if path]


def another_user() -> dict[str, str]:
    """`nobody` and an interpreter that he may run; only root can lend him a process."""
    if os.geteuid() == 0:
        for path, minor in candidates().items():
            if minor >= OLDEST and runs(path, "nobody"):
                return {"interpreter": path, "user": "nobody"}
    return {"interpreter": sys.executable, "user": ""}
