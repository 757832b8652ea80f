"""The operator's view in a real browser, over real services with real traffic."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

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


def open_view(page: Page, client: httpx.Client) -> None:
    """The view, with a clock of its own: it looks again only when the test says so."""
    page.clock.install()
    with page.expect_response("**/metrics"):
        page.goto(address(client, "status"))


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


def row(page: Page, collection: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=collection, exact=True))


@needs_chromium
def test_the_view_shows_collections_and_the_traffic_since_it_was_opened(notes_ready: httpx.Client, page: Page):
    open_view(page, notes_ready)
    expect(page.locator("#ready")).to_contain_text("Ready1 collection answers.")
    expect(row(page, "notes").get_by_role("cell").nth(0)).to_have_text("up")
    expect(row(page, "notes")).to_contain_text("flat")
    expect(plot(page, "Search").locator("strong").first).to_have_text("–")
    search(notes_ready, "water")
    search(notes_ready, "water")
    look_again(page)
    expect(plot(page, "Requests").locator("strong")).to_have_text(re.compile(r"^\d+\.\d+/s$"))
    expect(plot(page, "Search").locator("strong").first).to_have_text(re.compile(r"m?s$"))
    expect(plot(page, "Search").get_by_role("img")).to_have_attribute("aria-label", re.compile(r"^p50: now \d"))
    expect(plot(page, "Cache").locator("strong")).to_have_text(re.compile(r"^\d+ %$"))


@needs_chromium
def test_the_view_names_what_is_wrong(down_and_degraded: httpx.Client, page: Page):
    open_view(page, down_and_degraded)
    expect(page.locator("#ready strong")).to_have_text("Degraded")
    expect(page.locator("#ready li b")).to_have_text("broken")
    expect(row(page, "axes").get_by_role("cell").nth(0)).to_have_text("up")
    expect(row(page, "broken").get_by_role("cell").nth(0)).to_have_text("down")


@needs_chromium
def test_the_view_asks_for_the_key_and_keeps_it_for_the_session(root: Root, page: Page):
    with serving(Settings(root=root.path, api_key="a-long-secret")) as client:
        open_view(page, client)
        expect(page.get_by_role("alert")).to_contain_text("no key")
        page.get_by_label("Key of this service").fill("a-long-secret")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Key of this service")).to_be_hidden()
        expect(page.locator("figure").first).to_be_visible()
        page.reload()
        expect(page.locator("figure").first).to_be_visible()


@needs_chromium
def test_a_pause_by_keyboard_holds_the_view_still(notes_ready: httpx.Client, page: Page):
    open_view(page, notes_ready)
    expect(page.locator("figure").first).to_be_visible()
    pause = page.get_by_role("button", name="Pause")
    pause.press("Enter")
    expect(pause).to_have_attribute("aria-pressed", "true")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.fast_forward(30_000)
    assert asked == []
    with page.expect_response("**/metrics"):
        pause.press("Enter")


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_fits_a_phone_and_axe_finds_no_fault(notes_ready: httpx.Client, browser: Browser, scheme: str):
    with browser.new_context(**PHONE, color_scheme=scheme, bypass_csp=True) as context, watched(context) as page:
        open_view(page, notes_ready)
        search(notes_ready, "water")
        look_again(page)
        expect(page.locator("figure").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
        assert Axe().run(page).response["violations"] == []
