"""Clients that work in threads of their own, so that nobody waits for them past a deadline.

libmemcached's time-outs count from each byte anew, and those of a client that somebody else made
are unknown. Here the caller goes on at the deadline, whatever the client does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from django_jinja_bccache.stores.pool import ClientPool

Client = TypeVar("Client")
Result = TypeVar("Result")

# Operations that their callers have given up, but which still wait for the server: while a pool
# has so many of them it begins no others.
_MOST_OVERDUE = 4


class Overdue(TimeoutError):
    """An operation was not over in time.

    Args:
        has_begun: Whether it was under way, rather than waiting for its turn.
    """

    def __init__(self, *, has_begun: bool) -> None:
        super().__init__("no answer before the deadline")
        self.has_begun = has_begun


class Task:
    """One operation, and what became of it."""

    __slots__ = ("_error", "_over", "_result", "has_begun", "is_abandoned", "is_over", "operation")

    def __init__(self, operation: Callable[[Any], Any]) -> None:
        self.operation = operation
        self.has_begun = self.is_over = self.is_abandoned = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._over = threading.Lock()  # a fraction of what an Event costs
        self._over.acquire()

    def perform(self, use_client: Callable[[Callable[[Any], Any]], Any]) -> None:
        """Run the operation, unless nobody waits for it any more."""
        if self.is_abandoned:
            return
        self.has_begun = True
        try:
            self._result = use_client(self.operation)
        except BaseException as error:  # noqa: BLE001 - the caller's to handle
            self._error = error
        self.is_over = True
        self._over.release()

    def result(self, end: float) -> Any:
        """Return the operation's result, or raise its error, as soon as it is over.

        Raises:
            Overdue: It was not over by ``end``.
        """
        try:
            in_time = self._over.acquire(timeout=max(0.0, end - time.monotonic()))
        except BaseException:
            self.is_abandoned = True
            raise
        if not in_time:
            self.is_abandoned = True
            raise Overdue(has_begun=self.has_begun)
        if self._error is not None:
            raise self._error
        return self._result


class ClientThread(Generic[Client]):
    """One client and the thread that it works in, one operation after the other.

    Connecting and disconnecting happen in the thread as well: both may wait for the server.

    Args:
        connect: Makes the client.
        disconnect: Closes its connection.

    Attributes:
        end: For whoever has the client alone: when the next operation must be over, on the
            clock of ``time.monotonic()``.
    """

    def __init__(
        self, connect: Callable[[], Client], disconnect: Callable[[Client], object]
    ) -> None:
        self.end = 0.0
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._latest: Task | None = None
        self._starting = threading.Lock()
        self._thread = threading.Thread(
            target=_work, args=(self._tasks, connect, disconnect), name=__name__, daemon=True
        )

    def run(self, operation: Callable[[Client], Result], end: float) -> Result:
        """Run the operation when those before it are over.

        Raises:
            Overdue: It was not over by ``end``.
        """
        result: Result = self.submit(operation).result(end)
        return result

    def submit(self, operation: Callable[[Client], Any]) -> Task:
        """Have the operation run when those before it are over; return without waiting."""
        if self._thread.ident is None:
            with self._starting:
                if self._thread.ident is None:
                    self._thread.start()
        task = self._latest = Task(operation)
        self._tasks.put(task)
        return task

    @property
    def is_busy(self) -> bool:
        """Whether the latest operation is under way, given up or not."""
        latest = self._latest
        return latest is not None and not latest.is_over and self._thread.is_alive()

    def stop(self, wait: float = 0.0) -> None:
        """Disconnect, and let the thread end, after the operation under way.

        Args:
            wait: Seconds to wait for the end.
        """
        self._tasks.put(None)
        if wait and self._thread.is_alive():
            self._thread.join(wait)

    def __del__(self) -> None:
        self.stop()


def _work(
    tasks: SimpleQueue[Task | None],
    connect: Callable[[], Client],
    disconnect: Callable[[Client], object],
) -> None:
    clients: list[Client] = []

    def use_client(operation: Callable[[Client], Any]) -> Any:
        if not clients:
            clients.append(connect())
        return operation(clients[0])

    while (task := tasks.get()) is not None:
        task.perform(use_client)
        del task  # what it returned is not kept until the next one comes
    with suppress(Exception):
        for client in clients:
            disconnect(client)


class ThreadedPool(Generic[Client]):
    """Clients for one user each, which work in threads of their own.

    Args:
        connect: Makes a client.
        disconnect: Closes a client's connection.
        deadline: Seconds that one operation may take.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        disconnect: Callable[[Client], object],
        *,
        deadline: float,
    ) -> None:
        overdue: list[ClientThread[Client]] = []

        def release(thread: ClientThread[Client]) -> None:
            thread.stop()
            if thread.is_busy:
                overdue.append(thread)

        self._overdue = overdue
        self._pool: ClientPool[ClientThread[Client]] = ClientPool(
            lambda: ClientThread(connect, disconnect), release, deadline=deadline, begin=_begin
        )

    def call(self, operation: Callable[[Client], Result]) -> Result:
        """Run the operation with a client that nobody else uses meanwhile.

        Raises:
            TimeoutError: It was not over at the deadline, or too many before it still wait.
        """
        if self._overdue:
            self._overdue[:] = [thread for thread in self._overdue if thread.is_busy]
            if len(self._overdue) >= _MOST_OVERDUE:
                raise TimeoutError(f"{_MOST_OVERDUE} operations still wait for an answer")
        return self._pool.call(lambda thread: thread.run(operation, thread.end))

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()


def _begin(thread: ClientThread[Any], end: float) -> None:
    thread.end = end
