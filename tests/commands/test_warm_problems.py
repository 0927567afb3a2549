"""What ``manage.py warm_bytecode`` says of templates that it cannot warm, or need not."""

import pytest
from jinja2 import DictLoader, Environment

from tests.sites import TEMPLATES

NAMES = list(TEMPLATES)
BROKEN = "<ul>\n{% for item in items %}\n{% endfr %}"
BROKEN_REPORT = (
    "jinja2: bad.html: Encountered unknown tag 'endfr'. Jinja was looking for the\n"
    "  following tags: 'endfor' or 'else'. The innermost block that needs to be\n"
    "  closed is 'for'.\n"
    "  /srv/site/templates/bad.html:3\n"
)


@pytest.fixture
def loaders_site(file_site):
    """A small site whose environment has the loader that a test writes as Python source."""

    def make(loader: str):
        file_site.write("site_environment.py", ENVIRONMENT % loader)
        engine = file_site.engine(environment="site_environment.environment")
        file_site.settings["TEMPLATES"] = [engine]
        return file_site

    return make


ENVIRONMENT = """
import os
from jinja2 import *

class DatabaseLoader(BaseLoader):
    def get_source(self, environment, name):
        raise TemplateNotFound(name)
    def list_templates(self):
        raise NotImplementedError

def hidden(key, prefix, version):
    return f"{prefix}:{key[::-1]}"

def load(name):
    return "from a function" if name == "function.html" else None

def environment(**options):
    files = options["loader"]
    options["loader"] = %s
    return Environment(**options)
"""


class TestBrokenTemplates:
    def test_one_is_named_with_file_line_and_message_and_the_rest_is_stored(self, site):
        site.write("templates/bad.html", BROKEN)
        done = site.manage("warm_bytecode")
        assert done.returncode == 1
        assert done.stderr == BROKEN_REPORT
        first, *remarks = done.stdout.splitlines()
        assert first.startswith("jinja2: 5 templates, 0 stored already, 4 compiled, ")
        assert remarks == ["  1 failed"]
        assert site.visit(*NAMES).compiled == []

    @pytest.mark.parametrize("verbosity", ["0", "2"])
    @pytest.mark.parametrize("how", [(), ("--check",), ("--dry-run",)])
    def test_one_is_named_in_every_mode(self, file_site, how, verbosity):
        file_site.manage("warm_bytecode")
        file_site.write("templates/bad.html", BROKEN)
        done = file_site.manage("warm_bytecode", *how, "-v", verbosity)
        assert (done.returncode, done.stderr) == (1, BROKEN_REPORT)

    def test_errors_can_be_ignored(self, file_site):
        file_site.write("templates/bad.html", BROKEN)
        file_site.write("templates/odd.html", "{% include 'nowhere.html' %}")
        done = file_site.manage("warm_bytecode", "--ignore-errors")
        assert done.returncode == 0
        assert "bad.html" in done.stderr
        assert "nowhere.html" in done.stderr

    def test_what_an_extension_raises_is_told_like_a_syntax_error(self, file_site):
        file_site.write("site_extension.py", EXTENSION)
        file_site.settings["TEMPLATES"] = [
            file_site.engine(extensions=["site_extension.Fragile"], autoescape=False)
        ]
        file_site.write("templates/fragile.html", "text {% fragile %}")
        done = file_site.manage("warm_bytecode")
        assert done.returncode == 1
        assert done.stderr == (
            "jinja2: fragile.html: the parser stumbled\n  /srv/site/templates/fragile.html\n"
        )

    def test_code_that_must_not_be_shared_is_counted_and_no_error(self, file_site):
        file_site.write("site_extension.py", EXTENSION)
        file_site.settings["TEMPLATES"] = [
            file_site.engine(
                extensions=["site_extension.Folding"], environment="site_extension.make"
            )
        ]
        file_site.write("templates/folded.html", "{% folded %}")
        for how in ((), ("--check",)):
            done = file_site.manage("warm_bytecode", *how)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.splitlines()[1:] == [
                "  1 unshareable: an extension needs a filter's output while compiling"
            ]


