"""Compiling in several processes: the same result, whatever becomes of them."""

import json

import pytest
from django.test import override_settings
from jinja2 import DictLoader

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.warming import warm
from testproject.benchmarks import synthetic
from tests.scripts import ROOT
from tests.sites import Code, cached_engine

SOURCES = dict(synthetic.templates(60))
NAMES = list(SOURCES)


@pytest.fixture
def large_site(file_site):
    """Sixty templates beside the three of the four that every site has."""
    for name, source in SOURCES.items():
        file_site.write(f"templates/{name}", source)
    return file_site


def warmed(site, *arguments, **environment):
    done = site.manage("warm_bytecode", "--format", "json", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    [report] = json.loads(done.stdout)["engines"]
    return report, done.stderr


def entries(site):
    script = """if True:
        import json, django
        django.setup()
        from django.template import engines
        cache = engines["jinja2"].env.bytecode_cache
        print(json.dumps(sorted([item.key, item.bytecode.hex()] for item in cache.entries())))
    """
    return site.python("-c", script).result


class TestWorkers:
    @pytest.mark.parametrize("jobs", ["2", "3", "0"])
    def test_they_store_what_one_process_would(self, large_site, jobs):
        warmed(large_site)
        alone = entries(large_site)
        large_site.manage("clear_bytecode", "--noinput")
        report, stderr = warmed(large_site, "--jobs", jobs)
        assert (len(report["compiled"]), report["remark"], stderr) == (63, "", "")
        assert report["jobs"] == int(jobs) or report["jobs"] >= 1
        assert entries(large_site) == alone

    def test_a_few_templates_need_none(self, file_site):
        report, _ = warmed(file_site, "--jobs", "2")
        assert (report["jobs"], report["remark"]) == (1, "")

    def test_what_settings_print_spoils_no_output(self, large_site):
        large_site.imports = "print('settings are read')"
        done = large_site.manage("warm_bytecode", "--format", "json", "--jobs", "2")
        assert done.stdout.count("settings are read") == 1
        report = json.loads(done.stdout.removeprefix("settings are read\n"))
        assert report["engines"][0]["jobs"] == 2

    def test_they_import_nothing_from_the_present_directory(
        self, large_site, tmp_path, monkeypatch
    ):
        manage = tmp_path / "project" / "manage.py"
        manage.parent.mkdir()
        manage.write_text(
            "import sys\nfrom django.core.management import execute_from_command_line\n"
            "execute_from_command_line(sys.argv)\n"
        )
        here = tmp_path / "here"
        here.mkdir()
        (here / "selectors.py").write_text("raise SystemExit('imported from here')\n")
        monkeypatch.setattr("tests.sites.ROOT", here)
        path = {"PYTHONPATH": f"{large_site.directory}:{ROOT}"}
        done = large_site.python(str(manage), "warm_bytecode", "--jobs", "2", **path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "--jobs made" not in done.stdout

    def test_a_broken_template_is_told_as_by_one_process(self, large_site):
        large_site.write("templates/broken.html", "fine\n{% if %}")
        alone = large_site.manage("warm_bytecode")
        large_site.manage("clear_bytecode", "--noinput")
        together = large_site.manage("warm_bytecode", "--jobs", "2")
        assert together.returncode == alone.returncode == 1
        assert together.stderr == alone.stderr
        assert "broken.html:2" in together.stderr

    def test_one_that_dies_is_replaced_by_this_process(self, large_site):
        large_site.imports = (
            "import os, sys\n"
            "if 'jinja2' in sys.argv:  # a worker\n"
            "    import threading\n"
            "    threading.Timer(0.6, os._exit, [9]).start()\n"
        )
        for number in range(200):
            large_site.write(f"templates/more/{number}.html", SOURCES[NAMES[number % 60]])
        report, _ = warmed(large_site, "--jobs", "2")
        assert len(report["compiled"]) == 263
        if report["remark"]:
            assert report["remark"] == "a process that compiled templates ended early"

    def test_one_with_other_settings_is_not_listened_to(self, large_site):
        large_site.imports = "import sys\nother = 'jinja2' in sys.argv\n"
        large_site.settings["TEMPLATES"][0]["OPTIONS"]["trim_blocks"] = Code("other")
        report, _ = warmed(large_site, "--jobs", "2")
        assert report["remark"] == "another process would have other options of the environment"
        assert (report["jobs"], len(report["compiled"])) == (1, 63)
        large_site.manage("clear_bytecode", "--noinput")
        assert large_site.manage("warm_bytecode", "--jobs", "2").stdout.splitlines()[1] == (
            f"  --jobs made 1: {report['remark']}"
        )

    def test_one_whose_parent_is_gone_ends_by_itself_without_a_word(self, file_site):
        script = """if True:
            import json, django
            django.setup()
            from django_jinja_bccache.discovery import cached_engines
            from django_jinja_bccache.parallel import _Worker
            worker = _Worker(*cached_engines())
            assert worker.answer() == {}  # it has begun
            worker.connection.close()
            print(json.dumps(worker._process.wait(30)))
        """
        done = file_site.python("-c", script)
        assert (done.result, done.stderr) == (0, "")


def test_settings_that_no_other_process_could_import_mean_one_process(backend):
    with override_settings(SECRET_KEY="another"):
        cache = DjangoBytecodeCache()
        engine = cached_engine(DictLoader(dict(SOURCES)), bytecode_cache=cache)
        report = warm(engine, jobs=2)
    assert (report.jobs, len(report.compiled)) == (1, 60)
    assert report.remark == "the settings are not a module that another process could import"
