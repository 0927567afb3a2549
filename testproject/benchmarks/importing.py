"""What the import of the package adds to a process that has Django and Jinja2 loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

from testproject.benchmarks.ground import REPOSITORY, MeasuringError, environment_for
from testproject.benchmarks.measures import say, summary

PACKAGE = "django_jinja_bccache"
BEFORE = """\
import django, django.core.cache.backends.memcached, django.template.backends.jinja2, pymemcache
django.conf.settings.configure()
django.setup()
"""
"""What a site with a Jinja2 engine and a cache has loaded anyway."""
PROGRAMS = {
    PACKAGE: f"import {PACKAGE}\n",
    f"{PACKAGE}, its app, its backend and its store over memcached": f"""\
import {PACKAGE}.apps, {PACKAGE}.checks, {PACKAGE}.host_checks
import {PACKAGE}.jinja2, {PACKAGE}.bridge.memcached
""",
}
# time of the module itself | time with what it imports | name, indented by depth
LINE = re.compile(r"import time: +\d+ \| +(\d+) \| ( *)(\S+)")


def imports(repeat: int) -> dict[str, Any]:
    """Import everything in new processes; return the seconds that the package adds."""
    added: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for turn in range(-1, repeat):
        say(f"import, turn {turn + 1} of {repeat}")
        for name, program in PROGRAMS.items():
            seconds = _added(program)
            if turn >= 0:  # before the first, Python writes what .pyc files are missing
                added[name].append(seconds)
    return {name: {"seconds": summary(seconds)} for name, seconds in added.items()}


def _added(program: str) -> float:
    """Return the seconds of the program's own imports, with all that they import."""
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", BEFORE + program],
        cwd=REPOSITORY,
        env=environment_for(),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise MeasuringError(finished.stderr.strip().rpartition("\n")[2])
    imported = [match for match in map(LINE.fullmatch, finished.stderr.splitlines()) if match]
    outermost = [match for match in imported if not match[2] and match[3].startswith(PACKAGE)]
    return sum(int(match[1]) for match in outermost) / 1e6
