"""What ``manage.py clear_bytecode`` removes, asks and prints."""

import json

import pytest

from testproject.caches import caches_from
from tests.sites import TEMPLATES, Code, Site

NAMES = list(TEMPLATES)
NO_LIST = (
    "  Only those of the present templates: this cache cannot list its keys.\n"
    "  Older ones stay until they expire.\n"
)


def clear(site: Site, *arguments: str) -> str:
    """What the command prints when it succeeds."""
    done = site.manage("clear_bytecode", "--noinput", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def clear_report(site: Site, *arguments: str) -> list[dict]:
    return json.loads(clear(site, "--format", "json", *arguments))["engines"]


class TestReport:
    def test_it_removes_every_entry_and_says_how_many(self, site):
        site.manage("warm_bytecode")
        assert clear(site).startswith("jinja2: removed 4 entries and 1 pack, ")
        assert site.manage("warm_bytecode", "--check").stdout.endswith(" 0 stored, 4 missing\n")

    def test_with_nothing_to_remove_it_says_so(self, file_site):
        assert clear(file_site) == "jinja2: removed 0 entries, 0 B\n"

    def test_one_entry_is_no_plural(self, file_site):
        file_site.manage("warm_bytecode", "--include", "base*")
        assert clear(file_site).startswith("jinja2: removed 1 entry, ")

    def test_verbosity_0_is_silent(self, file_site):
        file_site.manage("warm_bytecode")
        assert clear(file_site, "-v", "0") == ""
        assert clear(file_site) == "jinja2: removed 0 entries, 0 B\n"

    def test_the_next_warm_up_stores_everything_again(self, site):
        for _ in range(2):
            assert " 0 stored already, 4 compiled" in site.manage("warm_bytecode").stdout
            clear(site)

    def test_entries_of_earlier_releases_go_too(self, site):
        site.manage("warm_bytecode")
        for name in NAMES:
            site.write(f"templates/{name}", "changed")
        assert clear(site).startswith("jinja2: removed 4 entries and 1 pack, ")

    @pytest.mark.parametrize("arguments", [(), ("--stale",)])
    def test_a_dry_run_tells_the_same_and_removes_nothing(self, site, arguments):
        site.settings["TEMPLATES"].append(site.engine("mail", autoescape=False))
        site.manage("warm_bytecode")
        site.write("templates/home.html", "changed")
        if arguments:
            site.manage("warm_bytecode")  # else it counts as published lately
        would, again = (clear_report(site, "--dry-run", *arguments) for _ in range(2))
        assert would == again == clear_report(site, *arguments)
        assert sum(engine["entries"] for engine in would) == (2 if arguments else 8)

    def test_a_dry_run_neither_asks_nor_claims_to_have_removed(self, file_site):
        file_site.manage("warm_bytecode")
        done = file_site.manage("clear_bytecode", "--dry-run")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("jinja2: would remove 4 entries and 1 pack, ")

    def test_json_is_one_document_whatever_the_verbosity(self, file_site):
        for verbosity in ("0", "2"):
            file_site.manage("warm_bytecode")
            report = json.loads(clear(file_site, "--format", "json", "-v", verbosity))
            assert report.keys() == {"ok", "engines"}
            (engine,) = report["engines"]
            size = engine.pop("bytes")
            assert engine == {
                "engine": "jinja2", "ok": True, "entries": 4, "packs": 1, "listed": True,
            }  # fmt: skip
            assert 4_000 < size < 40_000


class TestConfirmation:
    QUESTION = "Remove all bytecode of jinja2 from the cache? [y/N] "

    @pytest.mark.parametrize("answer", ["y", "yes", " YES "])
    def test_yes_removes(self, file_site, answer):
        file_site.manage("warm_bytecode")
        done = file_site.manage("clear_bytecode", typed=f"{answer}\n")
        assert (done.returncode, done.stderr) == (0, self.QUESTION)
        assert done.stdout.startswith("jinja2: removed 4 entries and 1 pack, ")

    @pytest.mark.parametrize("typed", ["n\n", "\n", "yesterday\n", ""])
    def test_anything_else_and_no_answer_remove_nothing(self, file_site, typed):
        file_site.manage("warm_bytecode")
        done = file_site.manage("clear_bytecode", typed=typed)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(self.QUESTION)
        assert done.stderr.endswith(
            "CommandError: Nothing was removed; --noinput removes without asking.\n"
        )
        assert file_site.visit(*NAMES).compiled == []

    def test_the_question_says_what_is_meant_and_stays_out_of_json(self, file_site):
        file_site.settings["TEMPLATES"].append(file_site.engine("mail"))
        arguments = ("clear_bytecode", "--stale", "--format", "json")
        done = file_site.manage(*arguments, typed="y\n")
        assert done.stderr == "Remove the stale bytecode of jinja2, mail from the cache? [y/N] "
        assert json.loads(done.stdout)["ok"] is True

    def test_an_unknown_engine_is_answered_before_anything_is_asked(self, file_site):
        done = file_site.manage("clear_bytecode", "--engine", "mail", typed="y\n")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "CommandError: No engine 'mail' uses a bytecode cache.\nThere are: 'jinja2'.\n"
        )


