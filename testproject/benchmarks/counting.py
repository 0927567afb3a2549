"""What counting an outcome costs: ``python -m testproject.benchmarks.counting``."""

from __future__ import annotations

import time

from django_jinja_bccache.statistics import Recorder

LOADS, TURNS = 100_000, 7


def microseconds(recorder: Recorder) -> float:
    """Return the least time that counting one hit took, of several turns."""
    best = float("inf")
    for _ in range(TURNS):
        began = time.perf_counter()
        for _ in range(LOADS):
            recorder.record("hit", "page.html", "key", size=10_000, origin="pack")
        best = min(best, time.perf_counter() - began)
    return best / LOADS * 1e6


def main() -> None:
    alone, heard = Recorder(), Recorder()
    heard.listeners.append(lambda _event: None)
    print(f"counting alone         {microseconds(alone):.2f} µs")
    print(f"and telling a listener {microseconds(heard):.2f} µs")


if __name__ == "__main__":
    main()
