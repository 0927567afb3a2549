"""The signing key: it shows nowhere, and it may be changed."""

import copy
import gc
import hashlib
import hmac
import logging
import secrets
import sys
import types

import pytest
from django.test import RequestFactory, override_settings
from django.views.debug import ExceptionReporter

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    SQLiteBytecodeCache,
    TieredBytecodeCache,
)
from django_jinja_bccache.conf import bytecode_cache_from
from django_jinja_bccache.entry import SigningKey, seal, unseal
from django_jinja_bccache.exceptions import BytecodeCacheError, EntryRejected
from django_jinja_bccache.signing import signing_keys
from tests.attacks.targets import contents, environment, is_note
from tests.raw import raw_store
from tests.sites import TEMPLATES, Code

# Made anew each time, so that no page shows them as a part of this source.
SECRET, OLD_SECRET = secrets.token_hex(20), secrets.token_hex(20)
NAMES = list(TEMPLATES)


def forms(secret: str) -> set[str]:
    """A secret, and what is made of it that would do as well as the secret itself."""
    raw = secret.encode()
    purpose = hmac.digest(raw, b"django_jinja_bccache: entry", "sha256")
    shown = {raw, purpose, hashlib.sha256(raw).digest(), raw[:12]}
    return {repr(each)[2:-1] for each in shown} | {each.hex() for each in shown}


def assert_shows_no_key(text: str) -> None:
    for secret in (SECRET, OLD_SECRET):
        for form in forms(secret):
            assert form not in text, text[max(0, text.index(form) - 300) :][:600]


def debug_page(call) -> str:
    """What Django shows, and what it mails, when a page fails with what this raises."""
    request = RequestFactory().get("/")
    try:
        call()
    except Exception:
        reporter = ExceptionReporter(request, *sys.exc_info())
        return reporter.get_traceback_html() + reporter.get_traceback_text()
    pytest.fail("nothing was raised")


def caches(directory, **options):
    """A cache of each kind."""
    options = {"key": [SECRET, OLD_SECRET], **options}
    local = FileSystemBytecodeCache(directory / "local")
    shared = FileSystemBytecodeCache(directory / "shared")
    return [
        DjangoBytecodeCache(**options),
        FileSystemBytecodeCache(directory / "files", **options),
        SQLiteBytecodeCache(directory / "cache.sqlite3", **options),
        TieredBytecodeCache(local, shared, **options),
    ]


def reachable_from(start: object) -> list[object]:
    """Every piece of data that an object holds, and what that holds, and so on."""
    passed = (
        type,
        types.ModuleType,
        types.FunctionType,
        types.BuiltinFunctionType,
        types.CodeType,
    )
    found, stack, seen = [], [start], set()
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, passed):
            continue
        seen.add(id(item))
        found.append(item)
        stack += gc.get_referents(item)
    return found


