"""What ``manage.py warm_bytecode`` prints and does when nothing is wrong, and its arguments."""

import json
import re

import pytest

from tests.scripts import Finished
from tests.sites import TEMPLATES, Code

NAMES = list(TEMPLATES)
STOCK = "django.template.backends.jinja2.Jinja2"
DJANGO_JINJA = "django_jinja.jinja2.Jinja2"

KEYS = {
    *("engine", "ok", "templates", "present", "compiled", "copied", "refreshed"),
    *("missing", "unshareable", "without_source", "passed_over", "unlistable", "failed"),
    *("dangling", "packs", "unpublished", "jobs", "remark", "bytes_stored", "seconds"),
}


def stable(text: str) -> str:
    """The text with its bytes and seconds replaced, which differ from run to run."""
    text = re.sub(r"\b[\d.]+ [KM]?B(?=,| in)", "SIZE", text)
    return re.sub(r" in \d+\.\d s", " in TIME", text)


class TestReport:
    def test_it_says_what_it_stored_and_what_was_there(self, site):
        first, second = site.manage("warm_bytecode"), site.manage("warm_bytecode")
        assert stable(first.stdout) == (
            "jinja2: 4 templates, 0 stored already, 4 compiled, SIZE, 1 pack in TIME\n"
        )
        assert second.stdout.startswith("jinja2: 4 templates, 4 stored already, 0 compiled, 0 B")
        assert (first.returncode, second.returncode) == (0, 0)
        assert first.stderr == second.stderr == ""

    def test_it_compiles_only_what_is_missing(self, file_site):
        file_site.manage("warm_bytecode")
        file_site.write("templates/new.html", "New")
        assert stable(file_site.manage("warm_bytecode", "-v", "2").stdout) == (
            "jinja2: 5 templates, 4 stored already, 1 compiled, SIZE, 1 pack in TIME\n"
            "  compiled        new.html\n"
            "  stored already  base.html\n"
            "  stored already  home.html\n"
            "  stored already  shop/item.html\n"
            "  stored already  shop/list.html\n"
        )

    def test_verbosity_0_is_silent(self, file_site):
        done = file_site.manage("warm_bytecode", "-v", "0")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert file_site.visit(*NAMES).compiled == []

    def test_where_caches_are_switched_off_it_says_so_unless_it_is_to_be_silent(self, file_site):
        off = {"DJANGO_JINJA_BCCACHE": "off"}
        said = "jinja2: switched off in the process environment\n"
        assert file_site.manage("warm_bytecode", **off) == Finished(0, said, "")
        assert file_site.manage("warm_bytecode", "-v", "0", **off) == Finished(0, "", "")

    def test_a_dry_run_tells_what_would_be_compiled_and_stores_nothing(self, file_site):
        file_site.manage("warm_bytecode", "--include", "shop/*")
        for _ in range(2):
            done = file_site.manage("warm_bytecode", "--dry-run", "-v", "2")
            assert done.returncode == 0
            assert done.stdout == (
                "jinja2: 4 templates, 2 stored already, 2 to compile\n"
                "  to compile      base.html\n"
                "  to compile      home.html\n"
                "  stored already  shop/item.html\n"
                "  stored already  shop/list.html\n"
            )

    def test_check_names_what_is_missing_and_stores_nothing(self, site):
        site.manage("warm_bytecode", "--exclude", "shop/*")
        for _ in range(2):
            done = site.manage("warm_bytecode", "--check")
            assert done.returncode == 1
            assert done.stdout == "jinja2: 4 templates, 2 stored, 2 missing\n"
            assert done.stderr == (
                "jinja2: shop/item.html: no valid entry in the cache\n"
                "jinja2: shop/list.html: no valid entry in the cache\n"
            )

    def test_check_is_content_after_a_warm_up(self, site):
        site.manage("warm_bytecode")
        done = site.manage("warm_bytecode", "--check")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "jinja2: 4 templates, 4 stored, 0 missing\n"

    @pytest.mark.parametrize("verbosity", ["0", "2"])
    def test_json_is_one_document_whatever_the_verbosity(self, file_site, verbosity):
        file_site.write("templates/bad.html", "\n{% if %}")
        file_site.write("templates/odd.html", "{% include 'nowhere.html' %}")
        done = file_site.manage("warm_bytecode", "--format", "json", "-v", verbosity)
        report = json.loads(done.stdout)
        assert (done.returncode, done.stderr) == (1, "")
        assert report.keys() == {"ok", "engines"}
        (engine,) = report["engines"]
        assert engine.keys() == KEYS
        assert (report["ok"], engine["ok"], engine["engine"]) == (False, False, "jinja2")
        assert engine["templates"] == sorted([*NAMES, "bad.html", "odd.html"])
        assert engine["compiled"] == sorted([*NAMES, "odd.html"])
        assert engine["failed"] == [
            {
                "template": "bad.html",
                "message": "Expected an expression, got 'end of statement block'",
                "filename": "/srv/site/templates/bad.html",
                "lineno": 2,
            }
        ]
        assert engine["dangling"] == [
            {
                "template": "odd.html",
                "message": "names 'nowhere.html', which does not exist",
                "filename": "/srv/site/templates/odd.html",
                "lineno": 1,
            }
        ]

    def test_json_says_ok_when_it_is(self, file_site):
        first, second = (
            json.loads(file_site.manage("warm_bytecode", "--format", "json").stdout)
            for _ in range(2)
        )
        assert (first["ok"], second["ok"]) == (True, True)
        assert first["engines"][0]["bytes_stored"] > 1000
        assert second["engines"][0]["present"] == NAMES


