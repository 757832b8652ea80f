"""The page when something is wrong, and what it is made of."""

from pathlib import Path

import httpx
import numpy as np
from playwright.sync_api import Page, Route, expect

from retriever.documents import Document
from retriever.root import Root
from service.settings import Settings
from tests.service.conftest import needs_chromium, png, serving
from tests.service.searching import address, hits, search

SEARCH = "**/v1/collections/*/search"


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
    expect(hits(page).first).to_be_visible()


@needs_chromium
def test_a_service_that_is_too_busy_is_asked_again(notes: httpx.Client, page: Page):
    answers = iter([503, 429])

    def refuse_twice(route: Route) -> None:
        status = next(answers, None)
        if status is None:
            route.continue_()
        else:
            route.fulfill(status=status, headers={"Retry-After": "0"})

    page.route(SEARCH, refuse_twice)
    page.goto(address(notes, "?q=flour"))
    expect(hits(page).first.locator("mark").first).to_have_text("flour")
    assert next(answers, None) is None


@needs_chromium
def test_a_service_that_cannot_be_reached_is_tried_again_on_request(notes: httpx.Client, page: Page):
    page.goto(address(notes))
    page.route(SEARCH, lambda route: route.abort())
    search(page, "flour")
    expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    page.unroute(SEARCH)
    page.get_by_role("button", name="Try again").click()
    expect(hits(page).first).to_be_visible()
    expect(page.get_by_role("alert")).to_be_empty()


@needs_chromium
def test_a_root_without_collections_says_how_to_make_one(tmp_path: Path, page: Page):
    with serving(Settings(root=tmp_path)) as client:
        page.goto(address(client))
        expect(page.get_by_role("alert")).to_contain_text("polyseek index build")


@needs_chromium
def test_text_that_looks_like_html_stays_text(client: httpx.Client, root: Root, page: Page):
    text = "<img src=x onerror=alert(1)> <b>bold</b> &amp; shared"
    with root.open("axes") as axes:
        axes.upsert([Document(id="<i>id</i>", title="<u>title</u>", text=text, language="en", vector=np.ones(4))])
    page.goto(address(client, "?q=bold"))
    hit = hits(page).first
    expect(hit.locator("h2")).to_have_text("<u>title</u>")
    expect(hit.locator(".text")).to_have_text(text)


@needs_chromium
def test_a_key_is_asked_for_and_thumbnails_are_fetched_with_it(root: Root, page: Page):
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
    expect(hits(page).first).to_be_visible()
    assert address(notes, "/page/main.js") in asked
    assert all(url.startswith((address(notes), "blob:")) for url in asked)


def test_the_shell_has_a_strict_policy_and_right_types(notes: httpx.Client):
    page = notes.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert notes.get("/page/main.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert notes.get("/page/style.css").headers["content-type"] == "text/css; charset=utf-8"
    assert notes.get("/page/icon.svg").headers["content-type"] == "image/svg+xml"
    for path in ("/page/app.py", "/page/..%2Fapp.py", "/page/package.json"):
        assert notes.get(path).json()["code"] == "unknown_route"
