"""``manage.py warm_bytecode`` over ill, full and forgetful stores, and over old entries."""

import json
import random
import shutil
import time
from unittest.mock import ANY

import pytest

from django_jinja_bccache.entry import SigningKey, seal, unseal
from testproject.caches import caches_from
from tests.raw import raw_store
from tests.sites import TEMPLATES, Site

NAMES = list(TEMPLATES)
DAY = 24 * 60 * 60
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
# Unknown to the package, so it is used through Django's public interface.
OWN_FILES = """
from django.core.cache.backends.filebased import FileBasedCache

class Files(FileBasedCache):
    pass
"""


@pytest.fixture
def raw(backend, request):
    return raw_store(backend, request)


def noise(size: int) -> str:
    """Text that hardly compresses."""
    return random.Random(0).randbytes(size // 2).hex()


def gone(stderr: str) -> set[str]:
    """The templates that were stored in vain."""
    ending = ": stored, but gone from the cache"
    return {line.split(": ")[1] for line in stderr.splitlines() if line.endswith(ending)}


class TestDown:
    def test_a_server_that_is_gone_is_one_line_and_no_traceback(self, memcached_server, tmp_path):
        server = memcached_server()
        site = Site(tmp_path, caches_from(f"memcached://{server.address}", tmp_path))
        for arguments in ((), ("--check",), ("--dry-run",), ("-v", "0"), ("--ignore-errors",)):
            done = site.manage("warm_bytecode", *arguments)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == (
                f"jinja2: the cache cannot be used: memcached at {server.address}: [Errno 111]\n"
                "  Connection refused\n"
            )

    def test_a_directory_that_cannot_be_made_is_named(self, file_site):
        place = file_site.write("in the way", "a file")
        file_site.settings["CACHES"] = caches_from(f"file://{place}/cache", place)
        done = file_site.manage("warm_bytecode")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("jinja2: the cache cannot be used: CACHES['default']:")
        assert " ".join(done.stderr.split()).endswith(
            "Not a directory: '/srv/site/in the way/cache'"
        )

    def test_the_other_engines_are_warmed_and_json_stays_json(self, file_site, memcached_server):
        server = memcached_server()
        file_site.settings["CACHES"]["far"] = caches_from(f"memcached://{server.address}", "")[
            "default"
        ]
        file_site.settings["TEMPLATES"].insert(0, file_site.engine("far", bytecode_cache="far"))
        done = file_site.manage("warm_bytecode", "--format", "json")
        assert done.returncode == 1
        report = json.loads(done.stdout)
        assert report["ok"] is False
        assert report["engines"][0] == {
            "engine": "far",
            "ok": False,
            "error": f"memcached at {server.address}: [Errno 111] Connection refused",
        }
        assert report["engines"][1]["compiled"] == NAMES


class TestForgetful:
    @pytest.fixture
    def large_site(self, file_site):
        for number in range(56):
            file_site.write(f"templates/pages/{number}.html", f"page {number}")
        return file_site

    @pytest.mark.parametrize("backend_class", [LOCMEM, "site_caches.Files"])
    def test_what_a_cache_culls_is_told(self, large_site, backend_class, tmp_path):
        large_site.write("site_caches.py", OWN_FILES)
        large_site.settings["CACHES"]["default"] = {
            "BACKEND": backend_class,
            "LOCATION": str(tmp_path / "culled"),
            "OPTIONS": {"MAX_ENTRIES": 50},
        }
        done = large_site.manage("warm_bytecode")
        lost = gone(done.stderr)
        assert done.returncode == 1
        assert 10 <= len(lost) < 60
        assert len(done.stderr.splitlines()) == len(lost)
        surprise = "no other process has it: CACHES['default'] is in this one's memory"
        expected = [f"{len(lost)} stored, but gone from the cache", surprise]
        lines = [line.strip() for line in done.stdout.splitlines()[1:]]
        assert lines == (expected if backend_class == LOCMEM else expected[:1])

    def test_what_a_full_memcached_evicts_is_told(self, file_site, memcached_server):
        text = noise(60_000)
        for number in range(60):
            file_site.write(f"templates/{number}.html", f"{number} {text}")
        with memcached_server("-m", "1", "-I", "512k") as server:
            file_site.settings["CACHES"] = caches_from(f"memcached://{server.address}", "")
            warmed = file_site.manage("warm_bytecode")
            checked = file_site.manage("warm_bytecode", "--check")
        lost = gone(warmed.stderr)
        assert (warmed.returncode, checked.returncode) == (1, 1)
        assert 10 <= len(lost) < 64
        assert f", {len(lost)} missing" in checked.stdout

    def test_a_cache_that_holds_nothing_is_told(self, file_site):
        file_site.settings["CACHES"]["default"] = {
            "BACKEND": "django.core.cache.backends.dummy.DummyCache"
        }
        done = file_site.manage("warm_bytecode")
        assert (done.returncode, gone(done.stderr)) == (1, {*NAMES})

    def test_a_cache_in_the_commands_own_memory_is_said_to_be_one(self, file_site):
        file_site.settings["CACHES"] = {"default": {"BACKEND": LOCMEM}}
        done = file_site.manage("warm_bytecode")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1:] == [
            "  no other process has it: CACHES['default'] is in this one's memory"
        ]
        assert "memory" not in file_site.manage("warm_bytecode", "--dry-run").stdout

    def test_check_tells_of_a_template_that_one_of_two_tiers_lacks(self, file_site):
        place = file_site.directory / "local"
        local = {"class": "django_jinja_bccache.FileSystemBytecodeCache", "directory": str(place)}
        tiered = {
            "class": "django_jinja_bccache.TieredBytecodeCache",
            "local": local,
            "shared": "default",
        }
        file_site.settings["TEMPLATES"] = [file_site.engine(bytecode_cache=tiered)]
        file_site.manage("warm_bytecode")
        shutil.rmtree(place)
        done = file_site.manage("warm_bytecode", "--check", "--include", "base*")
        assert done.stderr == "jinja2: base.html: no valid entry in one of the two tiers\n"