class TestEngines:
    @pytest.fixture(params=[{"autoescape": False}, {"trim_blocks": True}], ids=str)
    def two(self, file_site, request):
        """A site with two engines that share a cache, warmed."""
        file_site.settings["TEMPLATES"].append(file_site.engine("mail", **request.param))
        file_site.manage("warm_bytecode")
        return file_site

    def test_clearing_one_spares_the_others_entries_in_the_same_cache(self, two):
        assert clear(two, "--engine", "mail").startswith("mail: removed 4 entries and 1 pack, ")
        checked = two.manage("warm_bytecode", "--check").stdout
        assert "jinja2: 4 templates, 4 stored, 0 missing" in checked
        assert "mail: 4 templates, 0 stored, 4 missing" in checked

    def test_clearing_all_tells_each_engines_share(self, two):
        first, second = clear(two).splitlines()
        assert first.startswith("jinja2: removed 4 entries and 1 pack, ")
        assert second.startswith("mail: removed 4 entries and 1 pack, ")

    def test_engines_that_share_their_entries_lose_them_together(self, file_site):
        file_site.settings["TEMPLATES"].append(file_site.engine("twin"))
        file_site.manage("warm_bytecode")
        for arguments in (("--engine", "twin"), ()):
            file_site.manage("warm_bytecode")
            engines = clear_report(file_site, *arguments)
            assert sum(engine["entries"] for engine in engines) == 4

    def test_stale_entries_of_one_engine_are_not_the_present_ones_of_another(self, two):
        assert clear(two, "--stale", "--engine", "mail") == "mail: removed 0 entries, 0 B\n"


class TestStale:
    def test_entries_of_the_present_templates_stay_and_older_ones_go(
        self, site, backend, tmp_path
    ):
        old = Site(tmp_path / "old", backend.caches)
        old.manage("warm_bytecode")
        site.write("templates/home.html", "The new home")
        site.manage("warm_bytecode")

        assert clear(site, "--stale").startswith("jinja2: removed 1 entry, ")
        assert site.visit(*NAMES).compiled == []
        assert old.visit(*NAMES).compiled == ["home.html"]

    def test_how_many_releases_to_keep_is_refused_where_all_would_go(self, file_site):
        file_site.manage("warm_bytecode")
        done = file_site.manage("clear_bytecode", "--noinput", "--keep-releases", "2")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--keep-releases goes with --stale" in done.stderr
        assert file_site.manage("warm_bytecode", "--check").returncode == 0

    def test_entries_under_a_key_on_its_way_out_stay(self, file_site):
        file_site.manage("warm_bytecode")
        old = file_site.settings["SECRET_KEY"]
        file_site.settings |= {"SECRET_KEY": "the new secret", "SECRET_KEY_FALLBACKS": [old]}
        file_site.manage("warm_bytecode")
        assert clear(file_site, "--stale") == "jinja2: removed 0 entries, 0 B\n"
        assert clear(file_site).startswith("jinja2: removed 8 entries and 2 packs, ")