class TestWhereItMightShow:
    def test_no_cache_keeps_it_or_shows_it(self, tmp_path):
        for cache in caches(tmp_path):
            environment(cache).get_template("page.html")
            for text in (repr(cache), str(cache), f"{cache}", repr(copy.deepcopy(cache))):
                assert_shows_no_key(text)
            held = reachable_from(cache)
            assert any(isinstance(item, SigningKey) for item in held)
            assert_shows_no_key(
                "\n".join(repr(item) for item in held if isinstance(item, str | bytes))
            )
            assert_shows_no_key(repr([vars(item) for item in held if hasattr(item, "__dict__")]))

    @pytest.mark.parametrize("option", [[SECRET, None], [SECRET, ""], {SECRET}, [OLD_SECRET, 42]])
    def test_no_error_about_a_key_shows_the_others(self, option, tmp_path):
        with pytest.raises(BytecodeCacheError) as caught:
            signing_keys(option)
        assert_shows_no_key(str(caught.value) + repr(caught.value))
        with pytest.raises(BytecodeCacheError) as caught:
            bytecode_cache_from({"alias": "default", "key": option}, engine="jinja2")
        assert_shows_no_key(str(caught.value) + repr(caught.value))

    @pytest.mark.parametrize(
        "wrong", [{"deadline": -1}, {"class": "nowhere.Cache"}, {"keys": "x"}, {"prefix": 42}]
    )
    def test_no_error_about_another_option_shows_it(self, wrong):
        option = {"alias": "default", "key": [SECRET, OLD_SECRET], **wrong}
        with pytest.raises(BytecodeCacheError) as caught:
            bytecode_cache_from(option, engine="jinja2")
        assert_shows_no_key(str(caught.value) + repr(caught.value))

    def test_no_log_shows_it_whatever_goes_wrong(self, tmp_path, caplog):
        caplog.set_level(logging.DEBUG)
        options = {"key": [SECRET, OLD_SECRET]}
        (tmp_path / "file").write_text("")
        for cache in (
            FileSystemBytecodeCache(tmp_path / "file" / "cache", **options),
            SQLiteBytecodeCache(tmp_path / "file" / "cache", **options),
            *caches(tmp_path),
        ):
            cache.listeners.append(lambda event: logging.getLogger("listener").debug("%r", event))
            cache.listeners.append(lambda event: 1 / 0)
            assert environment(cache).get_template("page.html").render(name="x") == "<p>x</p>"
        assert "listener" in caplog.text
        assert "A listener of a bytecode cache failed" in caplog.text
        assert_shows_no_key(caplog.text)

    @pytest.mark.parametrize("debug", [True, False])
    def test_the_page_of_a_store_that_fails_shows_nothing_of_it(self, tmp_path, debug):
        (tmp_path / "file").write_text("")
        options = {"key": [SECRET, OLD_SECRET], "ignore_errors": False}
        cache = FileSystemBytecodeCache(tmp_path / "file" / "cache", **options)
        made = environment(cache)
        with override_settings(DEBUG=debug):
            text = debug_page(lambda: made.get_template("page.html"))
        assert "StoreUnavailable" in text
        assert "_fetch" in text  # the variables of every function on the way are shown
        assert_shows_no_key(text)

    @pytest.mark.parametrize("debug", [True, False])
    def test_the_page_of_a_write_that_fails_shows_nothing_of_it(
        self, tmp_path, debug, monkeypatch
    ):
        cache = FileSystemBytecodeCache(tmp_path, key=[SECRET, OLD_SECRET], ignore_errors=False)
        made = environment(cache)

        def fail(*arguments):
            raise OSError("the disk is full")

        monkeypatch.setattr("django_jinja_bccache.stores.filesystem.os.replace", fail)
        with override_settings(DEBUG=debug):
            text = debug_page(lambda: made.get_template("page.html"))
        assert "the disk is full" in text
        assert_shows_no_key(text)

    def test_the_settings_on_djangos_page_hide_it(self):
        option = {"alias": "default", "key": [SECRET, OLD_SECRET]}
        engine = {
            "BACKEND": "django_jinja_bccache.jinja2.Jinja2",
            "OPTIONS": {"bytecode_cache": option},
        }
        templates = [
            engine,
            {**engine, "OPTIONS": {"bytecode_cache": DjangoBytecodeCache(**option)}},
        ]
        with override_settings(
            DEBUG=True, TEMPLATES=templates, SECRET_KEY=SECRET, SECRET_KEY_FALLBACKS=[OLD_SECRET]
        ):
            text = debug_page(lambda: 1 / 0)
        assert "DjangoBytecodeCache" in text
        assert_shows_no_key(text)


class TestPurposes:
    def test_what_else_is_signed_with_the_same_secret_is_no_entry(self):
        """Whoever has Django sign what he likes gets no MAC of an entry out of it."""
        from django.core.signing import Signer
        from django.utils.crypto import salted_hmac

        sealed = seal("key", b"payload", SigningKey(SECRET))
        head, mac, body = sealed[:24], sealed[24:56], sealed[56:]
        content = b"key\0" + head + body
        macs = [
            salted_hmac(salt, content, secret=SECRET, algorithm="sha256").digest()
            for salt in ("", "django.core.signing.Signer", "django_jinja_bccache: entry")
        ]
        macs += [
            hmac.digest(SECRET.encode(), content, "sha256"),
            hmac.digest(SigningKey(SECRET).id.encode(), content, "sha256"),
            Signer(key=SECRET).signature(content.decode("latin-1")).encode()[:32],
            hashlib.sha256(SECRET.encode() + content).digest(),
        ]
        assert mac not in macs
        assert unseal("key", head + mac + body, SigningKey(SECRET)).payload == b"payload"
        for other in macs:
            with pytest.raises(EntryRejected, match="signature"):
                unseal("key", head + other + body, SigningKey(SECRET))


