"""Attacks that have succeeded once."""

import os
import secrets
import struct
from pathlib import Path

import pytest
from django.test import override_settings

from django_jinja_bccache import DjangoBytecodeCache, FileSystemBytecodeCache
from django_jinja_bccache.conf import bytecode_cache_from
from django_jinja_bccache.entry import SigningKey, seal
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.stores.filesystem import default_directory
from tests.attacks.mutations import HEADER, parts_of
from tests.attacks.targets import (
    PAGES,
    SECRET,
    PackTarget,
    Target,
    environment,
    files,
)
from tests.attacks.test_keys import debug_page
from tests.attacks.test_listing import file_place, server_place, sqlite_place, try_all
from tests.attacks.test_notes import Noted
from tests.attacks.test_size import HUGE, visited

SHOWN = secrets.token_hex(20)


@pytest.fixture
def target(tmp_path) -> Target:
    return Target(*files(tmp_path / "cache"))


@pytest.mark.timeout(300)
def test_a_file_without_an_end_does_not_take_all_memory(target):
    """It takes no room on the disk, so it might as well be larger than the memory."""
    path, _ = target.raw.head(target.key)
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    seen = visited("files", target.raw.directory, target)
    assert seen["page"] == PAGES["page.html"]
    assert seen["bytes"] < 3 * HUGE
    assert seen["hits afterwards"] == 1


@pytest.mark.timeout(300)
def test_huge_values_in_every_first_packs_place_take_no_more_than_one(tmp_path):
    """A process asks for eight packs at once."""
    make, raw = files(tmp_path / "cache")
    site = PackTarget(make, raw)
    prefix = site.keys[0][:-1]
    template = raw.head(site.keys[0])[1]
    for number in range(8):
        key = f"{prefix}{number}"
        path = make().storage.opener.store()._store._path(key)
        head = template[:12] + struct.pack(">H", len(key)) + key.encode()
        with open(path, "wb") as file:
            file.write(head + b"jbcc\x01")
            file.truncate(HUGE)
    seen = visited("files", raw.directory, site)
    assert seen["page"] == "<p>page3.html: &lt;b&gt;</p>"
    assert seen["hits afterwards"] == 1
    assert seen["bytes"] < 3 * HUGE


def test_the_page_of_a_wrong_fallback_shows_no_secret():
    """With Django's own backend the settings are looked at by the first page."""
    with override_settings(DEBUG=True, SECRET_KEY=SHOWN, SECRET_KEY_FALLBACKS=[42]):
        made = environment(DjangoBytecodeCache())
        text = debug_page(lambda: made.get_template("page.html"))
    assert "SECRET_KEY and SECRET_KEY_FALLBACKS" in text
    assert SHOWN not in text


def test_the_page_of_a_wrong_option_shows_no_key():
    def ask() -> None:
        __traceback_hide__ = True  # it is not this frame that is tried
        option = {"alias": "default", "key": SHOWN, "deadline": -1}
        bytecode_cache_from(option, engine="jinja2")

    with override_settings(DEBUG=True):
        text = debug_page(ask)
    assert "deadline" in text
    assert SHOWN not in text


def test_a_refused_value_is_counted_where_one_under_another_key_serves(tmp_path):
    """During a rotation."""
    make, raw = files(tmp_path)
    target = Target(make, raw)

    def rotated():
        return make(key=["new", SECRET])

    stored_key = target.key.replace(SigningKey(SECRET).id, SigningKey("new").id)
    cache = make(key="new")
    environment(cache).get_template("page.html")
    raw.plant(stored_key, raw.get(stored_key)[:-1])
    cache = rotated()
    assert environment(cache).get_template("page.html").render(name="<b>") == PAGES["page.html"]
    assert (cache.statistics.hits, cache.statistics.misses) == (1, 0)
    assert cache.statistics.rejected == 1


@pytest.mark.parametrize("end", [b"\xff\xfe", b"pack.\xff.0", b"\x7f"], ids=repr)
class TestPlantedKeys:
    """One key in the store that is no text: listing, checking and clearing have to go on."""

    @pytest.mark.filterwarnings("ignore::django.core.cache.backends.base.CacheKeyWarning")
    def test_on_a_server_it_stops_nobody(self, server, request, end):
        try_all(*server_place(server, request), [end])

    def test_in_a_directory_it_stops_nobody(self, tmp_path, end):
        try_all(*file_place(tmp_path), [end])

    def test_in_an_sqlite_file_it_stops_nobody(self, tmp_path, end):
        try_all(*sqlite_place(tmp_path), [end])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_default_directory_that_another_user_made_first_is_not_used(tmp_path, monkeypatch):
    """Everybody may make it who may write among the system's temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = Path(default_directory())
    directory.mkdir()
    directory.chmod(0o777)
    os.chown(directory, 65534, 65534)
    visit_with_defaults()
    assert os.listdir(directory) == []


def test_a_default_directory_that_is_a_link_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    Path(default_directory()).symlink_to(tmp_path / "elsewhere")
    visit_with_defaults()
    assert os.listdir(tmp_path / "elsewhere") == []


def visit_with_defaults() -> None:
    """The page is right, unless the cache refuses the directory as soon as it is made."""
    try:
        cache = FileSystemBytecodeCache(key=SECRET)
    except ConfigurationError:
        return
    text = environment(cache).get_template("page.html").render(name="<b>")
    assert text == PAGES["page.html"]


@pytest.mark.parametrize("directory", ["nul\0byte", "surrogate \ud800"])
def test_a_directory_that_cannot_be_is_refused_at_once(tmp_path, directory):
    with pytest.raises(ConfigurationError, match="directory"):
        FileSystemBytecodeCache(f"{tmp_path}/{directory}", key=SECRET)


@pytest.mark.parametrize("payload", [b"", b"null", b"42", b"[]", b"{}", b'{"fingerprint": 1}'])
def test_a_note_with_the_right_key_that_holds_no_note_breaks_no_page(tmp_path, caplog, payload):
    """Of another version of this package, perhaps."""
    noted = Noted(tmp_path, caplog)
    noted.lines(seal(noted.entry_key, payload, SigningKey(SECRET), label=b"{}"), SECRET)


@pytest.mark.parametrize("number", [0, 1])
def test_a_pack_of_ours_that_cannot_be_opened_is_published_anew(tmp_path, number):
    """Compressed by what a later version uses, but signed as it should be."""
    site = PackTarget(*files(tmp_path))
    stolen = site.stolen(number)
    header, label, body = parts_of(stolen.good)
    fields = list(HEADER.unpack(header))
    fields[2] = 3
    assert site.heals(number, stolen.signed(HEADER.pack(*fields), label, body)) == ""
