"""Links, modes, owners and names: nothing outside its own place is read, written or removed."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    SQLiteBytecodeCache,
)
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.stores.filesystem import default_directory
from django_jinja_bccache.warming import warm
from tests.attacks.targets import PAGES, SECRET, SOURCES, Target, close, environment, files
from tests.scripts import run_script
from tests.sites import cached_engine

VICTIM = b"somebody's own"


def tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory: modes and contents, links unfollowed."""
    found = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        content = b""
        if stat.S_ISLNK(mode):
            content = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(mode):
            content = path.read_bytes()
        found[str(path.relative_to(directory))] = mode, content
    return found


@pytest.fixture
def outside(tmp_path) -> Path:
    """A directory of somebody else's, with a file in it."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "file").write_bytes(VICTIM)
    return directory


@pytest.fixture
def target(tmp_path) -> Target:
    return Target(*files(tmp_path / "cache"))


@pytest.fixture
def path(target) -> Path:
    """The file of the page's entry."""
    return target.raw.head(target.key)[0]


def is_replaced(target: Target, path: Path) -> None:
    """A page is right, nothing but a miss, and its entry is an ordinary file again."""
    page, counts = target.visit(target.name)
    assert page == PAGES[target.name]
    assert (counts.misses, counts.stores, counts.errors) == (1, 1, 0)
    assert stat.S_ISREG(path.lstat().st_mode)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert target.visit(target.name)[1].hits == 1


class TestLinks:
    @pytest.mark.parametrize("what", ["file", "nothing", "itself", "zeros", "directory", "entry"])
    def test_a_link_in_an_entrys_place_is_not_followed(self, target, path, outside, what):
        elsewhere = outside / "entry"
        elsewhere.write_bytes(path.read_bytes())
        before = tree(outside)
        path.unlink()
        path.symlink_to(
            {
                "file": outside / "file",
                "nothing": outside / "nothing",
                "itself": path,
                "zeros": Path("/dev/zero"),
                "directory": outside,
                "entry": elsewhere,
            }[what]
        )
        is_replaced(target, path)
        assert tree(outside) == before

    def test_clear_removes_links_and_not_what_they_lead_to(self, target, path, outside):
        elsewhere = outside / "entry"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        path.with_name(".new-abcd1234.bytecode").symlink_to(outside / "file")
        path.with_name("f" * 40 + ".bytecode").symlink_to(outside)
        os.utime(path.with_name(".new-abcd1234.bytecode"), (0, 0), follow_symlinks=False)
        before = tree(outside)
        cache = target.make()
        cache.clear()
        assert list(cache.entries()) == []
        assert tree(outside) == before
        assert not path.with_name(".new-abcd1234.bytecode").is_symlink()

    def test_a_file_that_has_a_second_name_elsewhere_keeps_its_content_there(
        self, target, path, outside
    ):
        path.unlink()
        path.hardlink_to(outside / "file")
        is_replaced(target, path)
        assert (outside / "file").read_bytes() == VICTIM

    @pytest.mark.parametrize("suffix", [".bytecode", ""])
    def test_links_where_temporary_files_are_made_are_not_written_through(
        self, tmp_path, outside, suffix, monkeypatch
    ):
        """Whoever guesses the name of the next temporary file gains nothing."""
        make, raw = files(tmp_path / "cache")
        raw.directory.mkdir()
        names = iter(["guessed1", "guessed1", "unknown2", *(f"{n:08}" for n in range(99))])
        (raw.directory / f".new-guessed1{suffix}").symlink_to(outside / "file")
        monkeypatch.setattr("tempfile._get_candidate_names", lambda: names)
        cache = make()
        assert (
            environment(cache).get_template("page.html").render(name="<b>") == PAGES["page.html"]
        )
        assert cache.statistics.stores == 1
        assert (outside / "file").read_bytes() == VICTIM

    def test_a_directory_that_is_a_link_is_used_and_emptied_of_our_own_alone(
        self, tmp_path, outside
    ):
        (tmp_path / "link").symlink_to(outside)
        make, _ = files(tmp_path / "link")
        before = tree(outside)
        cache = make()
        environment(cache).get_template("page.html")
        assert len(tree(outside)) == len(before) + 1
        cache.clear()
        assert tree(outside) == before
        assert (tmp_path / "link").is_symlink()

    def test_a_directory_whose_link_leads_nowhere_is_an_error_of_the_store(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "nothing")
        make, _ = files(tmp_path / "link")
        cache = make()
        assert (
            environment(cache).get_template("page.html").render(name="<b>") == PAGES["page.html"]
        )
        assert cache.statistics.stores == 0
        assert cache.statistics.errors >= 1
        assert not (tmp_path / "nothing").exists()

    def test_a_link_set_while_the_process_runs_leads_no_write_away(self, target, path, outside):
        """The directory is swapped for a link between two visits."""
        directory = target.raw.directory
        directory.rename(directory.with_name("moved"))
        directory.symlink_to(outside)
        target.visit(target.name)
        assert (outside / "file").read_bytes() == VICTIM
        assert {name for name in os.listdir(outside) if not name.endswith(".bytecode")} == {"file"}