class TestRefusals:
    @pytest.fixture
    def barred_site(self, tmp_path):
        """A site with five templates and a directory in which not even root makes a file."""
        option = {"class": "django_jinja_bccache.FileSystemBytecodeCache", "directory": "/sys"}
        site = Site(tmp_path / "site", caches_from(f"file://{tmp_path}/cache", tmp_path), option)
        site.write("templates/more.html", "more")
        return site

    def test_what_a_store_says_of_every_template_is_said_once(self, barred_site):
        done = barred_site.manage("warm_bytecode")
        assert done.returncode == 1
        assert done.stdout.splitlines()[1:] == ["  5 failed"]
        *lines, place = done.stderr.splitlines()
        message = " ".join(line.strip() for line in lines)
        assert message.startswith("jinja2: base.html: [Errno ")
        assert message.endswith("'/sys' (and 4 more templates: the same)")
        assert place == "  /srv/site/templates/base.html"

    def test_with_more_verbosity_it_is_said_of_each(self, barred_site):
        done = barred_site.manage("warm_bytecode", "-v", "2")
        assert done.stderr.count(" denied: '/sys'") + done.stderr.count(" system: '/sys'") == 5

    def test_a_template_too_large_is_named_and_the_rest_is_stored(self, memcached, tmp_path):
        site = Site(tmp_path, caches_from(f"memcached://{memcached.address}", tmp_path))
        site.write("templates/big.html", noise(3_000_000))
        done = site.manage("warm_bytecode")
        assert done.returncode == 1
        assert done.stdout.splitlines()[1:] == ["  1 failed"]
        assert done.stderr.startswith("jinja2: big.html: value of 1")
        assert " bytes: the store takes 1048576 bytes\n  /srv/site/" in done.stderr
        visit = site.visit("big.html", *NAMES)
        assert visit.compiled == ["big.html"]
        assert visit.pages["big.html"] == noise(3_000_000)
        assert visit.log.startswith("The bytecode of template 'big.html' is too large")

    def test_a_template_that_fits_only_compressed_is_stored(self, memcached, tmp_path):
        site = Site(tmp_path, caches_from(f"memcached://{memcached.address}", tmp_path))
        site.write("templates/big.html", noise(1_500_000))
        assert site.manage("warm_bytecode").returncode == 0
        visit = site.visit("big.html")
        assert (visit.compiled, visit.hits) == ([], 1)
        assert visit.pages["big.html"] == noise(1_500_000)


