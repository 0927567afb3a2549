"""The guard around a store that fails, with a clock that only the test moves."""

import threading

import pytest

from django_jinja_bccache.exceptions import (
    NotSupported,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.base import StoreUsage
from django_jinja_bccache.stores.filesystem import FileSystemStore
from django_jinja_bccache.stores.guard import CircuitOpen, GuardedStore
from tests.stores.contract import ListingContract
from tests.stores.patient import (
    COOLDOWN,
    DEADLINE,
    DOWN,
    FULL,
    OPERATIONS,
    each_operation,
    failing,
)
from tests.stores.readers import in_threads


class TestGuardedDirectory(ListingContract):
    """A guard changes nothing about a store that is well."""

    longest_key = 4096

    @pytest.fixture
    def store(self, tmp_path):
        store = FileSystemStore(tmp_path)
        # A refused key keeps from storing for one cool-down.
        return GuardedStore(store, name="files", deadline=60, cooldown=1e-9)

    @pytest.fixture
    def crowd(self, tmp_path):
        return lambda count: [(tmp_path / f"{number}.bytecode").touch() for number in range(count)]


class TestAnOutage:
    @each_operation
    def test_it_is_one_warning_when_it_begins_and_one_info_when_it_ends(
        self, guarded, patient, clock, said, operate
    ):
        patient.does = DOWN
        for _ in range(50):
            with pytest.raises(StoreUnavailable):
                operate(guarded)
            clock.now += 1
        [warning] = said()
        assert warning.startswith(
            "WARNING: Bytecode cache 'x' is unavailable (connection refused)"
        )
        assert "next try in 10 s" in warning
        patient.does = lambda: None
        clock.now += COOLDOWN
        for _ in range(50):
            operate(guarded)
        assert said() == ["INFO: Bytecode cache 'x' answers again after 60.0 s."]

    @each_operation
    def test_nobody_asks_the_store_before_the_cooldown_is_over(
        self, guarded, patient, clock, operate
    ):
        patient.does = DOWN
        with pytest.raises(StoreUnavailable):
            operate(guarded)
        clock.now += COOLDOWN - 0.01
        for again in OPERATIONS.values():
            with pytest.raises(CircuitOpen):
                again(guarded)
        assert patient.calls == 1

    def test_one_in_eight_threads_probes_when_it_is_over(self, guarded, patient, clock):
        patient.does = DOWN
        with pytest.raises(StoreUnavailable):
            guarded.get("key")
        for round_ in range(1, 4):
            clock.now += COOLDOWN
            raised = in_threads(8, lambda _: guarded.get("key"))
            assert len(raised) == 8
            assert patient.calls == 1 + round_

    def test_others_do_not_wait_for_the_probe(self, guarded, patient, clock):
        patient.does = DOWN
        with pytest.raises(StoreUnavailable):
            guarded.get("key")
        clock.now += COOLDOWN
        probing, go_on = threading.Event(), threading.Event()
        patient.does = lambda: (probing.set(), go_on.wait(10))
        probe = threading.Thread(target=guarded.get, args=["key"])
        probe.start()
        assert probing.wait(10)
        with pytest.raises(CircuitOpen):
            guarded.get("key")
        go_on.set()
        probe.join()
        guarded.get("key")

    def test_a_probe_that_fails_begins_the_next_cooldown(self, guarded, patient, clock):
        patient.does = DOWN
        for calls in (1, 2, 3):
            with pytest.raises(StoreUnavailable):
                guarded.get("key")
            assert patient.calls == calls
            with pytest.raises(CircuitOpen):
                guarded.get("key")
            clock.now += COOLDOWN

    def test_the_cooldown_counts_from_the_failure_and_not_from_the_question(
        self, guarded, patient, clock
    ):
        def fail_late():
            clock.now += 4
            DOWN()

        patient.does = fail_late
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                guarded.get("key")
            clock.now += COOLDOWN - 1
            with pytest.raises(CircuitOpen):
                guarded.get("key")
            clock.now += 1
        assert patient.calls == 2

    def test_an_answer_after_the_deadline_is_used_and_counts_as_a_failure(
        self, guarded, patient, clock, said
    ):
        def answer_late():
            clock.now += DEADLINE + 0.1
            return b"late"

        patient.does = answer_late
        assert guarded.get("key") == b"late"
        assert "(an answer took 0.6 s)" in said()[0]
        with pytest.raises(CircuitOpen):
            guarded.get("key")

    @pytest.mark.parametrize("error", [KeyError("x"), OSError("x"), TypeError("x")], ids=repr)
    @each_operation
    def test_whatever_a_store_raises_is_a_store_error(self, guarded, patient, operate, error):
        patient.does = failing(error)
        with pytest.raises(StoreError, match=type(error).__name__) as caught:
            operate(guarded)
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize("error", [ValueTooLarge(2, 1), NotSupported("no")], ids=repr)
    @each_operation
    def test_what_cannot_be_done_is_no_outage(self, guarded, patient, said, operate, error):
        patient.does = failing(error)
        for _ in range(3):
            with pytest.raises(type(error)):
                operate(guarded)
        patient.does = lambda: None
        operate(guarded)
        guarded.get("key")
        assert patient.calls == 5
        assert said() == []


class TestARefusalToStore:
    def test_it_is_read_all_the_same(self, guarded, patient, clock):
        patient.does, patient.reads = FULL, lambda: b"1"
        for _ in range(5):
            with pytest.raises(StoreError):
                guarded.set("key", b"1", None)
            assert guarded.get("key") == b"1"
        assert patient.calls == 1

    def test_it_is_one_warning_and_one_info(self, guarded, patient, clock, said):
        patient.does, patient.reads = FULL, lambda: b"1"
        for _ in range(50):
            with pytest.raises(StoreError):
                guarded.set("key", b"1", None)
            guarded.get("key")
            clock.now += 1
        [warning] = said()
        assert warning.startswith("WARNING: Bytecode cache 'x' refuses to store (out of memory")
        patient.does = lambda: None
        clock.now += COOLDOWN
        guarded.set("key", b"1", None)
        guarded.set("key", b"1", None)
        assert said() == ["INFO: Bytecode cache 'x' stores again after 60.0 s."]

    def test_a_write_that_is_refused_ends_no_outage(self, guarded, patient, clock, said):
        patient.does = DOWN
        with pytest.raises(StoreUnavailable):
            guarded.get("key")
        for _ in range(5):
            clock.now += COOLDOWN
            patient.does = FULL
            with pytest.raises(StoreError):
                guarded.set("key", b"1", None)
            clock.now += COOLDOWN
            patient.does = DOWN
            with pytest.raises(StoreUnavailable):
                guarded.get("key")
        assert len(said()) == 1

    def test_it_is_asked_once_in_a_cooldown(self, guarded, patient, clock):
        patient.does = FULL
        for number in range(30):
            with pytest.raises(StoreError):
                guarded.set("key", b"1", None)
            clock.now += 1
            assert patient.calls == 1 + number // 10

    def test_an_outage_while_it_refuses_is_told_apart(self, guarded, patient, clock, said):
        patient.does = FULL
        with pytest.raises(StoreError):
            guarded.set("key", b"1", None)
        patient.does = DOWN
        with pytest.raises(StoreUnavailable):
            guarded.get("key")
        assert ["refuses" in said_ for said_ in said()] == [True, False]
        clock.now += COOLDOWN
        patient.does = lambda: None
        guarded.get("key")
        clock.now += COOLDOWN
        guarded.set("key", b"1", None)
        assert ["stores again" in said_ for said_ in said()] == [False, True]


@each_operation
def test_an_error_that_is_not_a_stores_own_is_one_outage(guarded, patient, said, operate):
    patient.does = failing(KeyError("x"))
    with pytest.raises(StoreError):
        operate(guarded)
    with pytest.raises(CircuitOpen):
        operate(guarded)
    [warning] = said()
    assert "is unavailable (KeyError: 'x')" in warning


def test_what_does_not_touch_the_store_is_not_kept_from_it(guarded, patient):
    patient.does = DOWN
    with pytest.raises(StoreUnavailable):
        guarded.usage()
    patient.does = lambda: "closed"
    guarded.close()
    assert patient.calls == 2


def test_usage_is_the_stores_own(guarded, patient):
    patient.does = lambda: StoreUsage(1, 2)
    assert guarded.usage() == StoreUsage(1, 2)


def test_to_measure_a_large_store_for_long_is_no_outage(guarded, patient, clock, said):
    def measure():
        clock.now += 10 * DEADLINE
        return StoreUsage(1, 2)

    patient.does = measure
    assert guarded.usage() == StoreUsage(1, 2)
    patient.does = lambda: b"1"
    assert guarded.get("key") == b"1"
    assert said() == []
