"""The note that processes with any key read: nothing that it claims is believed."""

import json
import logging
import re

import pytest

from django_jinja_bccache.entry import SigningKey, seal
from tests.attacks.mutations import KINDS
from tests.attacks.targets import (
    PACK_PAGES,
    SECRET,
    PackTarget,
    Stolen,
    contents,
    files,
    is_note,
    pack_keys,
)

OWN, OTHER = "the web server's", "the build host's"
# What a line in the log may hold: the ids of two keys, and the engine's name.
LINE = re.compile(r"[\w .,;()'\"/:=-]{1,600}")
INJECTED = "\n2026-11-20 CRITICAL forged \x1b[31m"
LABELS = [
    b"",
    b"null",
    b"42",
    b"1e400",
    b"9" * 99,
    b"[" * 99,
    b'{"key":' * 14,
    b"\xff\xfe",
    b"{}",
    b'{"key": null}',
    b'{"key": 1234567890123456}',
    b'{"key": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}',
    b'{"key": {"0":1}}',
    b'{"key": "0123456789abcde"}',
    b'{"key": "0123456789abcdeg"}',
    b'{"key": "\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n"}',
    b'{"key": "                "}',
    b'{"key": "01 23 45 67 89 a"}',
    json.dumps({"key": INJECTED}).encode(),
    json.dumps({"key": INJECTED[:16]}).encode(),
    json.dumps({"key": "0123456789abcdef", "more": INJECTED}).encode(),
    json.dumps({"key": "0123456789abcdef" * 5}).encode(),
    json.dumps({"key": SigningKey(OWN).id}).encode(),
    json.dumps({"key": "0123456789abcdef"}).encode() + b" " * 100_000,
    json.dumps({"key": "\u0660" * 16}).encode(),
]


class Noted:
    """A site that a build host with another key has warmed, seen by a web server."""

    def __init__(self, directory, caplog) -> None:
        make, self.raw = files(directory)
        self.caplog = caplog
        self.site = PackTarget(make, self.raw)
        self.site.publish()
        for key in pack_keys(self.raw):
            self.raw.remove(key)
        [self.key] = [key for key in contents(self.raw) if is_note(key)]
        self.entry_key = self.key.rpartition(":")[2]
        self.good = self.raw.get(self.key)

    def lines(self, value: bytes, secret: str = OWN) -> list[str]:
        """Put a value in the note's place; return what a process logs that finds it."""
        self.raw.plant(self.key, value)
        self.caplog.clear()
        with self.caplog.at_level(logging.DEBUG, "django_jinja_bccache"):
            pages, counts, _ = self.site.visit(key=secret, read_only=True)
        assert pages == PACK_PAGES
        assert counts.errors == 0
        lines = [record.getMessage() for record in self.caplog.records]
        assert len(lines) <= 1
        assert all(LINE.fullmatch(line) for line in lines), lines
        return lines


@pytest.fixture
def noted(tmp_path, caplog) -> Noted:
    return Noted(tmp_path, caplog)


def test_a_good_note_of_another_key_is_one_line_with_its_id(noted):
    [line] = noted.lines(noted.good)
    assert SigningKey(SECRET).id in line
    assert SigningKey(OWN).id in line


@pytest.mark.parametrize("label", LABELS, ids=lambda label: repr(label[:30]))
def test_whatever_a_note_claims_nothing_of_it_but_an_id_reaches_the_log(noted, label):
    for line in noted.lines(seal(noted.entry_key, b"{}", SigningKey(OTHER), label=label)):
        assert "forged" not in line
        assert "\x1b" not in line


def test_no_mutation_of_a_note_does_harm(noted, tally):
    stolen = Stolen(noted.entry_key, noted.good, (seal("x", b"{}", SigningKey(OTHER)),), SECRET)
    for kind in ("flips", "truncations", "extensions", "headers", "versions"):
        for value, _reason in tally.chosen(KINDS[kind](stolen), 20):
            for secret in (OWN, SECRET):
                noted.lines(value, secret)


def test_a_note_for_another_engine_says_nothing(noted):
    moved = seal("newest.of.another.engine", b"{}", SigningKey(SECRET), label=b"{}")
    assert noted.lines(moved, SECRET) == []
