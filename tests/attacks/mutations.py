"""What may become of a stored value, or be put in its place. The same in every run."""

import hmac
import marshal
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from hypothesis import strategies as st

HEADER = struct.Struct(">4sBBIQI")
MAC_SIZE = 32
SEED = 20_261_120


@dataclass(frozen=True)
class Stolen:
    """What somebody who may read and write the store has at hand.

    Attributes:
        entry_key: The entry key of the value that is to be replaced.
        good: That value.
        others: Values from elsewhere, authentic where they were.
        secret: The secret of the site. Nobody but a test has it.
    """

    entry_key: str
    good: bytes
    others: tuple[bytes, ...] = field(repr=False)
    secret: str = field(repr=False)

    def signed(self, header: bytes, label: bytes, body: bytes) -> bytes:
        """A value whose MAC is right, as the format's documentation describes it."""
        purpose = hmac.digest(self.secret.encode(), b"django_jinja_bccache: entry", "sha256")
        content = self.entry_key.encode() + b"\0" + header + label + body
        return header + label + hmac.digest(purpose, content, "sha256") + body


def parts_of(value: bytes) -> tuple[bytes, bytes, bytes]:
    """The header, the label and the body of a sealed value."""
    mac_at = HEADER.size + HEADER.unpack_from(value)[3]
    return value[: HEADER.size], value[HEADER.size : mac_at], value[mac_at + MAC_SIZE :]


def reason_for(value: bytes) -> str:
    """Why a value whose MAC is not right has to be refused."""
    if len(value) < HEADER.size + MAC_SIZE or value[:4] != b"jbcc":
        return "corrupt"
    return "version" if value[4] != 1 else "signature"


def flips(value: bytes) -> Iterator[bytes]:
    """Every single wrong bit."""
    for position in range(len(value)):
        for bit in range(8):
            damaged = bytearray(value)
            damaged[position] ^= 1 << bit
            yield bytes(damaged)


def substitutes(value: bytes) -> Iterator[bytes]:
    """Wrong bytes: in every place each of several, and several at a time."""
    dice = random.Random(SEED)
    for position, byte in enumerate(value):
        for other in {0, 0x0A, 0x7F, 0xFF, dice.randrange(256), dice.randrange(256)} - {byte}:
            yield value[:position] + bytes([other]) + value[position + 1 :]
    for _ in range(3_000):
        damaged = bytearray(value)
        for _ in range(dice.randrange(2, 40)):
            damaged[dice.randrange(len(value))] ^= dice.randrange(1, 256)
        yield bytes(damaged)


def truncations(value: bytes) -> Iterator[bytes]:
    """Everything that is left of a value: its beginning, its end, or both without a middle."""
    dice = random.Random(SEED)
    for length in range(len(value)):
        yield value[:length]
        yield value[len(value) - length :]
    for position in range(len(value)):
        yield value[:position] + value[position + 1 :]
        yield value[:position] + value[position + dice.randrange(2, 60) :]


def extensions(value: bytes) -> Iterator[bytes]:
    """A value with something before it, in it or after it."""
    dice = random.Random(SEED)
    for position in range(len(value) + 1):
        for extra in (b"\0", dice.randbytes(dice.randrange(1, 40))):
            yield value[:position] + extra + value[position:]
    for length in (2, 100, 1_000, 4_095, 4_096, 65_536, 1_000_000):
        for extra in (bytes(length), dice.randbytes(length)):
            yield value + extra
            yield extra + value
    yield value + value
    yield value[: HEADER.size] + value


def splices(value: bytes, others: Iterable[bytes]) -> Iterator[bytes]:
    """The beginning of one value and the end of another one."""
    dice = random.Random(SEED)
    for other in others:
        for cut in range(1, min(len(value), len(other))):
            yield value[:cut] + other[cut:]
            yield other[:cut] + value[cut:]
        for _ in range(500):
            yield value[: dice.randrange(len(value))] + other[dice.randrange(len(other)) :]
        # Whole parts: another one's label, code or MAC.
        ours, theirs = parts_of(value), parts_of(other)
        macs = [each[0][len(each[1][1]) + HEADER.size :][:MAC_SIZE] for each in
                ((value, ours), (other, theirs))]  # fmt: skip
        for choice in range(16):
            header, label, body = (
                (theirs if choice >> bit & 1 else ours)[bit] for bit in range(3)
            )
            yield header + label + macs[choice >> 3] + body