class TestCachesThatCannotList:
    @pytest.fixture(params=["keys are digests", "memcached without metadump"])
    def mute_site(self, request, site, memcached_server, tmp_path):
        """A site whose cache cannot tell which keys it holds."""
        if request.param == "keys are digests":
            site.write("site_keys.py", HIDING)
            site.settings["CACHES"]["default"]["KEY_FUNCTION"] = "site_keys.hidden"
            yield site
        else:
            with memcached_server("-o", "no_lru_crawler") as server:
                yield Site(tmp_path, caches_from(f"memcached://{server.address}", tmp_path))

    def test_the_present_templates_entries_are_removed_and_the_report_says_so(self, mute_site):
        mute_site.manage("warm_bytecode")
        would = mute_site.manage("clear_bytecode", "--dry-run").stdout
        report = clear(mute_site)
        assert report.startswith("jinja2: removed 4 entries and 1 pack, ")
        assert report.endswith(NO_LIST)
        assert would == report.replace("removed", "would remove")
        assert sorted(mute_site.visit(*NAMES).compiled) == sorted(NAMES)

    def test_what_never_expires_is_not_said_to(self, mute_site):
        mute_site.settings["TEMPLATES"] = [
            mute_site.engine(bytecode_cache={"alias": "default", "timeout": None})
        ]
        mute_site.manage("warm_bytecode")
        assert clear(mute_site).endswith("list its keys.\n  Older ones stay.\n")

    def test_entries_of_earlier_releases_stay(self, mute_site):
        mute_site.manage("warm_bytecode")
        mute_site.write("templates/home.html", "changed")
        assert clear_report(mute_site)[0]["entries"] == 3
        mute_site.write("templates/home.html", TEMPLATES["home.html"])
        assert "home.html" not in mute_site.visit(*NAMES).compiled

    def test_stale_entries_cannot_be_found_and_nothing_is_removed(self, mute_site):
        mute_site.manage("warm_bytecode")
        done = mute_site.manage("clear_bytecode", "--noinput", "--stale")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("jinja2: --stale cannot be used: ")
        assert mute_site.visit(*NAMES).compiled == []

    def test_a_cache_in_the_process_is_cleared_like_any(self, file_site):
        backend = "django.core.cache.backends.locmem.LocMemCache"
        file_site.settings["CACHES"]["default"] = {"BACKEND": backend}
        done = file_site.python("-c", IN_ONE_PROCESS)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines(keepends=True)
        warmed, cleared, *no_list, again = [line for line in lines if "memory" not in line]
        assert cleared.startswith("jinja2: removed 4 entries and 1 pack, ")
        assert "".join(no_list) == NO_LIST
        assert " 4 compiled" in warmed
        assert " 4 compiled" in again


HIDING = """
from hashlib import sha256

def hidden(key, prefix, version):
    return sha256(f"{prefix}:{version}:{key}".encode()).hexdigest()
"""
IN_ONE_PROCESS = """
import django
from django.core.management import call_command

django.setup()
call_command("warm_bytecode")
call_command("clear_bytecode", interactive=False)
call_command("warm_bytecode")
"""


class TestFailures:
    @pytest.mark.parametrize("arguments", [(), ("--stale",), ("--dry-run",)])
    def test_a_server_that_is_gone_is_told_and_is_no_traceback(
        self, file_site, memcached_server, arguments
    ):
        server = memcached_server()
        file_site.settings["CACHES"]["far"] = {
            **caches_from(f"memcached://{server.address}", "")["default"]
        }
        file_site.settings["TEMPLATES"].insert(0, file_site.engine("far", bytecode_cache="far"))
        done = file_site.manage("clear_bytecode", "--noinput", *arguments)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("far: the cache cannot be used: memcached")
        assert "Connection refused" in done.stderr
        assert done.stdout.startswith("jinja2: ")

    def test_a_client_that_cannot_delete_is_named(self, file_site):
        file_site.imports = CLIENT
        cache = Code("MemcachedBytecodeCache(Client())")
        file_site.settings["TEMPLATES"] = [file_site.engine(bytecode_cache=cache)]
        done = file_site.manage("clear_bytecode", "--noinput", "--format", "json")
        assert done.returncode == 1
        assert json.loads(done.stdout) == {
            "ok": False,
            "engines": [
                {"engine": "jinja2", "ok": False, "error": "Client has no method delete()."}
            ],
        }


CLIENT = """
from django_jinja_bccache import MemcachedBytecodeCache

class Client:
    def get(self, key):
        return b"something"
    def set(self, key, value, timeout=None):
        return True
"""
