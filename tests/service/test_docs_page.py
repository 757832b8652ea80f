"""The API's own page in a real browser, over a real service."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Request, expect, sync_playwright

from retriever.root import Root
from service.settings import Settings
from tests.service.conftest import serving

CHROMIUM = "/usr/bin/chromium"
KEY = "k" * 40

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is not installed")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with a key, over one empty collection."""
    root = Root(tmp_path_factory.mktemp("data"))
    root.create("empty", encoder=None).close()
    with serving(Settings(root=root.path, api_key=KEY)) as client:
        yield client


@pytest.fixture
def asked() -> list[str]:
    """What the page has asked for."""
    return []


@pytest.fixture
def page(guarded: httpx.Client, asked: list[str]) -> Iterator[Page]:
    """/docs; whatever it complains of on the console, such as a breach of its policy, fails its test."""
    complaints: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM) as browser:
        page = browser.new_page()
        page.on("request", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(str(guarded.base_url.join("/docs")))
        yield page
    assert complaints == []


def operation(page: Page, name: str):
    return page.locator(f"[id$='-{name}']")


def test_the_page_shows_every_tag_and_loads_nothing_from_elsewhere(page: Page, guarded: httpx.Client, asked: list[str]):
    expect(operation(page, "search_collection")).to_contain_text("/v1/collections/{name}/search")
    tags = [tag["name"] for tag in guarded.get("/openapi.json").json()["tags"]]
    assert page.locator("h3.opblock-tag").evaluate_all("all => all.map(each => each.dataset.tag)") == tags
    here = {url.removeprefix(str(guarded.base_url)) for url in asked if not url.startswith("data:")}
    assert here == {
        "/docs", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/page/docs.js", "/page/icon.svg",
        "/openapi.json",
    }  # fmt: skip


def test_an_operation_is_tried_out_with_the_key(page: Page):
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.get_by_role("textbox").fill(KEY)
    dialog.get_by_role("button", name=re.compile("apply", re.IGNORECASE)).click()
    dialog.get_by_role("button", name="Close", exact=True).click()
    block = operation(page, "list_collections")
    block.get_by_role("button").first.click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    expect(block.locator(".live-responses-table")).to_contain_text('"empty"')
