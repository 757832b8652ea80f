"""The operator's view in a real browser, over real services with real traffic."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from retriever.root import Root
from service import readiness
from service.settings import Settings
from tests.service.conftest import needs_chromium, ready, serving, watched
from tests.service.searching import address

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_views_pure_functions_do_what_their_own_tests_say():
    command = ["node", "--test", str(Path(__file__).with_name("status.test.mjs"))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@contextmanager
def opened(page: Page, client: httpx.Client) -> Iterator[Page]:
    """The view, with its own clock: it looks again only when the test says so."""
    page.clock.install()
    page.goto(address(client, "status"))
    yield page


def look_again(page: Page) -> None:
    with page.expect_response("**/metrics"):
        page.clock.fast_forward(3_000)


def plot(page: Page, name: str) -> Locator:
    return page.locator("figure").filter(has=page.get_by_role("heading", name=name, exact=True))


def search(client: httpx.Client, text: str) -> None:
    assert client.post("/v1/collections/notes/search", json={"text": text}).status_code == 200


@pytest.fixture
def notes_ready(notes: httpx.Client) -> httpx.Client:
    ready(notes)
    return notes


@pytest.fixture
def down_and_degraded(root: Root, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A service over `axes`, and over `broken`, which can't be read."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)
    root.create("broken", encoder=None).close()
    for file in (root.path / "broken").glob("collection.sqlite*"):
        file.write_bytes(b"not a database " * 1000)
    with serving(Settings(root=root.path)) as client:
        ready(client)
        yield client