class TestModes:
    @pytest.mark.parametrize("mode", [0o000, 0o444, 0o666, 0o4777], ids=oct)
    def test_a_planted_files_mode_does_not_outlast_the_next_store(self, target, path, mode):
        path.write_bytes(path.read_bytes()[:-1])
        path.chmod(mode)
        is_replaced(target, path)

    @pytest.mark.parametrize("umask", [0o000, 0o777], ids=oct)
    def test_whatever_makes_the_files_only_their_owner_may_look(self, tmp_path, umask):
        before = os.umask(umask)
        try:
            cache = FileSystemBytecodeCache(tmp_path / "made" / "cache", key=SECRET)
            engine = cached_engine(jinja2.DictLoader(SOURCES), bytecode_cache=cache)
            assert warm(engine).ok
        finally:
            os.umask(before)
        modes = {name: mode for name, (mode, _) in tree(tmp_path / "made").items()}
        assert len(modes) >= 1 + len(SOURCES) + 1
        assert stat.S_IMODE(modes.pop("cache")) == 0o700
        assert {stat.S_IMODE(mode) for mode in modes.values()} == {0o600}

    def test_the_default_directory_is_the_users_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        cache = FileSystemBytecodeCache(key=SECRET)
        environment(cache).get_template("page.html")
        directory = Path(default_directory())
        assert directory.parent == tmp_path
        assert (directory.stat().st_uid, stat.S_IMODE(directory.stat().st_mode)) == (
            os.getuid(),
            0o700,
        )


