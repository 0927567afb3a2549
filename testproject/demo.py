"""Shows the cache at work: one page in a process that compiles, then in one that need not.

    sh testproject/demo.sh

Nothing is left behind: the cache is a directory of its own, cleared and removed at the end.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = "/plants/"

# Runs in a process of its own: renders the page and tells what each template took.
RENDER = """
import json, time
import django
django.setup()
from django.template import engines
from django.test import Client

loads = []
looked_up = {}

def note(event):
    now = time.perf_counter()
    if event.kind == "miss":
        looked_up[event.template] = now - event.seconds
    elif event.kind == "store":
        loads.append([event.template, "compiled", now - looked_up[event.template]])
    elif event.kind == "hit":
        loads.append([event.template, event.origin, event.seconds])

engines["jinja2"].env.bytecode_cache.listeners.append(note)
began = time.perf_counter()
response = Client().get(PAGE)
took = time.perf_counter() - began
assert response.status_code == 200, response.status_code
print(json.dumps({"loads": loads, "page": took}))
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            **os.environ,
            "BYTECODE_CACHE": f"file://{directory}",
            "DJANGO_JINJA_BCCACHE": "on",
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "PYTHONPATH": str(ROOT),
        }

        def run(*arguments: str, show: bool = True) -> str:
            if show:
                print(f"$ python {' '.join(arguments)}")
            command = [sys.executable, *arguments]
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            if show:
                print(done.stdout)
            return done.stdout

        render = f"PAGE = {PAGE!r}\n{RENDER}"
        cold = json.loads(run("-c", render, show=False))
        run("testproject/manage.py", "warm_bytecode")
        warm = json.loads(run("-c", render, show=False))
        print_table(cold, warm)
        run("testproject/manage.py", "clear_bytecode", "--noinput")
    outcomes = {outcome for _, outcome, _ in warm["loads"]}
    return 0 if outcomes and "compiled" not in outcomes else 1


def print_table(cold: dict, warm: dict) -> None:
    print(f"{PAGE} in a new process, with an empty cache and with a warm one (ms)\n")
    print(f"{'template':<34}{'cold':>18}{'warm':>18}")
    warm_loads = {template: (outcome, seconds) for template, outcome, seconds in warm["loads"]}
    rows = [
        (template, (outcome, seconds), warm_loads[template])
        for template, outcome, seconds in cold["loads"]
    ]
    for template, before, after in rows:
        print(f"{template:<34}{cell(*before):>18}{cell(*after):>18}")
    sums = [sum(row[column][1] for row in rows) for column in (1, 2)]
    print(f"{'all templates':<34}{cell('', sums[0]):>18}{cell('', sums[1]):>18}")
    print(f"{'the whole page':<34}{cell('', cold['page']):>18}{cell('', warm['page']):>18}\n")


def cell(outcome: str, seconds: float) -> str:
    return f"{outcome} {seconds * 1000:8.2f}".strip()


if __name__ == "__main__":
    sys.exit(main())
