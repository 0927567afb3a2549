"""How many of the mutations a run tries, and what is noted of them."""

from collections.abc import Iterable, Iterator

import pytest

from tests.backends import Backend, running

# Parts of a whole run, for the workers to share.
SHARDS = 8


class Tally:
    """Notes what became of mutations.

    Args:
        numbers: Where to note it, for the summary of the run.
        shard: Which part of all mutations to try; None for a small sample of them all.
    """

    def __init__(self, numbers: dict[str, float], shard: int | None) -> None:
        self._numbers = numbers
        self._problems: list[str] = []
        self.shard = shard

    def chosen(self, mutations: Iterable, sample: int) -> Iterator:
        """Yield those of the mutations that are to be tried: a part, or so many of them."""
        if self.shard is not None:
            for number, mutation in enumerate(mutations):
                if number % SHARDS == self.shard:
                    yield mutation
            return
        every = list(mutations)
        # Not in steps of eight, or it would be the same bit of every byte.
        step = max(1, len(every) // sample) | 1
        yield from every[step // 2 :: step]

    def note(self, problem: str, seconds: float, value: bytes) -> None:
        """Note one mutation, and what went wrong with it."""
        self._numbers["tried"] += 1
        self._numbers["slowest"] = max(self._numbers["slowest"], seconds)
        if problem:
            kind = problem.partition(":")[0]
            kind = "not counted" if kind.startswith("not counted") else kind
            self._numbers[kind] = self._numbers.get(kind, 0) + 1
            if len(self._problems) < 5:
                self._problems.append(f"{problem[:500]} (of {len(value)} bytes {value[:200]!r})")

    def check(self) -> None:
        """Fail if anything went wrong, or if the sample was empty, as a part may be."""
        assert not self._problems, "\n".join(self._problems)
        assert self._numbers["tried"] or self.shard is not None


def part(shard: int | None) -> str:
    return "a sample" if shard is None else f"part {shard + 1}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shard" in metafunc.fixturenames:
        shards = range(SHARDS) if metafunc.config.getoption("--every-mutation") else [None]
        metafunc.parametrize("shard", list(shards), ids=part)


@pytest.fixture
def tally(request: pytest.FixtureRequest, shard: int | None) -> Tally:
    numbers = {"tried": 0, "slowest": 0.0}
    request.node.user_properties.append(("mutations", numbers))
    return Tally(numbers, shard)


@pytest.fixture
def few(request: pytest.FixtureRequest) -> Tally:
    """For those of which every run tries the same few."""
    numbers = {"tried": 0, "slowest": 0.0}
    request.node.user_properties.append(("mutations", numbers))
    return Tally(numbers, None)


@pytest.fixture(params=["memcached", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A server as the default cache."""
    with running(request) as made:
        yield made