EXTENSION = """
from jinja2 import Environment, nodes
from jinja2.ext import Extension

class Fragile(Extension):
    tags = {"fragile"}
    def parse(self, parser):
        raise RuntimeError("the parser stumbled")

class Folding(Extension):
    tags = {"folded"}
    def parse(self, parser):
        lineno = next(parser.stream).lineno
        shout = nodes.Filter(nodes.Const("hello"), "shout", [], [], None, None)
        shout.set_environment(self.environment)
        output = shout.as_const(nodes.EvalContext(self.environment))
        return nodes.Output([nodes.TemplateData(output)])

def make(**options):
    environment = Environment(**options)
    environment.filters["shout"] = str.upper
    return environment
"""


class TestWidth:
    @pytest.mark.parametrize(
        ("command", "arguments"),
        [
            ("warm_bytecode", []),
            ("warm_bytecode", ["-v", "2"]),
            ("warm_bytecode", ["--check", "-v", "2"]),
            ("warm_bytecode", ["--dry-run", "-v", "2"]),
            ("clear_bytecode", []),
            ("clear_bytecode", ["--noinput"]),
            ("clear_bytecode", ["--noinput", "--stale"]),
        ],
    )
    def test_every_line_fits_80_columns(self, loaders_site, command, arguments):
        site = loaders_site("ChoiceLoader([FunctionLoader(load), files])")
        for number in range(3):
            site.write(f"templates/account/orders/bad_{number}.html", BROKEN)
            site.write("templates/checkout/odd.html", "{% include 'checkout/no_payment.html' %}")
            site.write(f"templates/.hidden_{number}.html", "")
        # One alias cannot list; one that was stored with an old key is to be stored again.
        local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
        site.settings["CACHES"]["default"] |= {"KEY_FUNCTION": "site_environment.hidden"}
        site.settings["CACHES"]["local"] = local
        environment = "site_environment.environment"
        second = site.engine("mail", environment=environment, bytecode_cache="local")
        site.settings["TEMPLATES"].append(second)
        site.manage("warm_bytecode")
        old = site.settings["SECRET_KEY"]
        site.settings |= {"SECRET_KEY": "the new secret", "SECRET_KEY_FALLBACKS": [old]}
        done = site.manage(command, *arguments)
        lines = (done.stdout + done.stderr).splitlines()
        assert len(lines) >= 2
        assert [line for line in lines if len(line) > 80] == []


class TestReferences:
    @pytest.mark.parametrize(
        ("source", "wanted"),
        [
            ("{% include 'no.html' %}", "'no.html'"),
            ("{% extends 'no.html' %}", "'no.html'"),
            ("{% import 'no.html' as no %}", "'no.html'"),
            ("{% from 'no.html' import no %}", "'no.html'"),
            ("{% include ['no.html', 'nor.html'] %}", "'no.html' or 'nor.html'"),
            ("{% if false %}{% include 'no.html' %}{% endif %}", "'no.html'"),
        ],
    )
    def test_one_to_nothing_is_told_with_its_line_again_and_again(self, file_site, source, wanted):
        file_site.write("templates/odd.html", f"\n\n{source}")
        for compiled in (5, 0):
            done = file_site.manage("warm_bytecode")
            assert done.returncode == 1
            assert f" {compiled} compiled" in done.stdout
            assert done.stdout.splitlines()[1:] == ["  1 naming a template that does not exist"]
            assert done.stderr == (
                f"jinja2: odd.html: names {wanted}, which does not exist\n"
                "  /srv/site/templates/odd.html:3\n"
            )

    @pytest.mark.parametrize(
        "source",
        [
            "{% include 'no.html' ignore missing %}",
            "{% include ['no.html', 'nor.html'] ignore missing %}",
            "{% include ['no.html', 'base.html'] %}",
            "{% extends ['base.html', 'no.html'] %}",
            "{% include name %}",
            "{% extends 'no' ~ name %}",
            "{% include ['no.html', name] %}",
            "{% include '.hidden.html' %}",
            "{# {% include 'no.html' %} #}",
        ],
    )
    def test_one_that_may_be_or_is_satisfied_is_no_complaint(self, file_site, source):
        file_site.write("templates/.hidden.html", "hidden, but there")
        file_site.write("templates/fine.html", source)
        for how in ((), (), ("--check",), ("--include", "fine.html")):
            done = file_site.manage("warm_bytecode", *how)
            assert (done.returncode, done.stderr) == (0, "")

    def test_one_to_what_only_an_unlistable_loader_has_is_no_complaint(self, loaders_site):
        site = loaders_site("ChoiceLoader([FunctionLoader(load), files])")
        site.write("templates/fine.html", "{% include 'function.html' %}")
        assert site.manage("warm_bytecode").returncode == 0


