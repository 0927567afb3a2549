"""What each thread has asked a store since its last load."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django_jinja_bccache.stores.guard import CircuitOpen


class Account(threading.local):
    """What this thread has asked the store since it was last told."""

    def __init__(self) -> None:
        #: Seconds that it took.
        self.seconds = 0.0
        self._round_trips = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Put what happens to the account, unless the store is not asked at all."""
        began, round_trips = time.perf_counter(), 1
        try:
            yield
        except CircuitOpen:
            round_trips = 0
            raise
        finally:
            self.seconds += time.perf_counter() - began
            self._round_trips += round_trips

    def settle(self) -> tuple[float, int]:
        """Return the seconds and the round trips, and begin anew."""
        found = self.seconds, self._round_trips
        self.seconds, self._round_trips = 0.0, 0
        return found
