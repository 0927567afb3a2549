"""What the import of the package adds to a process that has Django and Jinja2 loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from testproject.benchmarks.ground import REPOSITORY, MeasuringError, environment_for
from testproject.benchmarks.measures import say, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

BEFORE = ("django", "django.core.cache.backends.memcached", "django.template.backends.jinja2")
"""What a site with a Jinja2 engine and a cache has loaded anyway."""
PACKAGE = "django_jinja_bccache"
PROGRAM = f"""\
import {", ".join(BEFORE)}
django.conf.settings.configure()
django.setup()
import {PACKAGE}
"""
# time of the module itself | time with what it imports | name, indented by depth
LINE = re.compile(r"import time: +\d+ \| +(\d+) \| ( *)(\S+)")


def imports(repeat: int) -> dict[str, Any]:
    """Import everything in new processes; return the seconds of the package, and of all else."""
    _traced()  # has Python write the .pyc files that are missing
    package, before = [], []
    for turn in range(repeat):
        say(f"import, turn {turn + 1} of {repeat}")
        traced = _traced()
        package.append(traced.pop(PACKAGE))
        before.append(sum(traced.values()))
    return {
        "Django and Jinja2": {"seconds": summary(before)},
        PACKAGE: {"seconds": summary(package)},
    }


def _traced() -> dict[str, float]:
    """Return the seconds that each import of the program took which no other import made."""
    command = [sys.executable, "-X", "importtime", "-c", PROGRAM]
    finished = subprocess.run(
        command, cwd=REPOSITORY, env=environment_for(), capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise MeasuringError(finished.stderr.strip().rpartition("\n")[2])
    return _outermost(finished.stderr.splitlines())


def _outermost(lines: Sequence[str]) -> dict[str, float]:
    matches = [match for match in map(LINE.fullmatch, lines) if match]
    return {match[3]: int(match[1]) / 1e6 for match in matches if not match[2]}
