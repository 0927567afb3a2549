"""A client that somebody else made, shared by all who need one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from django_jinja_bccache.stores.pool import Clients
from django_jinja_bccache.stores.threads import ClientThread, Overdue

Result = TypeVar("Result")


class Shareable(Protocol):
    """A client that somebody else made, and what it takes to share it."""

    def interrupt(self) -> None:
        """End the operation under way in another thread, if that can be done."""

    def leave_thread(self) -> None:
        """Close what belongs to the thread that this is called in, and to no other."""

    def in_child(self) -> Any:
        """Return the client to use in a forked child, which inherited this one."""


Client = TypeVar("Client", bound=Shareable)


class SharedClient(Generic[Client]):
    """One client that somebody else made: its users take turns.

    Args:
        client: The client.
    """

    def __init__(self, client: Client) -> None:
        self._in_process = {os.getpid(): (client, _thread_of(client))}
        _shared.add(self)

    def within(self, deadline: float) -> Clients:
        """Return the client as a source of clients.

        Args:
            deadline: Seconds that one operation may take, with the wait for its turn.
        """
        return _Turns(self, deadline)

    def run(self, operation: Callable[[Client], Result], deadline: float) -> Result:
        """Run the operation while nobody else uses the client through this object.

        Raises:
            Overdue: It was not over at the deadline.
        """
        client, thread = self.of_this_process()
        try:
            return thread.run(operation, time.monotonic() + deadline)
        except Overdue as overdue:
            if overdue.has_begun:
                client.interrupt()
            raise

    def of_this_process(self) -> tuple[Client, ClientThread[Client]]:
        """Return the client and its thread; a forked child gets others than its parent's."""
        pid = os.getpid()  # at each use: uWSGI, for one, forks without a word to Python
        if pid not in self._in_process:
            inherited = list(self._in_process.values())
            _inherited.extend(inherited)
            client = inherited[0][0].in_child()
            self._in_process.setdefault(pid, (client, _thread_of(client)))
        return self._in_process[pid]


def _thread_of(client: Client) -> ClientThread[Client]:
    return ClientThread(lambda: client, lambda client: client.leave_thread())


class _Turns:
    def __init__(self, shared: SharedClient[Any], deadline: float) -> None:
        self._shared = shared
        self._deadline = deadline

    def call(self, operation: Callable[[Any], Result]) -> Result:
        return self._shared.run(operation, self._deadline)

    def close(self) -> None:
        """Do nothing: whoever made the client closes it."""


# Freeing a client of pylibmc that was inherited closes the parent's connection.
_inherited: list[object] = []
_shared: WeakSet[SharedClient[Any]] = WeakSet()


def _begin_anew_after_fork() -> None:
    for shared in list(_shared):
        shared.of_this_process()


os.register_at_fork(after_in_child=_begin_anew_after_fork)
