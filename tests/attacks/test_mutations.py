"""Whatever becomes of a stored value: the page is right, nothing runs, and it is counted.

A sample is tried in every run; all of them with --every-mutation.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial

import jinja2
import pytest
from hypothesis import HealthCheck, given, seed, settings

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.bytecode import payload_of
from django_jinja_bccache.compression import ZLIB
from django_jinja_bccache.entry import SigningKey, seal, unseal
from tests.attacks.mutations import KINDS, Stolen, all_of, flips, garbage, parts_of
from tests.attacks.targets import (
    CHANGED,
    CHANGED_PAGES,
    PACK_NAMES,
    PACK_PAGES,
    PAGES,
    SECRET,
    PackTarget,
    Target,
    close,
    contents,
    environment,
    files,
    pack_keys,
    sqlite_file,
)
from tests.raw import raw_store

Attack = Callable[[bytes, str], str]
# The packs of which all mutations are tried: the first, which holds the index, one in the middle
# and the last.
ATTACKED = (0, 1, 3)


def try_all(tally, mutations, sample: int, attack: Attack) -> None:
    for value, reason in tally.chosen(mutations, sample):
        began = time.perf_counter()
        problem = attack(value, reason)
        tally.note(problem, time.perf_counter() - began, value)
    tally.check()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Target:
    return Target(*files(tmp_path_factory.mktemp("page")))


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Target:
    return Target(*files(tmp_path_factory.mktemp("large")), "large.html")


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> PackTarget:
    return PackTarget(*files(tmp_path_factory.mktemp("packs")))


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "marker"
    yield str(path)
    assert not path.exists()


class TestEntries:
    @pytest.mark.parametrize("kind", list(KINDS))
    def test_no_mutation_of_an_entry_does_harm(self, page, kind, tally):
        try_all(tally, KINDS[kind](page.stolen), 80, page.attack)

    def test_no_wrong_bit_of_the_header_or_the_mac_is_overlooked(self, page, few):
        """All of them in every run."""
        mac_end = len(page.stolen.good) - len(parts_of(page.stolen.good)[2])
        every = list(KINDS["flips"](page.stolen))
        for value, reason in every[: 22 * 8] + every[(mac_end - 32) * 8 : mac_end * 8]:
            began = time.perf_counter()
            few.note(page.attack(value, reason), time.perf_counter() - began, value)
        few.check()

    def test_a_wrong_bit_of_a_large_pages_entry_does_no_harm(self, large, tally):
        mutations = itertools.islice(KINDS["flips"](large.stolen), 3, None, 7)
        try_all(tally, mutations, 60, large.attack)

    def test_no_wrong_bit_of_a_compressed_entry_does_harm(self, page, tally):
        stolen = page.stolen
        unsealed = unseal(stolen.entry_key, stolen.good, SigningKey(SECRET))
        value = seal(
            stolen.entry_key,
            bytes(unsealed.payload),
            SigningKey(SECRET),
            label=unsealed.label,
            method=ZLIB,
        )
        page.raw.plant(page.key, value)
        assert page.visit(page.name)[1].hits == 1
        compressed = Stolen(stolen.entry_key, value, stolen.others, SECRET)
        try_all(tally, KINDS["flips"](compressed), 80, page.attack)

    def test_no_garbage_that_hypothesis_makes_does_harm(self, page, tally, marker):
        whole = tally.shard is not None

        @seed(tally.shard or 0)
        @settings(
            max_examples=1_000 if whole else 120,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(garbage(page.stolen, marker))
        def try_one(value: bytes) -> None:
            began = time.perf_counter()
            reason = "corrupt"
            if len(value) >= 54 and value[:4] == b"jbcc":
                reason = "signature" if value[4] == 1 else "version"
            problem = page.attack(value, reason)
            tally.note(problem, time.perf_counter() - began, value)
            assert not problem

        try_one()
        tally.check()

    def test_the_entries_of_two_templates_may_not_change_places(self, page):
        held = contents(page.raw)
        other = next(key for key in held if held[key] == page.stolen.others[0])
        for key, value in ((page.key, page.stolen.others[0]), (other, page.stolen.good)):
            page.raw.plant(key, value)
        for name in ("page.html", "other.html"):
            text, counts = page.visit(name)
            assert text == PAGES[name]
            assert counts.miss_reasons == {"signature": 1}
            assert page.visit(name)[1].hits == 1


class TestFiles:
    def test_no_wrong_bit_before_the_value_does_harm(self, page, tally):
        path, head = page.raw.head(page.key)

        def attack(content: bytes, _reason: str) -> str:
            """A bit of the expiry may leave the value in force; any other is a miss."""
            path.write_bytes(content)
            try:
                text, counts = page.visit(page.name)
                healed, after = page.visit(page.name)
            except Exception as error:
                return f"crash: {error!r}"
            if text != PAGES[page.name] or healed != PAGES[page.name]:
                return f"wrong page: {text!r}, then {healed!r}"
            if counts.hits == 0 and (counts.stores, counts.miss_reasons) != (1, {"absent": 1}):
                return f"not counted: {counts}"
            if counts.errors or after.hits != 1:
                return f"not healed: {counts}, {after}"
            return ""

        contents = ((damaged + page.stolen.good, "absent") for damaged in flips(head))
        try_all(tally, contents, 60, attack)
        page.raw.plant(page.key, page.stolen.good)


class TestPacks:
    @pytest.mark.parametrize("number", ATTACKED)
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "substitutes"])
    def test_a_mutated_pack_is_a_miss_for_its_own_names_only(self, packs, number, kind, tally):
        try_all(tally, KINDS[kind](packs.stolen(number)), 10, partial(packs.attack, number))

    @pytest.mark.parametrize("number", range(4))
    def test_without_entries_beside_it_its_names_are_compiled(self, packs, number, tally):
        def attack(value: bytes, reason: str) -> str:
            return packs.attack(number, value, reason, alone=True)

        mutations = itertools.islice(all_of(packs.stolen(number)), number, None, 40)
        try_all(tally, mutations, 10, attack)

    @pytest.mark.parametrize("number", range(4))
    def test_the_next_publish_heals_it(self, packs, number, tally):
        def attack(value: bytes, _reason: str) -> str:
            return packs.heals(number, value)

        # A compression of a later version, with the right MAC: see test_former_holes.
        every = (
            (value, reason)
            for value, reason in all_of(packs.stolen(number))
            if reason != "version" or value[4] != 1
        )
        try_all(tally, itertools.islice(every, number, None, 200), 8, attack)

    def test_packs_in_any_order_but_their_own_are_refused(self, packs):
        values = [packs.good[key] for key in packs.keys]
        for order in itertools.permutations(range(4)):
            for key, place in zip(packs.keys, order, strict=True):
                packs.raw.plant(key, values[place])
            pages, counts, events = packs.visit()
            assert pages == PACK_PAGES
            assert (counts.misses, counts.errors) == (0, 0)
            reasons = [event.reason for event in events if event.kind == "rejected"]
            wrong = sum(place != number for number, place in enumerate(order))
            # Without pack 0 nobody opens the others.
            assert reasons == ["signature"] * (wrong if order[0] == 0 else 1)
        packs.restore()

    def test_packs_and_entries_may_not_change_places(self, packs):
        [entry, *_] = packs.entry_keys()
        for pack in packs.keys:
            packs.raw.plant(pack, packs.good[entry])
            packs.raw.plant(entry, packs.good[pack])
            pages, counts, _ = packs.visit()
            assert pages == PACK_PAGES
            assert counts.errors == 0
            assert counts.rejected in {1, 2}
            packs.restore()

    def test_packs_of_two_publishes_in_any_mixture_show_the_pages_of_now(self, tmp_path):
        site = PackTarget(*files(tmp_path))
        old = dict(site.good)
        site.publish(CHANGED)
        new = contents(site.raw)
        assert pack_keys(site.raw) == site.keys
        for choice in itertools.product([old, new, None], repeat=4):
            for key, values in zip(site.keys, choice, strict=True):
                site.raw.plant(key, b"" if values is None else values[key])
            pages, counts, events = site.visit(CHANGED)
            assert pages == CHANGED_PAGES
            assert (counts.hits, counts.misses, counts.errors) == (4, 0, 0)
            assert all(event.reason == "corrupt" for event in events if event.kind == "rejected")

    @pytest.mark.parametrize(
        "options", [{"release": "2026.11"}, {"salt": "other"}, {"key": "another site's"}], ids=str
    )
    def test_packs_of_another_release_environment_or_site_are_refused(self, tmp_path, options):
        make, raw = files(tmp_path)
        site = PackTarget(make, raw)
        PackTarget.publish(site, CHANGED, **options)
        foreign = [key for key in pack_keys(raw) if key not in site.keys]
        assert len(foreign) == 4
        for number, (key, other) in enumerate(zip(site.keys, foreign, strict=True)):
            problem = site.attack(number, raw.get(other), "signature")
            assert not problem
            raw.plant(key, raw.get(other))
        pages, counts, _ = site.visit()
        assert pages == PACK_PAGES
        assert (counts.misses, counts.errors, counts.rejected) == (0, 0, 1)

    def test_a_releases_packs_serve_no_other_release(self, tmp_path):
        make, raw = files(tmp_path)
        site = PackTarget(make, raw)
        site.publish(release="one")
        one = set(pack_keys(raw)) - set(site.keys)
        site.publish(CHANGED, release="two")
        two = set(pack_keys(raw)) - set(site.keys) - one
        pairs = [
            (key, next(other for other in one if other[-2:] == key[-2:])) for key in sorted(two)
        ]
        for key, other in pairs:
            raw.plant(key, raw.get(other))
        pages, counts, _ = site.visit(CHANGED, release="two")
        assert pages == CHANGED_PAGES
        assert (counts.misses, counts.rejected) == (0, 1)


# How many of a server's are tried: its answers take longer than a file's.
OVER_A_SERVER = {"entries": 150, "packs": 25}


class TestServers:
    def test_no_mutation_over_a_server_does_harm(self, server, request, few):
        def make(**options):
            return DjangoBytecodeCache(**{"key": SECRET, "deadline": 10, **options})

        self.try_a_few(make, raw_store(server, request), few)

    def test_no_mutation_in_sqlite_does_harm(self, tmp_path, few):
        self.try_a_few(*sqlite_file(tmp_path), few)

    def try_a_few(self, make, raw, few) -> None:
        target = Target(make, raw)
        every = list(all_of(target.stolen))
        for value, reason in every[7 :: len(every) // OVER_A_SERVER["entries"] | 1]:
            self.note(few, target.attack, value, reason)
        few.check()

    @staticmethod
    def note(few, attack: Attack, value: bytes, reason: str) -> None:
        began = time.perf_counter()
        problem = attack(value, reason)
        few.note(problem, time.perf_counter() - began, value)

    def test_no_mutated_pack_on_a_server_does_harm(self, server, request, few):

        def make(**options):
            return DjangoBytecodeCache(**{"key": SECRET, "deadline": 10, **options})

        site = PackTarget(make, raw_store(server, request))
        for number in range(4):
            every = list(all_of(site.stolen(number)))
            for value, reason in every[3 :: len(every) // OVER_A_SERVER["packs"] | 1]:
                self.note(few, partial(site.attack, number), value, reason)
        few.check()


class TestTheTestsThemselves:
    def test_all_mutations_are_more_than_100_000(self, page, packs):
        count = sum(1 for _ in all_of(page.stolen))
        kinds = [kind for kind in KINDS if kind != "substitutes"]
        for number in ATTACKED:
            count += sum(1 for kind in kinds for _ in KINDS[kind](packs.stolen(number)))
        assert count > 100_000

    def test_whoever_has_the_key_gets_in(self, page):
        stolen = page.stolen
        code = jinja2.Environment().compile("not what it was", "page.html")
        value = seal(stolen.entry_key, payload_of(code, "page.html"), SigningKey(SECRET))
        assert page.attack(value, "signature") == (
            "code run: {'marshal.loads': 1, 'exec': 1}, 0 compiled"
        )
        assert page.visit("page.html")[0] == "not what it was"
        cache = page.make()
        assert environment(cache).get_template("page.html").render() == "not what it was"
        close(cache)
        page.raw.plant(page.key, stolen.good)

    def test_a_pack_that_is_as_it_was_is_no_mutation(self, packs):
        for number, key in enumerate(packs.keys):
            assert packs.attack(number, packs.good[key], "signature")
        assert len(packs.held[0]) == len(PACK_NAMES)
