"""A warm-up that is killed, and two at once: nobody is ever served half a release.

What kills it at every request runs with `--every-fault`.
"""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lifecycle.checkouts import PAGES, Checkout, texts_in
from tests.sites import Visit

BIG = "leaf " * 14_000
"""Makes two templates too many for one pack."""


@pytest.fixture
def checkout(memcached, tmp_path: Path) -> Checkout:
    """A checkout of a release that takes several packs, none of which is there."""
    checkout = Checkout(tmp_path / "site", memcached.address, "first", "1")
    checkout.show("first", BIG)
    checkout.imports = "from tests.lifecycle import dying\ndying.watch()"
    return checkout


def killed_at(
    checkout: Checkout, request: int, *, within: bool, force: bool = False, among: str = ""
) -> bool:
    """Begin a warm-up; return whether it came as far as this request, and was killed there."""
    finished = checkout.manage(
        "warm_bytecode",
        *(["--force"] if force else []),
        DIE_AT=str(request),
        DIE_AMONG=among,
        DIE_WITHIN=str(int(within)),
    )
    assert finished.returncode in (0, -signal.SIGKILL), finished.stderr
    return finished.returncode != 0


def reads(checkout: Checkout) -> tuple[str, Visit]:
    """What a new process is served, whose sources are of other texts than what was warmed.

    Returns:
        The one text of all pages, `elsewhere` if it is that of the sources; and the visit.
    """
    checkout.show("elsewhere")
    visit = checkout.visit(*PAGES)
    [text] = texts_in(visit.pages)
    # The log tells of a release that is not there, and of nothing else.
    assert ("is not in the bytecode cache" in visit.log) == (text == "elsewhere")
    assert len(visit.log.splitlines()) == (text == "elsewhere")
    return text, visit


def completes(checkout: Checkout, text: str, *arguments: str) -> None:
    """The next warm-up does what the killed one was to do."""
    checkout.show(text, BIG)
    checkout.warm(*arguments)
    assert checkout.manage("warm_bytecode", "--check").returncode == 0
    served, visit = reads(checkout)
    assert (served, visit.compiled) == (text, [])


def test_a_change_that_is_killed_between_two_packs_shows_in_no_page(checkout, memcached):
    checkout.warm()
    packs = [key for key in memcached.keys() if ":pack." in key and "index" not in key]  # noqa: SIM118 - no dict
    before = {key: memcached.get_raw(key) for key in packs}
    assert len(before) >= 3
    checkout.show("second", BIG)
    among = r"set \S+:pack\."
    assert killed_at(checkout, 2, within=True, force=True, among=among)
    after = {key: memcached.get_raw(key) for key in before}
    assert sum(before[key] != after[key] for key in before) == 1
    served, visit = reads(checkout)
    assert (served, visit.compiled) == ("first", [])
    completes(checkout, "second", "--force")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", ["memcached"])
class TestAtEveryRequest:
    @pytest.mark.parametrize("fault", ["killed after a request", "killed within a request"])
    def test_a_first_publish_is_there_or_it_is_not(self, checkout, memcached, fault, store):
        served = []
        while killed_at(checkout, len(served) + 1, within="within" in fault):
            text, visit = reads(checkout)
            # From the sources, nothing is there; from the release, nothing is to be compiled.
            assert (text, bool(visit.compiled)) in {("first", False), ("elsewhere", True)}
            served.append(text)
            completes(checkout, "first")
            memcached.flush()
            checkout.show("first", BIG)
        assert len(served) > 6
        assert served == sorted(served)
        assert set(served) == {"elsewhere", "first"}

    @pytest.mark.parametrize("fault", ["killed after a request", "killed within a request"])
    def test_a_change_is_there_or_it_is_not(self, checkout, memcached, fault, store):
        served = []
        checkout.warm()
        checkout.show("second", BIG)
        while killed_at(checkout, len(served) + 1, within="within" in fault, force=True):
            text, visit = reads(checkout)
            assert text in {"first", "second"}
            assert visit.compiled == []
            served.append(text)
            completes(checkout, "second", "--force")
            memcached.flush()
            checkout.show("first", BIG)
            checkout.warm()
            checkout.show("second", BIG)
        assert len(served) > 6
        assert served == sorted(served)
        assert set(served) == {"first", "second"}


class TestTwoAtOnce:
    @pytest.fixture
    def other(self, memcached, tmp_path) -> Checkout:
        """Another checkout, which calls itself the same release."""
        other = Checkout(tmp_path / "other", memcached.address, "first", "1")
        other.show("first", BIG)
        return other

    def test_of_one_release_both_succeed_and_it_is_there(self, checkout, other):
        with ThreadPoolExecutor() as both:
            warmed = list(both.map(lambda each: each.manage("warm_bytecode"), (checkout, other)))
        assert [(each.returncode, each.stderr) for each in warmed] == [(0, ""), (0, "")]
        served, visit = reads(checkout)
        assert (served, visit.compiled) == ("first", [])

    def test_of_different_contents_one_is_served_whole(self, checkout, other):
        other.show("second", BIG)
        with ThreadPoolExecutor() as both:
            warmed = list(both.map(lambda each: each.manage("warm_bytecode"), (checkout, other)))
        # The later one is refused, unless it looked before the other one published.
        assert sorted(each.returncode for each in warmed) in ([0, 0], [0, 1])
        for each in warmed:
            assert ("is published already" in each.stderr) == bool(each.returncode)
        served = {reads(each)[0] for each in (checkout, other)}
        assert len(served) == 1
        assert served < {"first", "second"}