class TestStoredEntries:
    def test_check_names_a_template_whose_entry_is_damaged_and_a_warm_up_mends_it(self, site, raw):
        site.manage("warm_bytecode")
        for key in list(raw.keys()):
            value = raw.get(key)
            if b"home.html" in value:
                raw.plant(key, value[:-1] + bytes([value[-1] ^ 1]))
        done = site.manage("warm_bytecode", "--check")
        assert done.returncode == 1
        assert done.stderr == "jinja2: home.html: no valid entry in the cache\n"

        assert "3 stored already, 1 compiled" in site.manage("warm_bytecode").stdout
        assert site.manage("warm_bytecode", "--check").returncode == 0

    @pytest.mark.parametrize("rubbish", [b"", b"jbcc" + bytes(100)])
    def test_rubbish_is_no_entry(self, site, raw, rubbish):
        site.manage("warm_bytecode")
        for key in list(raw.keys()):
            raw.plant(key, rubbish)
        done = site.manage("warm_bytecode", "--check")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 4)
        assert "0 stored already, 4 compiled" in site.manage("warm_bytecode").stdout

    def test_entries_past_half_of_their_time_are_stored_again_without_compiling(self, site, raw):
        site.manage("warm_bytecode")
        key = SigningKey(site.settings["SECRET_KEY"])
        payloads = age(raw, key, 16 * DAY)
        before = int(time.time())

        for how in (["--check"], ["--dry-run"]):
            assert "  4 to store again: past half" in site.manage("warm_bytecode", *how).stdout
        done = site.manage("warm_bytecode", "-v", "2")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1:] == [
            "  4 stored again: past half of their time-out, or sealed with an old key",
            *(f"  stored again    {name}" for name in NAMES),
        ]
        entries = {key_: unseal(entry(key_), raw.get(key_), key) for key_ in payloads}
        # What marshal makes of a pack's code depends on who else refers to its parts.
        templates = [key_ for key_ in payloads if not entry(key_).startswith("pack.")]
        assert all(bytes(entries[key_].payload) == payloads[key_] for key_ in templates)
        assert all(each.created >= before for each in entries.values())
        assert site.visit(*NAMES).compiled == []

    def test_entries_before_half_of_their_time_are_left_alone(self, site, raw):
        site.manage("warm_bytecode")
        age(raw, SigningKey(site.settings["SECRET_KEY"]), 14 * DAY)
        assert "4 stored already, 0 compiled, 0 B" in site.manage("warm_bytecode").stdout

    def test_a_warm_up_after_a_clear_stores_everything_in_one_process_too(self, site):
        done = site.python("-c", ONE_PROCESS)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split(", ")[:3] for line in done.stdout.splitlines()] == [
            ["jinja2: 4 templates", "0 stored already", "4 compiled"],
            ["jinja2: removed 4 entries and 1 pack", ANY],
            ["jinja2: 4 templates", "0 stored already", "4 compiled"],
        ]
        assert site.visit(*NAMES).compiled == []


ONE_PROCESS = f"""
import django
from django.core.management import call_command
from django.template.loader import get_template

django.setup()
call_command("warm_bytecode")
for name in {NAMES}:  # Jinja2 keeps them in the process now
    get_template(name).render()
call_command("clear_bytecode", interactive=False)
call_command("warm_bytecode")
"""


def entry(stored_key: str) -> str:
    return stored_key.rpartition(":")[2]


def age(raw, signing_key: SigningKey, seconds: int) -> dict[str, bytes]:
    """Make entries look older; return their payloads."""
    payloads = {}
    for key in list(raw.keys()):
        old = unseal(entry(key), raw.get(key), signing_key)
        payloads[key] = bytes(old.payload)
        created = old.created - seconds
        value = seal(entry(key), payloads[key], signing_key, label=old.label, created=created)
        raw.plant(key, value)
    return payloads
