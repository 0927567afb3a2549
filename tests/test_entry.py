"""A sealed value: its format, byte by byte, and that nothing but a sealed value is opened."""

import hmac
import marshal
import pickle
import struct
import sys
import tracemalloc
import zlib
from collections import Counter

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_jinja_bccache import entry
from django_jinja_bccache.bytecode import Label, code_from, payload_of
from django_jinja_bccache.compression import RAW, ZLIB
from django_jinja_bccache.entry import SigningKey, seal, unseal
from django_jinja_bccache.exceptions import ConfigurationError, EntryRejected

SECRET = "correct horse battery staple"
KEY = "0123456789abcdef" * 4
CREATED = 1_763_600_000
LABEL = b'["home.html", "c0ffee", []]'
PAYLOAD = b"payload \x00\xff " * 3
SIGNING_KEY = SigningKey(SECRET)
HEADER = struct.Struct(">4sBBIQI")
MAC_SIZE = 32


def mac_of(header: bytes, label: bytes, body: bytes, key: str = KEY) -> bytes:
    """The MAC as the documentation describes it, without a line of the package's own."""
    purpose = hmac.digest(SECRET.encode(), b"django_jinja_bccache: entry", "sha256")
    return hmac.digest(purpose, key.encode() + b"\0" + header + label + body, "sha256")


def handmade(
    body: bytes,
    *,
    version: int = 1,
    flags: int = 0,
    size: int | None = None,
    magic: bytes = b"jbcc",
) -> bytes:
    """A value with a correct MAC over whatever it says."""
    announced = len(body) if size is None else size
    header = HEADER.pack(magic, version, flags, len(LABEL), CREATED, announced)
    return header + LABEL + mac_of(header, LABEL, body) + body


def reason_of(value: object, key: str = KEY, signing_key: SigningKey = SIGNING_KEY) -> str:
    with pytest.raises(EntryRejected) as caught:
        _ = unseal(key, value, signing_key).payload
    return caught.value.reason


# What marshal is given, and by whom. A hook cannot be removed again, so this one only counts.
loads: Counter[str] = Counter()
sys.addaudithook(lambda event, _: loads.update([event]) if event == "marshal.loads" else None)


@pytest.fixture
def opened(monkeypatch):
    """Tells how often something was decompressed or unmarshalled."""
    loads.clear()

    def counted(name):
        def call(*arguments, **keywords):
            loads[name] += 1
            return original(*arguments, **keywords)

        original = getattr(zlib, name)
        return call

    for name in ("decompress", "decompressobj"):
        monkeypatch.setattr(zlib, name, counted(name))
    return loads


@pytest.fixture(scope="module")
def code():
    environment = jinja2.Environment(autoescape=True)
    source = "{% for n in range(3) %}{{ n }}: {{ name|upper }}, {% endfor %}"
    return environment.compile(source, "home.html", "home.html")


class TestFormat:
    def test_every_byte_of_a_raw_value_is_the_documented_one(self):
        sealed = seal(KEY, PAYLOAD, SIGNING_KEY, label=LABEL, created=CREATED)
        header = bytes.fromhex(
            "6a626363"  # magic
            "01"  # version
            "00"  # flags
            "0000001b"  # length of the label
            "00000000691e6680"  # creation
            "00000021"  # length of the payload
        )
        mac = bytes.fromhex("6d8d815d285981f3cfefd8d078892d3d0b8e356c2ab5d17752055649dcdf66bc")
        assert sealed == header + LABEL + mac + PAYLOAD
        assert mac == mac_of(header, LABEL, PAYLOAD)

    def test_a_compressed_value_announces_the_length_of_the_payload(self):
        payload = PAYLOAD * 40
        sealed = seal(KEY, payload, SIGNING_KEY, label=LABEL, created=CREATED, method=ZLIB)
        header, mac_at = sealed[: HEADER.size], HEADER.size + len(LABEL)
        body = sealed[mac_at + MAC_SIZE :]
        assert header == HEADER.pack(b"jbcc", 1, 1, len(LABEL), CREATED, len(payload))
        assert sealed[HEADER.size : mac_at] == LABEL
        assert sealed[mac_at : mac_at + MAC_SIZE] == mac_of(header, LABEL, body)
        assert zlib.decompress(body) == payload
        assert len(body) < len(payload) / 2

    @pytest.mark.parametrize("method", [RAW, ZLIB])
    @pytest.mark.parametrize("payload", [b"", PAYLOAD, PAYLOAD * 10_000])
    def test_what_was_sealed_comes_back(self, method, payload):
        sealed = seal(KEY, payload, SIGNING_KEY, label=LABEL, created=CREATED, method=method)
        unsealed = unseal(KEY, sealed, SIGNING_KEY)
        assert bytes(unsealed.payload) == payload
        assert unsealed.label == LABEL
        assert unsealed.created == CREATED

    def test_a_value_says_when_it_was_made(self, monkeypatch):
        monkeypatch.setattr(entry.time, "time", lambda: CREATED + 0.9)
        assert unseal(KEY, seal(KEY, b"", SIGNING_KEY), SIGNING_KEY).created == CREATED

    def test_a_label_may_be_longer_than_two_bytes_can_count(self):
        label = b"x" * 70_000
        assert unseal(KEY, seal(KEY, b"", SIGNING_KEY, label=label), SIGNING_KEY).label == label


