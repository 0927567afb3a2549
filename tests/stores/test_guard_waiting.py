"""What a guard does for others while one thread waits for the store."""

import threading
from collections.abc import Callable

import pytest

from django_jinja_bccache.exceptions import StoreUnavailable
from django_jinja_bccache.stores.guard import CircuitOpen
from tests.stores.patient import COOLDOWN, DEADLINE, DOWN, OPERATIONS, failing
from tests.stores.readers import in_threads


@pytest.fixture
def slow(guarded, patient):
    """Begins a get in a thread, and makes it end with a value or an error."""
    entered, go_on = threading.Event(), threading.Event()
    ends: list[Callable[[], object]] = []

    def get():
        entered.set()
        assert go_on.wait(10)
        return ends[0]()

    def begin():
        patient.reads = get
        thread = threading.Thread(target=lambda: raised.extend(in_threads(1, ask)))
        thread.start()
        assert entered.wait(10)
        patient.reads = None

        def end(how: Callable[[], object]) -> list[BaseException]:
            ends.append(how)
            go_on.set()
            thread.join()
            return raised

        return end

    def ask(_):
        return guarded.get("key")

    raised: list[BaseException] = []
    yield begin
    ends.append(lambda: None)
    go_on.set()


def test_they_ask_as_well_while_the_wait_is_a_usual_one(guarded, slow, clock, patient):
    end = slow()
    clock.now += DEADLINE / 10
    guarded.get("key")
    assert patient.calls == 1
    assert end(lambda: b"1") == []


def test_they_do_without_once_it_is_suspiciously_long(guarded, slow, clock, patient):
    end = slow()
    clock.now += DEADLINE * 0.6
    with pytest.raises(CircuitOpen):
        guarded.get("key")
    assert patient.calls == 0
    assert end(lambda: b"1") == []
    guarded.get("key")
    assert patient.calls == 1


def test_they_go_on_asking_as_long_as_one_of_them_is_answered(guarded, slow, clock, patient):
    end = slow()
    for _ in range(10):
        clock.now += DEADLINE / 5
        guarded.get("key")
    assert patient.calls == 10
    assert end(lambda: b"1") == []


def test_a_late_answer_does_not_end_an_outage(guarded, slow, patient, said):
    end = slow()
    patient.does = DOWN
    with pytest.raises(StoreUnavailable):
        guarded.get("key")
    said()
    assert end(lambda: b"1") == []
    with pytest.raises(CircuitOpen):
        guarded.get("key")
    assert said() == []


def test_a_late_failure_does_not_prolong_an_outage(guarded, slow, patient, clock, said):
    end = slow()
    patient.does = DOWN
    with pytest.raises(StoreUnavailable):
        guarded.get("key")
    said()
    clock.now += COOLDOWN - 1
    assert [type(error) for error in end(DOWN)] == [StoreUnavailable]
    assert said() == []
    clock.now += 1
    patient.does = lambda: b"1"
    assert guarded.get("key") == b"1"


def test_one_who_was_interrupted_keeps_nobody_waiting(guarded, patient, clock, said):
    class Interrupt(BaseException):
        """Such as gevent's Timeout, or KeyboardInterrupt."""

    for operate in OPERATIONS.values():
        patient.does = failing(Interrupt())
        with pytest.raises(Interrupt):
            operate(guarded)
    clock.now += 3600
    patient.does = lambda: None
    for operate in OPERATIONS.values():
        operate(guarded)
    assert said() == []
