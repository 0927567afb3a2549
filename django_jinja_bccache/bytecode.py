"""A template's code as a sealed value, and back."""

from __future__ import annotations

import json
import marshal
from types import CodeType
from typing import NamedTuple

from django_jinja_bccache.compiling import Reference, with_filename
from django_jinja_bccache.exceptions import EntryRejected

# What jinja2.Template.from_code takes out of a template's module.
_EXPECTED_NAMES = frozenset({"blocks", "debug_info", "name", "root"})


class Label(NamedTuple):
    """What an entry says of itself.

    Attributes:
        template: The template's name as its loader knows it, None if not recorded.
        checksum: The checksum of its source.
        references: The templates that it names.
    """

    template: str | None
    checksum: str
    references: tuple[Reference, ...] = ()

    def to_bytes(self) -> bytes:
        references = [[item.names, item.lineno, item.optional] for item in self.references]
        return json.dumps([self.template, self.checksum, references]).encode()

    @classmethod
    def from_bytes(cls, label: bytes) -> Label:
        template, checksum, references = json.loads(label)
        return cls(
            template,
            checksum,
            tuple(Reference(tuple(names), line, optional) for names, line, optional in references),
        )


def payload_of(code: CodeType, template: str | None) -> bytes:
    """Return the bytes that stand for a template's code on every host.

    They name the template, not the path that its file has here.
    """
    return marshal.dumps(code if template is None else with_filename(code, template))


def code_from(payload: bytes | memoryview) -> CodeType:
    """Return the code object that an authentic payload stands for.

    Raises:
        EntryRejected: It stands for something else.
    """
    try:
        code = marshal.loads(payload)  # noqa: S302 - authenticated by unseal()
    except (EOFError, ValueError, TypeError):
        raise EntryRejected("corrupt") from None
    if not isinstance(code, CodeType) or not _EXPECTED_NAMES.issubset(code.co_names):
        raise EntryRejected("corrupt")
    return code
