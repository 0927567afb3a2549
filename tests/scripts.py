"""Python in a process of its own, for what a test cannot undo or has to see from outside."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Finished:
    """What a script left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Any:
        """The JSON in the last line of the output of a script that ended well."""
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout.splitlines()[-1])


def run_script(source: str, *arguments: object, **environment: str) -> Finished:
    """Run Python source in a new process, without Django's settings unless they are given."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DJANGO_SETTINGS_MODULE", "DJANGO_JINJA_BCCACHE", "BYTECODE_CACHE"}
    }
    done = subprocess.run(
        [sys.executable, "-c", dedent(source), *map(str, arguments)],
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
