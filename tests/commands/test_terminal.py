"""The commands before a person's eyes: on a terminal, interrupted, without colours."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from django_jinja_bccache.management.base import size
from tests.scripts import ROOT

COMMANDS = {
    "warm_bytecode": [],
    "inspect_bytecode": [],
    "clear_bytecode": ["--noinput"],
}


def on_a_terminal(site, *arguments: str) -> str:
    """What a terminal of 80 columns is sent."""
    site.manage("check")  # writes the settings
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "django", *arguments],
        env={
            **os.environ,
            **site.environment,
            "DJANGO_SETTINGS_MODULE": site.settings_module,
            "COLUMNS": "80",
            "TERM": "xterm",
        },
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with process:
        while select.select([ours], [], [], 30)[0]:
            try:
                data = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            shown += data
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


class TestProgress:
    @pytest.fixture
    def large(self, file_site):
        for number in range(60):
            file_site.write(f"templates/{number}.html", "{{ name }}" * 200)
        return file_site

    def test_a_terminal_sees_a_bar_that_is_gone_in_the_end(self, large):
        shown = on_a_terminal(large, "warm_bytecode", "--no-color")
        assert re.search(r"jinja2: +\d+%\|.*/64 ", shown)
        last = shown.replace("\r\n", "\n").split("\r")[-1]
        assert last.startswith("jinja2: 64 templates, 0 stored already, 64 compiled")

    @pytest.mark.parametrize("arguments", [["-v", "0"], ["--format", "json"]])
    def test_neither_silence_nor_json_has_one(self, large, arguments):
        assert "%|" not in on_a_terminal(large, "warm_bytecode", *arguments)

    def test_without_tqdm_there_is_none_and_all_else_is_the_same(self, large):
        large.imports = "import sys\nsys.modules['tqdm'] = None\n"
        shown = on_a_terminal(large, "warm_bytecode", "--no-color")
        assert "%|" not in shown
        assert shown.startswith("jinja2: 64 templates, 0 stored already, 64 compiled")

    def test_a_pipe_sees_none(self, large):
        assert large.manage("warm_bytecode").stderr == ""


class TestColour:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_there_is_none_if_nobody_wants_it(self, file_site, command):
        shown = on_a_terminal(file_site, command, *COMMANDS[command], "--no-color")
        assert "\x1b[3" not in shown


class TestVerbosity:
    @pytest.mark.parametrize("command", ["warm_bytecode", "clear_bytecode"])
    def test_0_is_silent(self, file_site, command):
        done = file_site.manage(command, *COMMANDS[command], "-v", "0")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("verbosity", "123")
    def test_no_line_is_longer_than_a_terminal_is_wide(self, file_site, command, verbosity):
        file_site.write("templates/broken.html", "{% if %}")
        done = file_site.manage(command, *COMMANDS[command], "-v", verbosity)
        assert all(len(line) <= 80 for line in (done.stdout + done.stderr).splitlines())


@pytest.mark.parametrize(
    ("count", "expected"),
    [(999, "999 B"), (1_000, "1.0 KB"), (3_140_000, "3.1 MB"), (64_000_000_000, "64.0 GB")],
)
def test_sizes_are_in_the_unit_that_fits(count, expected):
    assert size(count) == expected


class TestOutput:
    def test_none_is_no_error(self, file_site):
        file_site.manage("warm_bytecode")
        shell = f"{sys.executable} -m django warm_bytecode -v 0 >&-; echo $? >&2"
        run = f"import subprocess; subprocess.run({shell!r}, shell=True, check=True)"
        assert file_site.python("-c", run).stderr == "0\n"

    def test_a_name_that_is_no_text_is_escaped(self, file_site):
        path = os.path.join(os.fsencode(file_site.directory), b"templates", b"\xff.html")
        with open(path, "w") as file:
            file.write("odd")
        done = file_site.manage("warm_bytecode", "-v", "2")
        assert (done.returncode, done.stderr) == (0, "")
        assert "compiled        \\udcff.html" in done.stdout
        done = file_site.manage("inspect_bytecode", "-v", "3")
        assert (done.returncode, "\\udcff.html" in done.stdout) == (0, True)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_reader_that_has_gone_is_no_error_to_be_told_of(self, file_site, command):
        script = "import sys\nfrom django.core.management import execute_from_command_line\n"
        file_site.write("manage.py", script + "execute_from_command_line(sys.argv)\n")
        manage = f"{sys.executable} {file_site.directory}/manage.py"
        arguments = " ".join([command, *COMMANDS[command]])
        shell = f"({manage} {arguments}; echo $? >&2) | true"
        run = f"import subprocess; subprocess.run({shell!r}, shell=True, check=True)"
        assert file_site.python("-c", run).stderr == "1\n"


class TestInterrupt:
    @pytest.mark.parametrize("jobs", ["1", "2"])
    def test_it_is_one_line_and_leaves_nothing_half_done(self, file_site, jobs, tmp_path):
        file_site.write(
            "slow.py",
            "import pathlib, time\n"
            "from jinja2.ext import Extension\n"
            "class Slow(Extension):\n"
            "    def preprocess(self, source, name, filename=None):\n"
            f"        pathlib.Path({str(tmp_path)!r}, 'begun').touch()\n"
            "        time.sleep(0.02)\n"
            "        return source\n",
        )
        file_site.settings["TEMPLATES"] = [file_site.engine(extensions=["slow.Slow"])]
        for number in range(300):
            file_site.write(f"templates/{number}.html", "{{ name }}")
        file_site.manage("check")
        process = subprocess.Popen(
            [sys.executable, "-m", "django", "warm_bytecode", "--jobs", jobs],
            env={
                **os.environ,
                **file_site.environment,
                "DJANGO_SETTINGS_MODULE": file_site.settings_module,
            },
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Whoever runs the tests in the background may have it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        end = time.monotonic() + 30
        while not (tmp_path / "begun").exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
        assert stdout == ""
        assert stderr == "Interrupted. Nothing is half done: run it again to go on.\n"
        assert "published     nothing" in file_site.manage("inspect_bytecode").stdout
