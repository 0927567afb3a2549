"""A build host with another key: what it has warmed is of no use, and one warning says why."""

import pytest

from django_jinja_bccache.entry import SigningKey
from tests.sites import TEMPLATES, Code, Site

NAMES = list(TEMPLATES)
BUILD, WEB = "the secret of the build host", "the secret of the web server"
BUILD_ID, WEB_ID = SigningKey(BUILD).id, SigningKey(WEB).id


@pytest.fixture
def warmed(site) -> Site:
    """A web server's site, whose store a build host with another key has warmed."""
    site.settings["SECRET_KEY"] = BUILD
    done = site.manage("warm_bytecode")
    assert done.returncode == 0, done.stderr
    site.settings["SECRET_KEY"] = WEB
    return site


def warnings_about(key_id: str, log: str) -> list[str]:
    return [line for line in log.splitlines() if key_id in line]


def test_one_warning_names_both_keys_ids_and_the_cure(warmed):
    visit = warmed.visit(*NAMES)
    assert sorted(visit.compiled) == sorted(NAMES)
    [warning] = warnings_about(BUILD_ID, visit.log)
    assert WEB_ID in warning
    assert "key" in warning.replace(BUILD_ID, "")
    assert "SECRET_KEY" in warning
    assert BUILD not in visit.log
    assert WEB not in visit.log


def test_every_process_warns_once_however_many_templates_it_loads(warmed):
    assert len(warnings_about(BUILD_ID, warmed.visit(*NAMES, *NAMES).log)) == 1


def test_the_check_of_the_web_server_says_so_too(warmed):
    """What a deployment asks before it goes on."""
    checked = warmed.manage("warm_bytecode", "--check")
    assert checked.returncode == 1
    assert len(warnings_about(BUILD_ID, checked.stdout + checked.stderr)) == 1


@pytest.mark.parametrize("keys", [[BUILD], [WEB, BUILD]], ids=["the same", "both"])
def test_the_build_hosts_key_in_the_option_cures_it(warmed, keys):
    warmed.imports = "from django_jinja_bccache import DjangoBytecodeCache"
    warmed.settings["TEMPLATES"] = [
        warmed.engine(bytecode_cache=Code(f"DjangoBytecodeCache(key={keys!r})"))
    ]
    visit = warmed.visit(*NAMES)
    assert (visit.compiled, visit.log) == ([], "")


def test_as_a_fallback_it_cures_it_as_well(warmed):
    warmed.settings["SECRET_KEY_FALLBACKS"] = [BUILD]
    visit = warmed.visit(*NAMES)
    assert (visit.compiled, visit.log) == ([], "")


def test_nobody_is_warned_of_a_store_that_nobody_has_warmed(site):
    visit = site.visit(*NAMES)
    assert sorted(visit.compiled) == sorted(NAMES)
    assert visit.log == ""


def test_nobody_is_warned_whose_own_entries_are_there_as_well(warmed):
    """Two sites in one store, or a rotation that is over."""
    assert warmed.manage("warm_bytecode").returncode == 0
    visit = warmed.visit(*NAMES)
    assert (visit.compiled, visit.log) == ([], "")


def test_nobody_is_warned_of_the_entries_of_another_engine_or_prefix(site):
    """They are another site's, which has every right to a key of its own."""
    site.settings["SECRET_KEY"] = BUILD
    other = Code("DjangoBytecodeCache(prefix='another/')")
    site.imports = "from django_jinja_bccache import DjangoBytecodeCache"
    ordinary = site.settings["TEMPLATES"]
    site.settings["TEMPLATES"] = [site.engine(bytecode_cache=other)]
    assert site.manage("warm_bytecode").returncode == 0
    site.settings["SECRET_KEY"] = WEB
    site.settings["TEMPLATES"] = ordinary
    visit = site.visit(*NAMES)
    assert sorted(visit.compiled) == sorted(NAMES)
    assert visit.log == ""
