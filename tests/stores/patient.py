"""A store whose illness the test decides, and the operations that a guard passes on to it."""

from collections.abc import Callable

import pytest

from django_jinja_bccache.exceptions import StoreError, StoreUnavailable

DEADLINE, COOLDOWN = 0.5, 10.0


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Patient:
    """A store that does, at each call, what the test says."""

    def __init__(self) -> None:
        self.calls = 0
        self.does: Callable[[], object] = lambda: None
        self.reads: Callable[[], object] | None = None

    def _call(self, *_arguments: object):
        self.calls += 1
        return self.does()

    def get(self, key):
        return self._call() if self.reads is None else self.reads()

    get_many = set = set_many = delete_many = scan = usage = close = _call


def failing(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


DOWN = failing(StoreUnavailable("connection refused"))
FULL = failing(StoreError("out of memory storing object"))


OPERATIONS = {
    "get": lambda store: store.get("key"),
    "get_many": lambda store: store.get_many(["key"]),
    "set": lambda store: store.set("key", b"1", None),
    "set_many": lambda store: store.set_many({"key": b"1"}, None),
    "delete_many": lambda store: store.delete_many(["key"]),
    "usage": lambda store: store.usage(),
}
each_operation = pytest.mark.parametrize("operate", OPERATIONS.values(), ids=OPERATIONS)