BARE = """
from django.template.backends.base import BaseEngine
from jinja2 import Environment
from django_jinja_bccache import DjangoBytecodeCache

class Bare(BaseEngine):
    def __init__(self, params):
        params.pop("OPTIONS")
        super().__init__(params)
        self.env = Environment(bytecode_cache=DjangoBytecodeCache())
"""


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--include", "shop/*"], ["shop/item.html", "shop/list.html"]),
            (["--include", "*.html", "--exclude", "shop/*"], ["base.html", "home.html"]),
            (["--exclude", "base*", "--exclude", "*/list*"], ["home.html", "shop/item.html"]),
            (["--include", "base*", "--include", "home*"], ["base.html", "home.html"]),
        ],
    )
    def test_globs_choose_templates(self, file_site, arguments, expected):
        file_site.manage("warm_bytecode", *arguments)
        assert sorted(file_site.visit(*NAMES).compiled) == sorted({*NAMES} - {*expected})

    def test_a_glob_that_matches_nothing_is_a_mistake(self, file_site):
        for how in ((), ("--check",)):
            done = file_site.manage(
                "warm_bytecode", "--include", "base*", "--include", "shpo/*", *how
            )
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr == "CommandError: No template matches 'shpo/*'.\n"

    def test_a_check_forces_nothing(self, file_site):
        done = file_site.manage("warm_bytecode", "--check", "--force")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--check changes nothing" in done.stderr

    def test_an_engine_whose_backend_knows_no_folder_of_apps_names_none(self, file_site):
        file_site.write("bare.py", BARE)
        file_site.settings["TEMPLATES"] = [
            {"BACKEND": "bare.Bare", "NAME": "bare", "DIRS": [], "APP_DIRS": False, "OPTIONS": {}}
        ]
        done = file_site.manage("warm_bytecode")
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.strip() for line in done.stdout.splitlines()[1:]] == ["it has no directories"]

    def test_an_engine_without_templates_says_where_it_looked(self, file_site):
        nowhere = {**file_site.engine(), "DIRS": ["/srv/nowhere"]}
        file_site.settings["TEMPLATES"] = [nowhere]
        done = file_site.manage("warm_bytecode")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1:] == [
            "  no template is in its directories:",
            "    /srv/nowhere",
            "  with APP_DIRS an app's templates are in its folder 'jinja2'",
        ]
        file_site.settings["TEMPLATES"] = [{**nowhere, "DIRS": []}]
        done = file_site.manage("warm_bytecode", "--check")
        assert done.stdout.splitlines()[1] == "  it has no directories"

    def test_an_unknown_engine_is_answered_with_those_that_there_are(self, file_site):
        file_site.settings["TEMPLATES"].append(file_site.engine("mail"))
        done = file_site.manage("warm_bytecode", "--engine", "jinja")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "CommandError: No engine 'jinja' uses a bytecode cache.\n"
            "There are: 'jinja2', 'mail'.\n"
        )

    @pytest.mark.parametrize(
        "arguments",
        [["--frobnicate"], ["--check", "--dry-run"], ["--jobs", "-1"], ["--jobs", "two"]],
    )
    def test_arguments_that_cannot_be_used_exit_with_2(self, file_site, arguments):
        done = file_site.manage("warm_bytecode", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert arguments[-1] in done.stderr.splitlines()[-1]

    def test_without_any_cache_it_says_where_one_is_configured(self, file_site):
        file_site.settings["TEMPLATES"] = [file_site.engine(bytecode_cache=None)]
        done = file_site.manage("warm_bytecode")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "CommandError: No template engine has a bytecode cache of django_jinja_bccache.\n"
            'See OPTIONS["bytecode_cache"] in TEMPLATES.\n'
        )