class TestRejection:
    @pytest.mark.parametrize("method", [RAW, ZLIB])
    def test_a_single_wrong_bit_anywhere_is_refused_before_anything_is_opened(
        self, code, method, opened
    ):
        label = Label("home.html", "c0ffee").to_bytes()
        sealed = seal(KEY, payload_of(code, "home.html"), SIGNING_KEY, label=label, method=method)
        opened.clear()
        reasons = Counter()
        for position in range(len(sealed)):
            for bit in range(8):
                damaged = bytearray(sealed)
                damaged[position] ^= 1 << bit
                reason = reason_of(bytes(damaged))
                reasons[reason] += 1
                assert (
                    reason
                    == ("corrupt", "version", "signature")[
                        0 if position < 4 else 1 if position == 4 else 2
                    ]
                )
        assert reasons == {"corrupt": 32, "version": 8, "signature": (len(sealed) - 5) * 8}
        assert not opened
        code_from(unseal(KEY, sealed, SIGNING_KEY).payload)
        assert opened["marshal.loads"] == 1
        assert opened["decompressobj"] == (method == ZLIB)

    @pytest.mark.parametrize("method", [RAW, ZLIB])
    def test_a_value_cut_short_or_prolonged_is_refused(self, method, opened):
        sealed = seal(KEY, PAYLOAD, SIGNING_KEY, label=LABEL, method=method)
        shortest = HEADER.size + MAC_SIZE
        for length in range(len(sealed)):
            expected = "corrupt" if length < shortest else "signature"
            assert reason_of(sealed[:length]) == expected
        for tail in (b"\0", b"\n", sealed):
            assert reason_of(sealed + tail) == "signature"
        assert not opened

    def test_a_value_found_under_another_key_is_refused(self):
        sealed = seal(KEY, PAYLOAD, SIGNING_KEY)
        for key in ("", KEY[:-1], KEY + "0", KEY.upper()):
            assert reason_of(sealed, key) == "signature"

    @pytest.mark.parametrize("other", [SECRET + " ", SECRET.upper(), b"\0"])
    def test_a_value_sealed_with_another_signing_key_is_refused(self, other):
        assert reason_of(seal(KEY, PAYLOAD, SigningKey(other))) == "signature"

    @pytest.mark.parametrize("version", [0, 2, 255])
    def test_another_format_version_is_refused_although_the_signature_is_right(self, version):
        assert reason_of(handmade(PAYLOAD, version=version)) == "version"

    @pytest.mark.parametrize("flags", [3, 4, 128, 255])
    def test_a_compression_of_a_later_version_is_refused_as_such(self, flags):
        assert reason_of(handmade(PAYLOAD, flags=flags)) == "version"

    def test_another_magic_is_refused_although_the_signature_is_right(self):
        assert reason_of(handmade(PAYLOAD, magic=b"jbcd")) == "corrupt"

    @pytest.mark.parametrize("lie", [-33, -1, 1, 1_000_000, 0xFFFFFFFF - 33])
    @pytest.mark.parametrize("method", [RAW, ZLIB])
    def test_a_length_that_does_not_hold_is_refused(self, lie, method):
        body = zlib.compress(PAYLOAD) if method == ZLIB else PAYLOAD
        value = handmade(body, flags=method, size=len(PAYLOAD) + lie)
        assert reason_of(value) == "corrupt"

    @pytest.mark.parametrize(
        "body",
        [b"", b"no zlib", zlib.compress(PAYLOAD)[:-9], b"\x78" + zlib.compress(PAYLOAD)],
        ids=["empty", "not zlib", "cut short", "shifted"],
    )
    def test_a_damaged_compression_is_refused_although_the_signature_is_right(self, body):
        assert reason_of(handmade(body, flags=1, size=len(PAYLOAD))) == "corrupt"

    def test_a_label_length_beyond_the_value_is_refused(self):
        for length in (len(PAYLOAD), 1000, 0xFFFFFFFF):
            header = HEADER.pack(b"jbcc", 1, 0, length, CREATED, len(PAYLOAD))
            rest = LABEL + mac_of(header, LABEL, PAYLOAD) + PAYLOAD
            assert reason_of(header + rest) == "signature"

    def test_a_decompression_bomb_is_refused_in_little_memory(self):
        compressor = zlib.compressobj(9)
        body = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(64))
        value = handmade(body + compressor.flush(), flags=1, size=1000)
        tracemalloc.start()
        try:
            assert reason_of(value) == "corrupt"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20

    @pytest.mark.parametrize(
        "value", [None, "", "a str", 42, [], object(), bytearray(handmade(PAYLOAD))]
    )
    def test_what_is_no_bytes_is_refused(self, value):
        assert reason_of(value) == "corrupt"

    @given(st.binary(max_size=200), st.sampled_from([b"", b"jbcc", b"jbcc\x01\x01"]))
    def test_whatever_else_a_store_may_hold_is_refused_and_raises_nothing_else(
        self, rest, beginning
    ):
        assert reason_of(beginning + rest) in {"corrupt", "version", "signature"}

    def test_the_comparison_is_the_one_that_takes_the_same_time_for_every_mac(self, monkeypatch):
        sealed = bytearray(seal(KEY, PAYLOAD, SIGNING_KEY))
        sealed[HEADER.size + 2] ^= 1  # in the MAC, behind the label b"{}"
        assert reason_of(bytes(sealed)) == "signature"
        monkeypatch.setattr(hmac, "compare_digest", lambda a, b: True)
        assert unseal(KEY, bytes(sealed), SIGNING_KEY).payload == PAYLOAD


