"""Raw clients, lent to one user at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

Client = TypeVar("Client")
Result = TypeVar("Result")

# A client inherited through fork() shares its connection with the parent. Using it mixes up
# both processes' answers, and freeing a pylibmc client closes the parent's connection.
_inherited: list[object] = []


class Clients(Protocol):
    """Whatever hands out a client for the length of one operation."""

    def call(self, operation: Callable[[Any], Result]) -> Result:
        """Run the operation with a client that nobody else uses meanwhile."""

    def close(self) -> None:
        """Close the connections that are not in use."""


class ClientPool(Generic[Client]):
    """As many clients as there are users at the same moment, each kept for the next one.

    Threads come and go (under ASGI each request has its own), so a client belongs to none.
    After a fork the child begins with clients of its own.

    Args:
        connect: Makes a client.
        disconnect: Closes a client's connection.
        deadline: Seconds that one operation may take.
        begin: Tells a client when its next operation must be over, on the clock of
            ``time.monotonic()``.
        connection_lost: The errors that say that the server closed a connection.
        share_fate: Whether what ails one connection may have befallen the idle ones as well.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        disconnect: Callable[[Client], None],
        *,
        deadline: float,
        begin: Callable[[Client, float], None],
        connection_lost: tuple[type[Exception], ...] = (ConnectionError,),
        share_fate: bool = True,
    ) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._deadline = deadline
        self._begin = begin
        self._connection_lost = connection_lost
        self._share_fate = share_fate
        self._idle: list[Client] = []
        self._pid = os.getpid()

    def call(self, operation: Callable[[Client], Result]) -> Result:
        """Run the operation with a client that nobody else uses meanwhile.

        A connection that died while it lay idle says nothing about the server: the operation
        is tried once more on a new one.
        """
        if self._pid != os.getpid():
            _inherited.append(self._idle)
            self._idle, self._pid = [], os.getpid()
        end = time.monotonic() + self._deadline
        try:
            client = self._idle.pop()
        except IndexError:
            return self._run(self._connect(), operation, end)
        try:
            return self._run(client, operation, end)
        except self._connection_lost:
            pass
        return self._run(self._connect(), operation, end)

    def _run(self, client: Client, operation: Callable[[Client], Result], end: float) -> Result:
        self._begin(client, end)
        try:
            result = operation(client)
        except BaseException:
            # Its connection may still hold half an answer, which the next user would get.
            self._disconnect(client)
            if self._share_fate:  # nobody is to wait for each of those that lie idle
                self.close()
            raise
        self._idle.append(client)
        return result

    def close(self) -> None:
        """Close the connections that are not in use."""
        if self._pid != os.getpid():
            return
        while True:
            try:
                client = self._idle.pop()
            except IndexError:
                return
            self._disconnect(client)

    def __del__(self) -> None:
        # A cache is dropped without a word, in tests for one; its connections are not to linger.
        self.close()