class TestEngines:
    def test_every_engine_with_a_cache_is_warmed_whatever_its_backend(self, site):
        site.imports = "from django_jinja_bccache import DjangoBytecodeCache"
        for folder in ("templates", "stock", "django-jinja"):
            site.write(f"{folder}/{folder}.html", f"from {folder}")
        stock = site.engine("stock", backend=STOCK, bytecode_cache=Code("DjangoBytecodeCache()"))
        stock["DIRS"] = [str(site.directory / "stock")]
        django_jinja = site.engine(
            "django-jinja",
            backend=DJANGO_JINJA,
            match_extension=None,
            bytecode_cache={
                "name": "default",
                "backend": "django_jinja_bccache.DjangoBytecodeCache",
                "enabled": True,
            },
        )
        django_jinja["DIRS"] = [str(site.directory / "django-jinja")]
        uncached = site.engine("uncached", bytecode_cache=None)
        djangos = {"BACKEND": "django.template.backends.django.DjangoTemplates", "NAME": "django"}
        site.settings["TEMPLATES"] += [stock, django_jinja, uncached, djangos]

        done = site.manage("warm_bytecode")
        assert (done.returncode, done.stderr) == (0, "")
        assert stable(done.stdout) == (
            "jinja2: 5 templates, 0 stored already, 5 compiled, SIZE, 1 pack in TIME\n"
            "stock: 1 template, 0 stored already, 1 compiled, SIZE, 1 pack in TIME\n"
            "django-jinja: 1 template, 0 stored already, 1 compiled, SIZE, 1 pack in TIME\n"
        )
        assert site.visit("templates.html", "stock.html", "django-jinja.html").compiled == []

    @pytest.fixture
    def mixed_site(self, file_site):
        """Templates of django-jinja's among those of Django's own engine, as it has them."""
        site = file_site
        for name in TEMPLATES:
            (site.directory / "templates" / name).unlink()
        site.write("templates/page.jinja", "{% extends 'base.html' %}")
        site.write("templates/base.html", "{% include 'foot.html' %}")
        site.write("templates/foot.html", "foot")
        site.write("templates/djangos.html", "{% load static %}")
        cache = {
            "name": "default",
            "backend": "django_jinja_bccache.DjangoBytecodeCache",
            "enabled": True,
        }
        site.settings["TEMPLATES"] = [
            site.engine(backend=DJANGO_JINJA, bytecode_cache=cache),
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "NAME": "django"},
        ]
        return site

    def test_templates_that_django_jinja_leaves_to_django_are_left_alone(self, mixed_site):
        done = mixed_site.manage("warm_bytecode", "-v", "2")
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split()[-1] for line in done.stdout.splitlines()[1:]] == [
            "page.jinja",
            "base.html",
            "foot.html",
        ]
        assert mixed_site.visit("page.jinja").compiled == []
        assert mixed_site.manage("warm_bytecode", "--check").returncode == 0

    def test_nor_does_any_other_command_mind_them(self, mixed_site):
        mixed_site.manage("warm_bytecode")
        report = json.loads(mixed_site.manage("inspect_bytecode", "--format", "json").stdout)
        assert report["engines"][0]["missing"] == []
        preloaded = mixed_site.python("-c", PRELOAD)
        assert (preloaded.stdout, preloaded.stderr) == ("3 {}\n", "")
        stale = mixed_site.manage("clear_bytecode", "--stale", "--noinput")
        assert stale.stdout.startswith("jinja2: removed 0 entries")

    def test_engines_of_other_backends_have_packs_of_their_own(self, file_site):
        file_site.imports = "from django_jinja_bccache import DjangoBytecodeCache"
        for name in ("one", "two"):
            file_site.write(f"{name}/{name}.html", name)
        cache = Code("DjangoBytecodeCache(release='1')")
        stock = [
            file_site.engine(name, backend=STOCK, bytecode_cache=cache)
            | {"DIRS": [str(file_site.directory / name)]}
            for name in ("one", "two")
        ]
        file_site.settings["TEMPLATES"] = stock
        for written in (2, 0):
            done = file_site.manage("warm_bytecode")
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.count(", 1 pack in") == written

    def test_one_engine_can_be_chosen(self, file_site):
        mail = file_site.engine("mail", autoescape=False)
        file_site.settings["TEMPLATES"].append(mail)
        file_site.manage("warm_bytecode", "--engine", "mail")
        for engine, missing in (("mail", 0), ("jinja2", 4)):
            done = file_site.manage("warm_bytecode", "--check", "--engine", engine)
            assert f"{engine}: 4 templates, {4 - missing} stored, {missing} missing" in done.stdout

    def test_names_and_keys_behind_a_prefix_are_those_of_pages(self, file_site):
        file_site.write("site_environment.py", PREFIXES)
        file_site.settings["TEMPLATES"] = [
            file_site.engine(environment="site_environment.environment")
        ]
        done = file_site.manage("warm_bytecode", "-v", "2")
        assert done.returncode == 0
        assert stable(done.stdout) == (
            "jinja2: 4 templates, 1 stored already, 3 compiled, SIZE, 1 pack in TIME\n"
            "  compiled        one/i.html\n"
            "  compiled        one/same.html\n"
            "  compiled        two/i.html\n"
            "  stored already  two/same.html\n"
        )
        visit = file_site.visit("one/i.html", "two/i.html", "one/same.html", "two/same.html")
        assert (visit.compiled, visit.hits) == ([], 4)
        assert list(visit.pages.values()) == ["1", "2", "equal", "equal"]

    def test_a_cache_that_pages_only_read_is_filled(self, file_site):
        file_site.settings["TEMPLATES"] = [file_site.engine(bytecode_cache={"read_only": True})]
        assert file_site.visit(*NAMES).stores == 0
        assert file_site.manage("warm_bytecode").returncode == 0
        assert file_site.visit(*NAMES).compiled == []


PRELOAD = """
import django
django.setup()
from django_jinja_bccache import preload
for report in preload():
    print(report.templates, report.failed)
"""
PREFIXES = """
from jinja2 import DictLoader, Environment, PrefixLoader

def environment(**options):
    one = DictLoader({"i.html": "1", "same.html": "equal"})
    two = DictLoader({"i.html": "2", "same.html": "equal"})
    options["loader"] = PrefixLoader({"one": one, "two": two})
    return Environment(**options)
"""
