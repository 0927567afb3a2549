"""Who builds and who serves: another user at another place, a web role that writes nothing."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lifecycle.checkouts import (
    PAGES,
    SOURCES,
    Checkout,
    alternate,
    assert_all_show,
    counted,
    pages_of,
)
from tests.lifecycle.elsewhere import Elsewhere, another_user

FILES = "django_jinja_bccache.FileSystemBytecodeCache"


class TestImages:
    """What one user builds at one place, another one serves at another place."""

    @pytest.fixture
    def places(self) -> Iterator[tuple[Path, Path]]:
        """Two directories that every user can look into."""
        with tempfile.TemporaryDirectory(prefix="bccache-test-") as directory:
            places = Path(directory, "build host", "app"), Path(directory, "srv", "shop", "app")
            os.chmod(directory, 0o755)
            yield places

    @pytest.fixture
    def image(self, places) -> tuple[Elsewhere, Elsewhere]:
        """Two checkouts whose bytecode lies among their own files; the first one is warm."""
        build, run = (
            Elsewhere(
                place,
                "127.0.0.1:1",
                "first",
                "1",
                interpreter=another_user()["interpreter"],
                user=user,
                directory=str(place / "bytecode"),
                read_only=read_only,
                **{"class": FILES},
            )
            for place, user, read_only in zip(
                places, ("", another_user()["user"]), (False, True), strict=True
            )
        )
        build.warm()
        shutil.copytree(places[0] / "bytecode", places[1] / "bytecode")
        shutil.rmtree(places[0])
        return build, run

    def test_what_was_copied_with_the_right_owner_is_served(self, image, places):
        _, run = image
        if run.user:
            for path in (places[1] / "bytecode", *(places[1] / "bytecode").rglob("*")):
                shutil.chown(path, run.user)
        names = {path.name for path in (places[1] / "bytecode").rglob("*")}
        visit = run.visit(*PAGES)
        assert (visit.compiled, visit.misses, visit.stores, visit.log) == ([], 0, 0, "")
        assert visit.pages == pages_of("first")
        assert {path.name for path in (places[1] / "bytecode").rglob("*")} == names

    def test_what_the_user_may_not_read_costs_compiles_and_no_page(self, image, places):
        _, run = image
        if run.user or os.geteuid():
            (places[1] / "bytecode").chmod(0)
        else:  # root may read everything, so it cannot be read at all
            shutil.rmtree(places[1] / "bytecode")
            (places[1] / "bytecode").write_text("no directory")
        visit = run.visit(*PAGES)
        assert sorted(set(visit.compiled)) == sorted(SOURCES)
        assert visit.pages == pages_of("first")
        assert "bytecode" in visit.log

    def test_a_shared_store_is_filled_by_one_and_serves_the_other(self, memcached, places):
        build, run = (
            Elsewhere(
                place,
                memcached.address,
                "first",
                "1",
                interpreter=another_user()["interpreter"],
                user=user,
            )
            for place, user in zip(places, ("", another_user()["user"]), strict=True)
        )
        build.warm()
        shutil.rmtree(places[0])
        visit = run.visit(*PAGES)
        assert (visit.compiled, visit.misses, visit.log) == ([], 0, "")
        assert visit.pages == pages_of("first")


def test_a_web_role_that_is_read_only_writes_nothing_whatever_happens(memcached, tmp_path):
    def writes() -> int:
        stats = memcached.stats()
        return sum(int(stats[name]) for name in ("cmd_set", "cmd_touch", "delete_hits"))

    deploy = Checkout(tmp_path / "deploy", memcached.address, "first", "1")
    web = Checkout(tmp_path / "web", memcached.address, "first", "1", read_only=True, cooldown=0.2)
    web.python("-c", "")
    with web.server() as server:
        before = writes()
        cold = [server.page(name) for name in PAGES]
        assert_all_show(cold, "first")
        assert counted(cold, "compiled") > 0
        assert (writes(), memcached.keys()) == (before, [])

        # The other role fills the store; the processes that are running find it.
        deploy.warm()
        before = writes()
        alternate([server, server], 24)
        compiled = counted([server.page(PAGES[0])], "compiled")
        warm = [answer for one in alternate([server, server], 24) for answer in one]
        assert counted(warm, "compiled") == compiled
        assert writes() == before

        assert deploy.manage("clear_bytecode", "--noinput").returncode == 0
        before = writes()
        for answers in alternate([server, server], 48):
            assert_all_show(answers, "first")
        assert counted([server.page(PAGES[0])], "compiled") > compiled
        assert (writes(), memcached.keys()) == (before, [])


def test_a_template_that_is_edited_in_place_shows_at_once_with_debug_on(memcached, tmp_path):
    checkout = Checkout(tmp_path / "site", memcached.address, "first", "1")
    checkout.settings["DEBUG"] = True
    checkout.settings["TEMPLATES"] = [checkout.engine()]  # its processes keep templates
    checkout.warm()
    with checkout.server() as server:

        def shows(text: str) -> int:
            answers = [server.page(name) for name in PAGES]
            assert_all_show(answers, text)
            return counted(answers, "compiled")

        assert shows("first") == 0
        checkout.show("second")
        assert shows("second") == shows("second") == len(SOURCES)
        checkout.show("first")
        assert shows("first") == len(SOURCES)  # which is there still

        checkout.write("templates/part.html", "{% if %}")
        broken = server.page("home.html")
        assert broken.status == 500
        assert b"TemplateSyntaxError" in broken.body
        checkout.show("third")
        assert shows("third") == broken.counts["compiled"] + len(SOURCES)
    visit = checkout.visit(*PAGES)
    assert (visit.compiled, visit.pages) == ([], pages_of("third"))