def headers(value: bytes) -> Iterator[bytes]:
    """Any numbers in the header."""
    dice = random.Random(SEED)
    fields = HEADER.unpack_from(value)
    rest = value[HEADER.size :]
    limits = (0xFF, 0xFF, 2**32 - 1, 2**64 - 1, 2**32 - 1)
    for index, limit in enumerate(limits, start=1):
        edges = {0, 1, limit // 2, limit // 2 + 1, limit - 1, limit}
        near = {max(0, min(limit, fields[index] + step)) for step in (-33, -32, -1, 1, 32, 33)}
        anything = {dice.randrange(limit + 1) for _ in range(150)}
        for number in sorted(edges | near | anything):
            yield HEADER.pack(*fields[:index], number, *fields[index + 1 :]) + rest
    for _ in range(1_000):
        anywhere = [dice.randrange(limit + 1) for limit in limits]
        yield HEADER.pack(b"jbcc", *anywhere) + rest
        yield HEADER.pack(b"jbcc", 1, *anywhere[1:]) + rest
        yield HEADER.pack(b"jbcc", 1, anywhere[1] % 3, *anywhere[2:]) + rest


def versions(stolen: Stolen) -> Iterator[bytes]:
    """Every other version of the format, and every other compression, signed correctly."""
    header, label, body = parts_of(stolen.good)
    magic, version, flags, *numbers = HEADER.unpack(header)
    for other in set(range(256)) - {version}:
        yield stolen.signed(HEADER.pack(magic, other, flags, *numbers), label, body)
    for other in range(3, 256):
        yield stolen.signed(HEADER.pack(magic, version, other, *numbers), label, body)


def replays(stolen: Stolen) -> Iterator[bytes]:
    """Values that are authentic in another place."""
    yield from stolen.others


def unsigned(values: Callable[[Stolen], Iterable[bytes]]) -> Callable[[Stolen], Iterator]:
    def pairs(stolen: Stolen) -> Iterator[tuple[bytes, str]]:
        authentic = stolen.good
        return ((value, reason_for(value)) for value in values(stolen) if value != authentic)

    return pairs


#: All kinds of mutations: what takes the value's place, and why it has to be refused.
KINDS: dict[str, Callable[[Stolen], Iterator[tuple[bytes, str]]]] = {
    "flips": unsigned(lambda stolen: flips(stolen.good)),
    "substitutes": unsigned(lambda stolen: substitutes(stolen.good)),
    "truncations": unsigned(lambda stolen: truncations(stolen.good)),
    "extensions": unsigned(lambda stolen: extensions(stolen.good)),
    "splices": unsigned(lambda stolen: splices(stolen.good, stolen.others)),
    "headers": unsigned(lambda stolen: headers(stolen.good)),
    "versions": lambda stolen: ((value, "version") for value in versions(stolen)),
    "replays": unsigned(replays),
}


def all_of(stolen: Stolen) -> Iterator[tuple[bytes, str]]:
    return chain.from_iterable(kind(stolen) for kind in KINDS.values())


class Reduces:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def garbage(stolen: Stolen, marker: str) -> st.SearchStrategy[bytes]:
    """What hypothesis makes: noise, edits, and things that would do harm if they were opened."""
    code = compile(f"open({marker!r}, 'w')\nname = root = blocks = debug_info = 1", "x", "exec")
    harmful = [
        marshal.dumps(code),
        *(pickle.dumps(Reduces(marker), number) for number in range(pickle.HIGHEST_PROTOCOL + 1)),
    ]
    harmful += [zlib.compress(each) for each in harmful]
    good = stolen.good
    byte = st.integers(0, 255)
    edits = st.lists(st.tuples(st.integers(0, len(good) - 1), byte), min_size=1, max_size=30)

    def edited(changes: list[tuple[int, int]]) -> bytes:
        value = bytearray(good)
        for position, new in changes:
            value[position] = new
        return bytes(value)

    header = st.builds(
        lambda *numbers: HEADER.pack(b"jbcc", *numbers),
        st.sampled_from([0, 1, 1, 1, 1, 2, 255]),
        st.sampled_from([0, 1, 2, 3, 255]),
        st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1)),
        st.integers(0, 2**64 - 1),
        st.one_of(st.integers(0, 3_000), st.integers(0, 2**32 - 1)),
    )
    body = st.one_of(
        st.binary(max_size=400),
        st.sampled_from(harmful),
        st.builds(
            lambda noise, each: noise + each, st.binary(max_size=40), st.sampled_from(harmful)
        ),
    )
    pieces = st.lists(
        st.tuples(st.integers(0, len(good)), st.integers(0, 200)).map(
            lambda place: good[place[0] : sum(place)]
        ),
        max_size=8,
    ).map(b"".join)
    return st.one_of(
        st.binary(max_size=600),
        edits.map(edited),
        pieces,
        body,
        st.builds(bytes.__add__, header, body),
        st.builds(bytes.__add__, header, pieces),
    ).filter(lambda value: value != good)
