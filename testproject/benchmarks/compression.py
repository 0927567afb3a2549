"""What compression costs and saves: python -m testproject.benchmarks.compression [CORPUS]

For each kind of value, what all templates of a corpus take as it is, compressed and back. The last
columns add the time on the wire: what they take until a process has the payloads.
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING

from django_jinja_bccache import compression
from django_jinja_bccache.bytecode import payload_of
from django_jinja_bccache.compiling import compile_template
from django_jinja_bccache.packs import PACK_SIZE
from testproject.benchmarks.corpus import corpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

METHODS = {"none": compression.RAW, "zlib": compression.ZLIB, "zstd": compression.ZSTD}
NETWORKS = {"100 Mbit/s": 12.5e6, "1 Gbit/s": 125e6, "10 Gbit/s": 1.25e9}
REPEAT = 5


def payloads(name: str) -> list[bytes]:
    """Return the bytes that stand for each template of a corpus."""
    site = corpus(name)
    environment = site.environment()
    found = []
    for template in site.names:
        source, filename, _ = environment.loader.get_source(environment, template)
        code = compile_template(environment, source, template, filename).code
        found.append(payload_of(code, template))
    return found


def packed(values: Iterable[bytes]) -> list[bytes]:
    """Return the values joined into packs."""
    packs = [b""]
    for value in values:
        if len(packs[-1]) + len(value) > PACK_SIZE:
            packs.append(b"")
        packs[-1] += value
    return packs


def fastest(run: Callable[[], object]) -> float:
    """Return the least milliseconds that something took."""
    times = []
    for _ in range(REPEAT):
        began = perf_counter()
        run()
        times.append(perf_counter() - began)
    return min(times) * 1000


def row(kind: str, values: list[bytes], name: str, method: int) -> str:
    bodies = [compression.compress(value, method) for value in values]
    to_compress = fastest(lambda: [compression.compress(value, method) for value in values])
    pairs = [(memoryview(body), len(value)) for body, value in zip(bodies, values, strict=True)]
    to_open = fastest(lambda: [compression.decompress(body, method, size) for body, size in pairs])
    total = sum(map(len, bodies))
    share = 100 * total / sum(map(len, values))
    cells = [kind, name, f"{total / 1e6:.2f} MB", f"{share:.0f} %"]
    cells += [f"{to_compress:.0f} ms", f"{to_open:.1f} ms"]
    cells += [f"{total / speed * 1000 + to_open:.0f} ms" for speed in NETWORKS.values()]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    values = payloads(*(sys.argv[1:] or ["indico"]))
    head = ["value", "method", "size", "share", "compress", "open", *NETWORKS]
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    for kind, each in (("an entry each", values), ("packs", packed(values))):
        for name, method in METHODS.items():
            print(row(kind, each, name, method))


if __name__ == "__main__":
    main()
