"""The collector in docs/monitoring.md, in a server of the test project that is scraped."""

import os
import re
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.servers.server import Server, find_program, free_port

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/monitoring.md").read_text()
COUNTED = ("hits", "misses", "stores", "errors", "rejected", "oversize")


def block(path: str) -> str:
    """The block of code that begins with a comment naming its file."""
    return next(
        code
        for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        if code.startswith(f"# {path}\n")
    )


class Site(Server):
    """The test project under gunicorn, with the two files of the page, in one process."""

    def __init__(self, cache: Path) -> None:
        super().__init__()
        self.cache = cache
        self.metrics_port = free_port()

    def command(self) -> list[str]:
        package = self.directory / "mysite"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        (package / "monitoring.py").write_text(block("mysite/monitoring.py"))
        (self.directory / "gunicorn.conf.py").write_text(block("gunicorn.conf.py"))
        environment = {
            "BYTECODE_CACHE": f"file://{self.cache}",
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "HOME": str(self.directory),
            "METRICS_PORT": str(self.metrics_port),
            "PYTHONPATH": f"{self.directory}{os.pathsep}{ROOT}",
        }
        unset = ("DEBUG", "DJANGO_JINJA_BCCACHE", "SECRET_KEY", "PROMETHEUS_MULTIPROC_DIR")
        command = [find_program("env"), *(word for name in unset for word in ("-u", name))]
        command += [f"{name}={value}" for name, value in environment.items()]
        command += [sys.executable, "-m", "gunicorn", "--bind", self.address]
        command += ["--config", str(self.directory / "gunicorn.conf.py")]
        return [*command, "--log-level", "warning", "testproject.wsgi"]

    def answers(self) -> bool:
        try:
            self.scrape()
        except OSError:
            return False
        return True

    def visit(self, path: str) -> None:
        with urlopen(f"http://{self.address}{path}", timeout=10) as response:
            assert response.status == 200

    def scrape(self) -> dict[str, float]:
        """What Prometheus would be told of the cache."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as response:
            text = response.read().decode()
        lines = (line.rpartition(" ") for line in text.splitlines())
        return {
            name: float(value) for name, _, value in lines if name.startswith("bytecode_cache_")
        }


@pytest.fixture
def cache(tmp_path) -> Path:
    """Where a site has stored the templates of a page."""
    with Site(tmp_path / "cache") as site:
        site.visit("/")
        assert site.scrape()[metric("misses")] > 0
    return tmp_path / "cache"


def metric(name: str) -> str:
    return f'bytecode_cache_{name}_total{{engine="jinja2"}}'


def test_the_collector_of_the_page_is_scraped_and_counts_the_hits_of_a_site(cache):
    with Site(cache) as site:
        nothing = dict.fromkeys(map(metric, COUNTED), 0.0)
        assert site.scrape() == nothing

        site.visit("/")
        after_one = site.scrape()
        assert after_one == {**nothing, metric("hits"): after_one[metric("hits")]}
        assert after_one[metric("hits")] > 0

        site.visit("/help/delivery/")
        later = site.scrape()
        assert later[metric("misses")] == later[metric("stores")] > 0
        site.visit("/help/delivery/")
        assert site.scrape() == later


def test_the_page_shows_what_a_scrape_tells():
    [shown] = re.findall(r"grep '\^bytecode_cache_'\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert [line.rpartition(" ")[0] for line in shown.splitlines()] == [*map(metric, COUNTED)]
