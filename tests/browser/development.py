"""The test project in a developer's server, and a browser that looks at it."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

from tests.scripts import ROOT
from tests.servers.server import Server, find_program

SETTINGS = "tests.browser.settings"
PANEL = "BytecodeCachePanel"


def environment_for(bytecode_cache: str, templates: Path) -> dict[str, str]:
    """What a process needs of its environment to be of the same site."""
    return {
        "BYTECODE_CACHE": bytecode_cache,
        "DEBUG": "1",
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "PYTHONPATH": str(ROOT),
        "TEMPLATE_DIRECTORY": str(templates),
    }


class DevelopmentServer(Server):
    """The test project with the toolbar, in one process, on a free loopback port.

    Args:
        environment: Variables of its environment; the tests' own are handed on as well.
        asynchronous: Whether to serve ASGI.
    """

    def __init__(self, environment: dict[str, str], *, asynchronous: bool = False) -> None:
        super().__init__()
        self.environment = environment
        self.asynchronous = asynchronous

    def command(self) -> list[str]:
        unset = ("DJANGO_JINJA_BCCACHE", "SECRET_KEY", "PYTEST_VERSION")
        command = [find_program("env"), *(word for name in unset for word in ("-u", name))]
        command += [f"{name}={value}" for name, value in self.environment.items()]
        command += [sys.executable, "-m"]
        if not self.asynchronous:
            return [*command, "django", "runserver", "--noreload", "--skip-checks", self.address]
        options = ["--port", str(self.port), "--lifespan", "off", "--log-level", "warning"]
        return [*command, "uvicorn", *options, "tests.browser.asgi:application"]

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1):
                return True
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class Developer:
    """Somebody with a browser.

    Attributes:
        page: The browser's only page.
        complaints: What its console has said of errors.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )

    def visit(self, url: str) -> dict[str, str]:
        """Open a page; return the headers of its response."""
        response = self.page.goto(url)
        assert response is not None
        assert response.ok, response.text()
        return response.headers

    @property
    def subtitle(self) -> str:
        """What the side bar says below the panel's title."""
        return self.page.locator(f"#djdt-{PANEL} small").inner_text()

    def panel(self) -> Locator:
        """Click the panel open; return its content."""
        self.page.locator(f"#djdt-{PANEL} a.{PANEL}").click()
        content = self.page.locator(f"#{PANEL} .djdt-scroll")
        content.locator("h4").first.wait_for()
        return content

    def rows(self, heading: str) -> list[dict[str, str]]:
        """The rows of the table below a heading of the open panel, by their columns' titles."""
        title = self.page.locator(f"#{PANEL} h4", has_text=heading).first
        table = title.locator("xpath=following-sibling::table[1]")
        titles = [text.strip().capitalize() for text in table.locator("th").all_inner_texts()]
        lines = table.locator("tbody tr").all()
        cells = [line.locator("td").all_inner_texts() for line in lines]
        return [dict(zip(titles or ["", " "], line, strict=True)) for line in cells]

    def facts(self, heading: str) -> dict[str, str]:
        """A table of two columns without titles."""
        return {row[""]: row[" "] for row in self.rows(heading)}


@contextmanager
def developer() -> Iterator[Developer]:
    """Start a browser, and end it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_program("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        try:
            context = browser.new_context(
                viewport={"width": 1000, "height": 760}, color_scheme="light", locale="en"
            )
            context.set_default_timeout(10_000)
            yield Developer(context.new_page())
        finally:
            browser.close()


def take_screenshot(page: Page, name: str) -> None:
    """Write a picture into the directory that SCREENSHOTS names: docs/images, for a new one."""
    directory = os.environ.get("SCREENSHOTS")
    if directory:
        page.screenshot(path=Path(directory) / f"{name}.png")