FOREIGN = """
import json, os, stat, sys
from tests.attacks.targets import environment, PAGES
from django_jinja_bccache import FileSystemBytecodeCache

directory = sys.argv[1]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
seen = []
for _ in range(2):
    options = {"key": sys.argv[2], "read_only": "read only" in sys.argv}
    cache = FileSystemBytecodeCache(directory, "%s.bytecode", **options)
    page = environment(cache).get_template("page.html").render(name="<b>")
    counts = cache.statistics
    seen.append([page == PAGES["page.html"], counts.hits, counts.misses, counts.stores])
print(json.dumps({"seen": seen, "uid": os.geteuid()}))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
class TestForeignOwners:
    """What root has left in a directory that nobody, another user, is to use."""

    @pytest.fixture
    def shared(self, target, path) -> Iterator[Path]:
        """A directory that everybody may write to, at a place that everybody may enter."""
        with tempfile.TemporaryDirectory() as base:
            os.chmod(base, 0o755)
            directory = Path(base) / "cache"
            target.raw.directory.rename(directory)
            yield directory

    @pytest.mark.parametrize(
        ("directory_mode", "file_mode", "expected"),
        [
            (0o777, 0o600, [[True, 0, 1, 1], [True, 1, 0, 0]]),  # unreadable: replaced
            (0o777, 0o644, [[True, 1, 0, 0], [True, 1, 0, 0]]),  # authentic: used
            (0o1777, 0o600, [[True, 0, 1, 0], [True, 0, 1, 0]]),  # may not be replaced
            (0o555, 0o600, [[True, 0, 1, 0], [True, 0, 1, 0]]),
        ],
        ids=["unreadable", "readable", "sticky", "read-only"],
    )
    def test_a_page_is_right_whatever_they_may(
        self, shared, target, path, directory_mode, file_mode, expected
    ):
        for file in shared.iterdir():
            file.chmod(file_mode)
        shared.chmod(directory_mode)
        done = run_script(FOREIGN, shared, SECRET)
        assert done.result == {"seen": expected, "uid": 65534}

    @pytest.mark.parametrize("role", ["read only", "storing"])
    def test_a_directory_that_nobody_else_may_enter_is_an_outage_and_is_told_of(
        self, shared, target, path, role
    ):
        shared.chmod(0o700)
        done = run_script(FOREIGN, shared, SECRET, role)
        assert done.result["seen"] == [[True, 0, 1, 0], [True, 0, 1, 0]]
        # Each cache says so of the page's entry, and not of the directory for its statistics.
        outage = f"is unavailable ([Errno 13] Permission denied: '{shared}/"
        assert done.stderr.count(outage) == 2

    def test_anothers_file_that_is_not_authentic_is_replaced_by_an_own_one(
        self, shared, target, path
    ):
        file = shared / path.name
        file.write_bytes(file.read_bytes()[:-1])
        file.chmod(0o644)
        shared.chmod(0o777)
        done = run_script(FOREIGN, shared, SECRET)
        assert done.result["seen"] == [[True, 0, 1, 1], [True, 1, 0, 0]]
        assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (65534, 0o600)


STRANGE_NAMES = [
    "../../outside/file",
    "../" * 30 + "etc/passwd",
    "/etc/passwd",
    "//server/share",
    "a/../../b",
    "..",
    ".",
    "/",
    "",
    "C:\\windows\\system32",
    "..\\..\\x",
    "nul\0byte",
    "line\r\nset x 0 0 1\r\ny\r\n",
    "tab\tand space",
    "%s %(x)s {0} ${HOME} `id` $(id)",
    "*?[a-z]",
    "surrogate \ud800 alone",
    "surrogates \udcff\udc80",
    "\u202egnp.exe",
    "ümläut/😀.html",
    "~root/.ssh/id_rsa",
    "-rf",
    "pack.0",
    "a:b:c",
    "x" * 300,
    "d/" * 2_000 + "f",
    "long " * 50_000,
]


class TestNames:
    def make(self, kind: str, directory: Path):
        if kind == "alias":
            return DjangoBytecodeCache(key=SECRET, deadline=10)
        if kind == "sqlite":
            return SQLiteBytecodeCache(directory / "sqlite" / "file", key=SECRET, deadline=10)
        return FileSystemBytecodeCache(directory / "files", key=SECRET)

    @pytest.mark.untraceable
    def test_a_template_may_have_any_name_over_a_server(self, server, tmp_path, outside):
        self.is_served("alias", tmp_path, outside)

    @pytest.mark.untraceable
    @pytest.mark.parametrize("kind", ["files", "sqlite"])
    def test_a_template_may_have_any_name(self, kind, tmp_path, outside):
        self.is_served(kind, tmp_path, outside)
        assert set(os.listdir(tmp_path)) == {"outside", kind}
        assert not [path for path in (tmp_path / kind).rglob("*") if path.is_dir()]

    def is_served(self, kind: str, directory: Path, outside: Path) -> None:
        sources = {
            name: f"<i>{{{{ name }}}}</i>{number}" for number, name in enumerate(STRANGE_NAMES)
        }
        pages = {name: f"<i>&lt;b&gt;</i>{number}" for number, name in enumerate(STRANGE_NAMES)}
        before = tree(outside)

        def visit():
            cache = self.make(kind, directory)
            made = environment(cache, sources)
            seen = {name: made.get_template(name).render(name="<b>") for name in STRANGE_NAMES}
            assert seen == pages
            counts = cache.statistics
            entries = {entry.template for entry in cache.entries()}
            close(cache)
            return counts, entries

        counts, _ = visit()
        assert (counts.misses, counts.stores, counts.errors) == (len(sources), len(sources), 0)
        counts, entries = visit()
        assert (counts.hits, counts.errors) == (len(sources), 0)
        assert entries == set(sources)

        cache = self.make(kind, directory)
        engine = cached_engine(jinja2.DictLoader(sources), bytecode_cache=cache, autoescape=True)
        report = warm(engine)
        assert (report.ok, report.compiled) == (True, [])
        close(cache)
        counts, _ = visit()
        assert (counts.hits, counts.errors, counts.rejected) == (len(sources), 0, 0)
        cache = self.make(kind, directory)
        cache.clear()
        assert list(cache.entries()) == []
        close(cache)
        assert tree(outside) == before

    @pytest.mark.parametrize("name", ["../outside/file", "../../x", "a/../../outside/file"])
    def test_a_name_that_leaves_the_templates_is_not_found_and_leaves_no_trace(
        self, tmp_path, outside, name
    ):
        (tmp_path / "templates").mkdir()
        cache = self.make("files", tmp_path)
        loader = jinja2.FileSystemLoader(tmp_path / "templates")
        made = jinja2.Environment(loader=loader, bytecode_cache=cache)
        with pytest.raises(jinja2.TemplateNotFound):
            made.get_template(name)
        assert not (tmp_path / "files").exists()
        assert cache.statistics.misses == 0


class TestOptions:
    @pytest.mark.parametrize("option", ["prefix", "release", "salt"])
    @pytest.mark.parametrize("text", ["../../outside/file", "/etc/passwd", "a\0b", "x\r\ny", "%s"])
    @pytest.mark.parametrize("kind", ["files", "sqlite"])
    def test_no_text_leads_out_of_the_directory(self, tmp_path, outside, option, text, kind):
        before = tree(outside)

        def make():
            options = {"key": SECRET, option: text}
            if kind == "files":
                return FileSystemBytecodeCache(tmp_path / "files", **options)
            return SQLiteBytecodeCache(tmp_path / "sqlite" / "file", **options)

        cache = make()
        engine = cached_engine(jinja2.DictLoader(SOURCES), bytecode_cache=cache, autoescape=True)
        assert warm(engine).ok
        close(cache)
        cache = make()
        assert (
            environment(cache).get_template("page.html").render(name="<b>") == PAGES["page.html"]
        )
        assert (cache.statistics.hits, cache.statistics.errors) == (1, 0)
        assert len(list(cache.entries())) == len(SOURCES)
        cache.clear()
        assert list(cache.entries()) == []
        close(cache)
        assert tree(outside) == before
        assert set(os.listdir(tmp_path)) == {"outside", kind}

    @pytest.mark.parametrize(
        "pattern",
        ["../%s", "../../outside/%s", "/tmp/%s", "a/%s", "%s/..", "%s\0", "%s%s", "%d", ""],
    )
    def test_a_pattern_that_leads_elsewhere_is_refused_at_once(self, tmp_path, pattern):
        with pytest.raises(ConfigurationError, match="it must be a file name with exactly one %s"):
            FileSystemBytecodeCache(tmp_path / "cache", pattern, key=SECRET)
        assert os.listdir(tmp_path) == []

    def test_a_sites_start_fails_with_the_engine_and_the_pattern_in_the_message(self, file_site):
        directory = file_site.directory / "bytecode"
        file_site.settings["TEMPLATES"] = [
            file_site.engine(
                bytecode_cache={
                    "class": "django_jinja_bccache.FileSystemBytecodeCache",
                    "directory": str(directory),
                    "pattern": "../%s",
                }
            )
        ]
        done = file_site.manage("check")
        assert done.returncode != 0
        assert "engine 'jinja2'" in done.stderr
        assert "pattern '../%s'" in done.stderr
        assert not directory.exists()

    @pytest.mark.parametrize("pattern", ["x" * 250 + "%s", "..%s", ".%s", "-%s", "%s ", "ü%s"])
    def test_any_other_pattern_breaks_no_page(self, tmp_path, pattern):
        for _ in range(2):
            cache = FileSystemBytecodeCache(tmp_path / "cache", pattern, key=SECRET)
            made = environment(cache)
            assert made.get_template("page.html").render(name="<b>") == PAGES["page.html"]
        assert cache.statistics.hits + cache.statistics.errors >= 1
        assert os.listdir(tmp_path) == ["cache"]
