"""A store that fails at once while the one beneath it is ill."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from django_jinja_bccache.exceptions import (
    NotSupported,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.base import Store, StoredItem, StoreUsage

logger = logging.getLogger("django_jinja_bccache")

Clock = Callable[[], float]
Result = TypeVar("Result")


class CircuitOpen(StoreUnavailable):
    """The store was not asked: it failed a moment ago, or keeps another thread waiting."""


class Ticket:
    """One operation under way."""

    __slots__ = ("began", "is_probe")

    def __init__(self, began: float, *, is_probe: bool) -> None:
        self.began = began
        self.is_probe = is_probe


class Circuit:
    """Decides who may try.

    While it is closed, everybody may, unless somebody has been waiting suspiciously long and
    nobody was answered meanwhile: among many threads a wait may be one for the processor.
    A failure opens it: nobody may before the cool-down is over, then one probes for all, and
    the outcome closes it or begins the next cool-down.

    Args:
        cooldown: Seconds that a failure keeps it open.
        patience: Seconds after which a wait is suspicious.
        clock: Tells the time in seconds.
    """

    def __init__(self, cooldown: float, patience: float, clock: Clock) -> None:
        self._cooldown = cooldown
        self._patience = patience
        self._clock = clock
        self._transition = threading.Lock()
        self._under_way: dict[Ticket, None] = {}
        self._opened_at: float | None = None
        self._retry_at = 0.0
        self._answered_at = 0.0

    def enter(self) -> Ticket:
        """Begin an operation. It ends with ``succeed``, ``fail`` or ``abandon``.

        Raises:
            CircuitOpen: It is not to be tried now.
        """
        now = self._clock()
        is_probe = self._opened_at is not None
        if is_probe:
            with self._transition:
                if now < self._retry_at:
                    raise CircuitOpen("it failed a moment ago")
                # Nobody else probes before this probe has had time to fail.
                self._retry_at = now + self._cooldown
        elif now - max(self._oldest_began(now), self._answered_at) > self._patience:
            raise CircuitOpen("it keeps another thread waiting")
        ticket = Ticket(now, is_probe=is_probe)
        self._under_way[ticket] = None
        return ticket

    def abandon(self, ticket: Ticket) -> float:
        """End an operation that says nothing; return the seconds it took."""
        del self._under_way[ticket]
        return self._clock() - ticket.began

    def succeed(self, ticket: Ticket) -> float | None:
        """End an operation; return the seconds that the outage lasted which ends with it."""
        self.abandon(ticket)
        self._answered_at = self._clock()
        if not ticket.is_probe:
            return None
        with self._transition:
            began, self._opened_at = self._opened_at, None
        return None if began is None else self._clock() - began

    def fail(self, ticket: Ticket) -> bool:
        """End an operation; tell whether an outage begins with it."""
        self.abandon(ticket)
        now = self._clock()
        with self._transition:
            begins = self._opened_at is None
            if begins:
                self._opened_at = now
            if begins or ticket.is_probe:
                self._retry_at = now + self._cooldown
        return begins

    def _oldest_began(self, now: float) -> float:
        try:
            oldest = next(iter(self._under_way), None)
        # Another thread came or went just now, so things move.
        except RuntimeError:  # pragma: no cover - between two instructions of next()
            return now
        return now if oldest is None else oldest.began


class GuardedStore:
    """Bounds what an ill store costs.

    An outage is one warning when it begins and one info when it ends. A store that answers
    but refuses to store (full, read-only) is still read from.

    Args:
        store: The store to guard. It keeps the deadline itself as far as its client allows.
        name: What to call it in the log.
        deadline: Seconds that an operation may take. One that took longer counts as failed,
            although its result is used.
        cooldown: Seconds during which nobody asks after a failure.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        name: str,
        deadline: float,
        cooldown: float,
        clock: Clock = time.monotonic,
    ) -> None:
        self._store = store
        self._name = name
        self._deadline = deadline
        self._cooldown = cooldown
        self._clock = clock
        self._reach = Circuit(cooldown, deadline / 2, clock)
        self._acceptance = Circuit(cooldown, float("inf"), clock)

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        return self._ask(lambda: self._store.get(key))

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""
        return self._ask(lambda: self._store.get_many(keys))

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        self._write(lambda: self._store.set(key, value, timeout))

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        return self._write(lambda: self._store.set_many(items, timeout))

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        return self._write(lambda: self._store.delete_many(keys))

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``, however long that takes."""
        return self._store.scan(prefix)

    def usage(self) -> StoreUsage:
        """Tell how full the store is."""
        # A large directory takes long to be measured, which says nothing about a page's read.
        return self._ask(self._store.usage, may_be_slow=True)

    def close(self) -> None:
        """Close the store's connections."""
        self._store.close()

    def _write(self, operation: Callable[[], Result]) -> Result:
        ticket = self._acceptance.enter()
        try:
            result = self._ask(operation, refusal_is_failure=False)
        except (StoreUnavailable, ValueTooLarge, NotSupported):
            self._acceptance.abandon(ticket)
            raise
        except StoreError as error:
            if self._acceptance.fail(ticket):
                logger.warning(
                    "Bytecode cache %s refuses to store (%s). Templates that are not in it "
                    "are compiled in each process; next try in %g s.",
                    self._name,
                    error,
                    self._cooldown,
                )
            raise
        except BaseException:
            self._acceptance.abandon(ticket)
            raise
        if (seconds := self._acceptance.succeed(ticket)) is not None:
            logger.info("Bytecode cache %s stores again after %.1f s.", self._name, seconds)
        return result

    def _ask(
        self,
        operation: Callable[[], Result],
        *,
        refusal_is_failure: bool = True,
        may_be_slow: bool = False,
    ) -> Result:
        ticket = self._reach.enter()
        try:
            result = operation()
        except (NotSupported, ValueTooLarge):
            self._succeeded(ticket)
            raise
        except StoreError as error:
            if refusal_is_failure or isinstance(error, StoreUnavailable):
                self._failed(ticket, str(error))
                raise
            if ticket.is_probe:
                # An error in answer to a write may be all that an ill server has to say.
                self._failed(ticket, str(error))
                raise StoreUnavailable(str(error)) from error
            self._succeeded(ticket)
            raise
        except Exception as error:
            self._failed(ticket, f"{type(error).__name__}: {error}")
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
        except BaseException:  # gevent's time-outs, for one, say nothing about the store
            self._reach.abandon(ticket)
            raise
        took = self._clock() - ticket.began
        if took > self._deadline and not may_be_slow:
            self._failed(ticket, f"an answer took {took:.1f} s")
        else:
            self._succeeded(ticket)
        return result

    def _failed(self, ticket: Ticket, problem: str) -> None:
        if self._reach.fail(ticket):
            logger.warning(
                "Bytecode cache %s is unavailable (%s). Templates are compiled in each "
                "process until it answers again; next try in %g s.",
                self._name,
                problem,
                self._cooldown,
            )

    def _succeeded(self, ticket: Ticket) -> None:
        if (seconds := self._reach.succeed(ticket)) is not None:
            logger.info("Bytecode cache %s answers again after %.1f s.", self._name, seconds)
