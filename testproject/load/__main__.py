"""The command: python -m testproject.load [--seconds 300] [--rate 30] [--json FILE]

Exits with 1 if a request fails, a page is stale, or the memory of the processes grows by more
than GROWTH in the second half.

"While all is well" no fault and no command has begun or ended within the request, or a short
time before it. The processes are busy with each other all the time: the visitors, the commands
and the server share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testproject.load.releases import THREADS, WORKERS, Releases
from testproject.load.troubles import Troubles
from testproject.load.visitors import VISITORS, Seen, Visitors
from testproject.pages import PAGES
from tests.servers import Memcached, Proxy

GROWTH = 0.15
"""Of the last processes, from a sixth of the time after their start to the end.

They grow without any cache, too (`--without-cache`): by 0.09 in 200 seconds.
"""
STATES = {
    "well": "all is well",
    "fault": "the store is ill",
    "command": "a command runs or a release is deployed",
    "both": "both",
    "changing": "one of these begins or ends",
}


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        seconds: How long it lasted.
        rate: Requests wanted in a second.
        seen: What the visitors saw.
        troubles: What happened meanwhile.
    """

    seconds: float
    rate: float
    seen: Seen
    troubles: Troubles

    @property
    def requests(self) -> int:
        return sum(map(len, self.seen.seconds.values())) + len(self.seen.failures)

    @property
    def growth(self) -> float:
        memory = self.troubles.memory
        return memory["end"] / memory["young"] - 1

    def problems(self) -> list[str]:
        """Why the load counts as failed."""
        found = [repr(error) for error in self.troubles.errors]
        found += self.seen.failures[:10] + self.seen.stale[:10]
        if not found and self.growth > GROWTH:
            found.append(f"the processes' memory grew by {self.growth:.0%}")
        # Else nothing was tried.
        found += [
            f"no request while {STATES[state]}"
            for state in ("well", "fault", "command")
            if state not in self.seen.seconds
        ]
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "rate": self.rate,
            "processors": len(os.sched_getaffinity(0)),
            "workers": WORKERS,
            "threads": THREADS,
            "visitors": VISITORS,
            "requests": self.requests,
            "failures": len(self.seen.failures),
            "stale": len(self.seen.stale),
            "reopened": self.seen.reopened,
            "compiles": sum(self.seen.compiles.values()),
            "processes": len(self.seen.compiles),
            "milliseconds": {
                state: {
                    "requests": len(times),
                    "p50": percentile(times, 50),
                    "p99": percentile(times, 99),
                    "longest": percentile(times, 100),
                }
                for state, times in sorted(self.seen.seconds.items())
            },
            "memory": self.troubles.memory,
            "course of memory": self.troubles.course,
            "happened": dict(sorted(self.troubles.counts.items())),
            "problems": self.problems(),
        }


def percentile(times: Sequence[float], which: int) -> float:
    """In milliseconds, to a tenth."""
    ordered = sorted(times)
    return round(ordered[max(0, -(-len(ordered) * which // 100) - 1)] * 1000, 1)


def as_markdown(found: dict[str, Any]) -> str:
    """The result as a table."""
    happened = found["happened"]
    faults = sum(number for name, number in happened.items() if name.startswith("fault: "))
    ground = (
        f"{found['seconds']:.0f} seconds, gunicorn with {found['workers']} workers of "
        f"{found['threads']} threads, {found['visitors']} visitors, "
        f"{found['processors']} processors"
    )
    lines = [
        ground,
        "",
        "| | |",
        "|---|---:|",
        f"| requests | {found['requests']:,} |",
        f"| failures | {found['failures']} |",
        f"| stale pages | {found['stale']} |",
        f"| faults of the store | {faults} |",
        f"| releases deployed | {happened.get('releases deployed', 0)} |",
        f"| `clear_bytecode` | {happened.get('clear_bytecode', 0)} |",
        f"| `clear_bytecode --stale` | {happened.get('clear_bytecode --stale', 0)} |",
        f"| compiles, in {found['processes']} processes | {found['compiles']:,} |",
    ]
    for state, text in STATES.items():
        if times := found["milliseconds"].get(state):
            lines.append(
                f"| p50 / p99 while {text} | {times['p50']:.0f} / {times['p99']:.0f} ms "
                f"of {times['requests']:,} |"
            )
    names = {
        "first": "memory of the first processes",
        "young": "memory of the last processes, at the same age",
        "end": "memory of the last processes, at the end",
    }
    for name, text in names.items():
        if name in found["memory"]:
            lines.append(f"| {text} | {found['memory'][name] / 1e6:.1f} MB |")
    return "\n".join(lines)


def load(seconds: float, rate: float, *, cached: bool) -> Result:
    with (
        tempfile.TemporaryDirectory(prefix="bccache-test-") as directory,
        Memcached() as memcached,
        Proxy(memcached.address) as way,
    ):
        releases = Releases(Path(directory), way.address, memcached.address, cached=cached)
        try:
            releases.publish()
            pages = releases.plain_pages(PAGES)
            releases.deploy()
            troubles = Troubles(releases, memcached, way, seconds)
            began = time.monotonic()
            with Visitors(releases, pages, rate, troubles.going_on) as visitors:
                troubles.run()
            return Result(time.monotonic() - began, rate, visitors.seen, troubles)
        finally:
            releases.server.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testproject.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=30, help="requests in a second (30)")
    parser.add_argument(
        "--without-cache", action="store_true", help="for comparison: the server has no cache"
    )
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    options = parser.parse_args()
    found = load(options.seconds, options.rate, cached=not options.without_cache).as_json()
    print(as_markdown(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    for problem in found["problems"]:
        print(problem, file=sys.stderr)
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