class TestAuthenticButNoTemplate:
    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            marshal.dumps(42),
            marshal.dumps([compile("1", "x", "eval")]),
            marshal.dumps(compile("name = root = blocks = 1", "x", "exec")),
            pickle.dumps("code"),
            b"\xff" * 30,
        ],
        ids=["empty", "number", "list", "other code", "pickle", "noise"],
    )
    def test_it_is_refused(self, payload):
        unsealed = unseal(KEY, seal(KEY, payload, SIGNING_KEY), SIGNING_KEY)
        with pytest.raises(EntryRejected) as caught:
            code_from(unsealed.payload)
        assert caught.value.reason == "corrupt"

    def test_code_cut_short_is_refused(self, code):
        payload = payload_of(code, "home.html")
        for length in range(0, len(payload), 7):
            with pytest.raises(EntryRejected):
                code_from(payload[:length])


class TestSigningKey:
    def test_text_and_its_bytes_are_the_same_key(self):
        assert SigningKey("schlüssel").id == SigningKey("schlüssel".encode()).id
        assert unseal(KEY, seal(KEY, b"", SIGNING_KEY), SigningKey(SECRET.encode())).payload == b""

    def test_the_id_tells_keys_apart_and_is_pinned(self):
        whole = hmac.digest(SECRET.encode(), b"django_jinja_bccache: key id", "sha256")
        assert SIGNING_KEY.id == whole[:8].hex() != SigningKey(SECRET + "!").id

    def test_neither_its_text_nor_a_pickle_shows_the_secret(self):
        assert repr(SIGNING_KEY) == str(SIGNING_KEY) == f"<SigningKey {SIGNING_KEY.id}>"
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError):
                pickle.dumps(SIGNING_KEY, protocol)

    def test_the_secret_is_not_kept(self):
        assert not hasattr(SIGNING_KEY, "__dict__")
        held = [getattr(SIGNING_KEY, name) for name in SigningKey.__slots__]
        assert SECRET not in held
        assert SECRET.encode() not in held

    @pytest.mark.parametrize("secret", ["", b"", None, 42, ["secret"], bytearray(b"secret")])
    def test_it_takes_only_text_or_bytes_that_are_not_empty(self, secret):
        with pytest.raises(ConfigurationError, match="str or bytes that is not empty"):
            SigningKey(secret)
