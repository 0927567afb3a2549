"""Clients in threads of their own, and those who wait for them."""

import os
import signal
import threading
import time

import pytest

from django_jinja_bccache.stores.threads import ClientThread
from tests.stores.contract import eventually


class Interrupt(BaseException):
    """Such as KeyboardInterrupt, or gevent's Timeout."""


@pytest.fixture
def interruptible():
    """Lets a signal interrupt whatever the main thread waits for."""

    def interrupt(*_):
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_what_an_interrupted_caller_waited_for_is_not_begun_any_more(interruptible):
    thread = ClientThread(list, lambda client: None)
    first_may_end, done = threading.Event(), []

    def first(client):
        assert eventually(lambda: not thread._tasks.empty())
        time.sleep(0.2)  # until the caller waits
        os.kill(os.getpid(), signal.SIGUSR1)
        first_may_end.wait(30)
        done.append("first")

    thread.submit(first)
    with pytest.raises(Interrupt):
        thread.run(lambda client: done.append("second"), time.monotonic() + 60)
    first_may_end.set()
    thread.run(lambda client: done.append("third"), time.monotonic() + 60)
    assert done == ["first", "third"]
    thread.stop(wait=10)