class TestFilesThatAreNoTemplates:
    def test_hidden_files_backups_and_binaries_are_passed_over_and_counted(self, file_site):
        for path in (".hidden.html", "home.html~", "#home.html#", "shop/.item.html.swp"):
            file_site.write(f"templates/{path}", "{% if")
        file_site.write("templates/.git/hooks/sample.html", "{% if")
        file_site.write("templates/img.png", b"\x89PNG\r\n\xff\xfe")
        file_site.write("templates/.icons/leaf.svg", "<svg/>")
        done = file_site.manage("warm_bytecode", "-v", "2")
        assert (done.returncode, done.stderr) == (0, "")
        first, second, *others = done.stdout.splitlines()
        assert first.startswith("jinja2: 5 templates, 0 stored already, 5 compiled, ")
        assert second == "  6 passed over: hidden, backups or not text"
        assert "  compiled        .icons/leaf.svg" in others
        assert [line for line in others if line.startswith("  passed over")] == [
            "  passed over     #home.html#",
            "  passed over     .git/hooks/sample.html",
            "  passed over     .hidden.html",
            "  passed over     home.html~",
            "  passed over     img.png",
            "  passed over     shop/.item.html.swp",
        ]
        assert file_site.visit(".icons/leaf.svg").compiled == []


class TestLoaders:
    @pytest.mark.parametrize(
        ("loader", "named"),
        [
            ("ChoiceLoader([FunctionLoader(load), files])", "FunctionLoader"),
            ("ChoiceLoader([files, DatabaseLoader()])", "DatabaseLoader"),
            ("ChoiceLoader([files, ModuleLoader(os.path.dirname(__file__))])", "ModuleLoader"),
            ("ChoiceLoader([files, PrefixLoader({'f': FunctionLoader(load)})])", "FunctionLoader"),
        ],
    )
    def test_one_that_cannot_list_is_named_and_the_others_templates_are_stored(
        self, loaders_site, loader, named
    ):
        site = loaders_site(loader)
        done = site.manage("warm_bytecode")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1:] == [
            f"  {named} cannot list its templates: none of them was looked at"
        ]
        assert site.visit(*NAMES).compiled == []

    def test_one_that_serves_compiled_templates_has_nothing_to_store(self, loaders_site, tmp_path):
        compiler = Environment(loader=DictLoader({"home.html": "a module"}))
        compiler.compile_templates(tmp_path / "compiled", zip=None)
        site = loaders_site(f"ChoiceLoader([ModuleLoader('{tmp_path}/compiled'), files])")
        done = site.manage("warm_bytecode")
        assert done.returncode == 0
        assert done.stdout.splitlines()[1:] == [
            "  1 without source: their loader has them compiled already",
            "  ModuleLoader cannot list its templates: none of them was looked at",
        ]
        visit = site.visit(*NAMES)
        assert (visit.compiled, visit.pages["home.html"]) == ([], "a module")

    def test_a_template_without_a_file_is_told_with_its_line(self, loaders_site):
        site = loaders_site("DictLoader({'bad': '{% if true %}\\n{% if %}'})")
        done = site.manage("warm_bytecode")
        assert done.returncode == 1
        assert done.stderr == (
            "jinja2: bad: Expected an expression, got 'end of statement block'\n  line 2\n"
        )
