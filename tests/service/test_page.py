"""The page in a real browser, over a real service."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from retriever.documents import Document
from retriever.root import Root
from service.settings import Settings
from tests.service.conftest import png, serving

CHROMIUM = "/usr/bin/chromium"

needs_chromium = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is not installed")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_pages_pure_functions_do_what_their_own_tests_say():
    command = ["node", "--test", str(Path(__file__).with_name("page.test.mjs"))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test for anything it complains of on the console."""
    complaints: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        yield page
    # The browser itself notes every answer that is an error; those are shown on the page.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def address(client: httpx.Client, path: str = "") -> str:
    return str(client.base_url.join(path))


def search(page: Page, text: str) -> None:
    page.get_by_label("Search for").fill(text)
    page.get_by_role("button", name="Search").click()


@needs_chromium
def test_a_search_shows_hits_with_marks_language_and_scores(notes: httpx.Client, page: Page):
    page.goto(address(notes))
    search(page, "flour and water")
    hit = page.locator("#hits > li").first
    expect(hit.locator("mark").first).to_have_text("flour")
    expect(hit.locator(".text")).to_have_text("Bread needs flour, water, salt and a little patience.")
    expect(hit.locator(".text")).to_have_attribute("lang", "en")
    expect(hit.locator(".text")).to_have_attribute("dir", "auto")
    expect(hit.locator(".about")).to_contain_text("lexical")
    expect(page.locator("#count")).to_contain_text("hits in")


@needs_chromium
def test_code_shows_its_place_and_is_left_to_right(notes: httpx.Client, page: Page):
    page.goto(address(notes, "?q=count+words&mode=lexical"))
    hit = page.locator("#hits > li").first
    expect(hit.locator(".about")).to_contain_text("lib/words.py:7")
    expect(hit.locator("pre")).to_have_attribute("dir", "ltr")
    expect(hit.locator("pre")).to_contain_text("return len(text.split())")


@needs_chromium
def test_a_document_of_captions_shows_those_of_the_language_that_was_found(notes: httpx.Client, page: Page):
    page.goto(address(notes, "?q=Kätzchen"))
    hit = page.locator("#hits > li").first
    expect(hit.locator("mark")).to_have_text("Kätzchen")
    expect(hit.locator(".captions li")).to_have_text(["schlafende Katze"])


@needs_chromium
def test_the_back_button_brings_back_the_search_before(notes: httpx.Client, page: Page):
    page.goto(address(notes))
    search(page, "tea")
    expect(page.locator("mark").first).to_have_text("Tea" if page.locator("h2 mark").count() else "tea")
    search(page, "flour")
    expect(page.locator("mark").first).to_have_text("flour")
    page.go_back()
    expect(page.get_by_label("Search for")).to_have_value("tea")
    expect(page.locator("mark").first).to_have_text("tea")
    page.go_back()
    expect(page.get_by_label("Search for")).to_have_value("")
    expect(page.locator("#hits > li")).to_have_count(0)


@needs_chromium
def test_only_the_newest_answer_is_shown(notes: httpx.Client, page: Page):
    page.goto(address(notes))
    page.get_by_label("Mode").select_option("lexical")
    for text in ("tea", "Mond", "flour", "tea", "flour"):
        search(page, text)
    expect(page.locator("#hits > li")).to_have_count(1)
    expect(page.locator("#hits mark")).to_have_text("flour")


@needs_chromium
def test_an_error_is_announced_with_what_to_do(notes: httpx.Client, page: Page):
    page.goto(address(notes, "?collection=nobody&q=tea"))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("nobody")
    expect(alert.locator(".hint")).to_contain_text("notes")
    search(page, "tea again")
    expect(alert).to_contain_text("nobody")
    page.get_by_label("Collection").select_option("notes")
    search(page, "tea")
    expect(alert).to_be_empty()
    expect(page.locator("#hits > li").first).to_be_visible()


@needs_chromium
def test_text_that_looks_like_html_stays_text(client: httpx.Client, root: Root, page: Page):
    text = "<img src=x onerror=alert(1)> <b>bold</b> &amp; shared"
    with root.open("axes") as axes:
        axes.upsert([Document(id="<i>id</i>", title="<u>title</u>", text=text, language="en", vector=np.ones(4))])
    page.goto(address(client, "?q=bold"))
    hit = page.locator("#hits > li").first
    expect(hit.locator("h2")).to_have_text("<u>title</u>")
    expect(hit.locator(".text")).to_have_text(text)


@needs_chromium
def test_pictures_are_shown_as_thumbnails_and_a_key_is_asked_for(root: Root, page: Page):
    file = root.path.parent / "red.png"
    file.write_bytes(png())
    card = Document(id="p/1", text="red card", language="en", image="red.png", image_file=file, vector=np.ones(4))
    with root.open("axes") as axes:
        axes.upsert([card])
    with serving(Settings(root=root.path, api_key="s3cret")) as client:
        page.goto(address(client))
        expect(page.get_by_role("alert")).to_contain_text("key")
        page.get_by_label("Key of this service").fill("s3cret")
        page.get_by_role("button", name="Use it").click()
        search(page, "red")
        picture = page.locator("#hits img")
        expect(picture).to_be_visible()
        assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [192, 96]
        page.reload()
        expect(page.locator("#hits img")).to_be_visible()


@needs_chromium
def test_the_page_loads_nothing_from_elsewhere(notes: httpx.Client, page: Page):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address(notes, "?q=tea"))
    expect(page.locator("#hits > li").first).to_be_visible()
    assert address(notes, "/page/main.js") in asked
    assert all(url.startswith((address(notes), "blob:")) for url in asked)


def test_the_shell_has_a_strict_policy_and_right_types(notes: httpx.Client):
    page = notes.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert notes.get("/page/main.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert notes.get("/page/style.css").headers["content-type"] == "text/css; charset=utf-8"
    assert notes.get("/page/icon.svg").headers["content-type"] == "image/svg+xml"
    for path in ("/page/app.py", "/page/..%2Fapp.py", "/page/package.json"):
        assert notes.get(path).json()["code"] == "unknown_route"