class TestRotation:
    """By the real commands, each in a process of its own."""

    @pytest.fixture
    def rotated(self, site):
        """A site whose entries are there under its old key, when it has a new one."""
        site.settings["SECRET_KEY"] = OLD_SECRET
        warmed = site.manage("warm_bytecode")
        assert warmed.returncode == 0, warmed.stderr
        assert site.visit(*NAMES).compiled == []
        site.settings["SECRET_KEY"] = SECRET
        site.settings["SECRET_KEY_FALLBACKS"] = [OLD_SECRET]
        return site

    def test_a_rotation_compiles_nothing_and_another_warm_up_seals_all_anew(
        self, rotated, backend, request
    ):
        raw = raw_store(backend, request)
        old, new = SigningKey(OLD_SECRET).id, SigningKey(SECRET).id
        before = {key for key in contents(raw) if not is_note(key)}
        assert len(before) == len(NAMES) + 2  # a pack, and its index
        assert all(old in key for key in before)
        pages = rotated.visit(*NAMES)
        assert (pages.compiled, pages.hits, pages.misses) == ([], len(NAMES), 0)
        assert pages.log == ""

        warmed = rotated.manage("warm_bytecode")
        assert warmed.returncode == 0, warmed.stderr
        assert {key for key in contents(raw) if new in key} == {
            key.replace(old, new) for key in before
        }
        del rotated.settings["SECRET_KEY_FALLBACKS"]
        later = rotated.visit(*NAMES)
        assert (later.compiled, later.pages, later.log) == ([], pages.pages, "")
        assert rotated.manage("warm_bytecode", "--check").returncode == 0
        for output in (warmed.stdout, warmed.stderr, pages.log, later.log):
            assert_shows_no_key(output)

    def test_without_a_warm_up_in_between_everything_is_compiled(self, rotated):
        del rotated.settings["SECRET_KEY_FALLBACKS"]
        assert sorted(rotated.visit(*NAMES).compiled) == sorted(NAMES)

    def test_processes_with_the_old_key_go_on_meanwhile(self, rotated):
        assert rotated.manage("warm_bytecode").returncode == 0
        rotated.settings["SECRET_KEY"] = OLD_SECRET
        del rotated.settings["SECRET_KEY_FALLBACKS"]
        assert rotated.visit(*NAMES).compiled == []

    def test_a_key_of_the_caches_own_rotates_alike(self, site):
        def with_keys(*keys: str):
            site.settings["TEMPLATES"] = [
                site.engine(bytecode_cache=Code(f"DjangoBytecodeCache(key={list(keys)!r})"))
            ]
            site.imports = "from django_jinja_bccache import DjangoBytecodeCache"
            return site

        assert with_keys(OLD_SECRET).manage("warm_bytecode").returncode == 0
        assert with_keys(SECRET, OLD_SECRET).visit(*NAMES).compiled == []
        assert with_keys(SECRET, OLD_SECRET).manage("warm_bytecode").returncode == 0
        assert with_keys(SECRET).visit(*NAMES).compiled == []


def test_no_command_shows_the_key_when_things_go_wrong(file_site):
    site = file_site
    site.settings["SECRET_KEY"] = SECRET
    site.settings["SECRET_KEY_FALLBACKS"] = [OLD_SECRET]
    site.write("templates/broken.html", "{% if %}")
    cache = site.directory.parent / "cache"
    cache.write_text("a file where the directory should be")
    for arguments in (
        ("warm_bytecode", "-v", "3", "--traceback"),
        ("warm_bytecode", "--format", "json"),
        ("warm_bytecode", "--check"),
        ("clear_bytecode", "--noinput", "-v", "3", "--traceback"),
        ("check",),
    ):
        done = site.manage(*arguments)
        assert_shows_no_key(done.stdout + done.stderr)
    site.settings["SECRET_KEY_FALLBACKS"] = [OLD_SECRET, 42]
    done = site.manage("check")
    assert done.returncode != 0
    assert "SECRET_KEY_FALLBACKS" in done.stderr
    assert_shows_no_key(done.stdout + done.stderr)
