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

from retriever.files import locked
from retriever.root import Root
from service.settings import Settings
from tests.retriever.small import index_matters
from tests.retriever.test_taking_up import DAMAGE
from tests.service.conftest import needs_chromium, ready, serving, watched
from tests.service.many import made
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


def damage(root: Root, name: str) -> None:
    """A collection that can't be read."""
    root.create(name, encoder=None).close()
    for file in (root.path / name).glob("collection.sqlite*"):
        file.write_bytes(b"not a database " * 1000)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service over `broken`, which can't be read, and `many`, whose index is cut off and not made again."""
    path = tmp_path_factory.mktemp("troubled")
    with pytest.MonkeyPatch.context() as patch:
        index_matters(patch.setattr)
        root = made(path)
        file, harm, _ = DAMAGE["half of the FAISS file"]
        harm(file(path / "many"))
        damage(root, "broken")
        with locked(path / "many" / "indexer.lock", wait=True), serving(Settings(root=path)) as client:
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
def test_what_is_down_or_degraded_is_said_with_its_reason(troubled: httpx.Client, page: Page):
    open_view(page, troubled)
    expect(page.locator("#ready strong")).to_have_text("Degraded")
    expect(page.locator("#ready li").filter(has_text="many")).to_contain_text("the dense index")
    expect(page.locator("#ready li").filter(has_text="broken")).to_contain_text("damaged")
    expect(row(page, "many").get_by_role("cell").nth(0)).to_have_text("degraded")
    expect(row(page, "broken").get_by_role("cell")).to_have_text(["down", *["–"] * 7])


@needs_chromium
def test_a_service_of_which_nothing_answers_is_not_ready(tmp_path: Path, page: Page):
    damage(Root(tmp_path), "broken")
    with serving(Settings(root=tmp_path)) as client:
        ready(client)
        open_view(page, client)
        expect(page.locator("#ready strong")).to_have_text("Not ready")
        expect(page.locator("#ready")).to_contain_text("broken")


@needs_chromium
def test_a_service_that_cannot_be_reached_is_said_until_it_answers(notes_ready: httpx.Client, page: Page):
    open_view(page, notes_ready)
    expect(page.locator("#ready strong")).to_have_text("Ready")
    everything = re.compile("/(readyz|metrics)$")
    page.route(everything, lambda route: route.abort())
    page.clock.fast_forward(3_000)
    expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    expect(page.locator("#ready")).to_contain_text("What is below was measured before.")
    expect(row(page, "notes")).to_be_visible()
    page.unroute(everything)
    look_again(page)
    expect(page.get_by_role("alert")).to_be_empty()
    expect(page.locator("#ready strong")).to_have_text("Ready")


@needs_chromium
def test_what_has_not_changed_is_not_announced_again(notes_ready: httpx.Client, page: Page):
    open_view(page, notes_ready)
    expect(page.locator("#ready strong")).to_have_text("Ready")
    page.locator("#ready p").evaluate("element => { element.seenBefore = true }")
    expect(page.locator("figure").first).to_be_visible()
    look_again(page)
    expect(page.locator("figure .times").first).to_contain_text("ago")
    assert page.locator("#ready p").evaluate("element => element.seenBefore") is True


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
def test_the_first_link_skips_to_the_plots(notes_ready: httpx.Client, page: Page):
    open_view(page, notes_ready)
    expect(page.locator("figure").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the plots")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#plots")).to_be_focused()


@needs_chromium
def test_a_phone_has_no_need_to_scroll_sideways_and_enough_room_for_fingers(troubled: httpx.Client, browser: Browser):
    with browser.new_context(**PHONE) as context, watched(context) as page:
        open_view(page, troubled)
        expect(row(page, "many")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
        targets = page.locator("button:visible, h1 a, footer a").all()
        assert min(target.bounding_box()["height"] for target in targets) >= 44


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(troubled: httpx.Client, root: Root, browser: Browser, scheme: str):
    with browser.new_context(color_scheme=scheme, reduced_motion="reduce") as context, watched(context) as page:
        open_view(page, troubled)
        troubled.post("/v1/collections/many/search", json={"text": "shared"})
        look_again(page)
        expect(plot(page, "Search").locator("strong").first).to_contain_text("ms")
        check(page)
        page.set_viewport_size(PHONE["viewport"])
        check(page)
        with serving(Settings(root=root.path, api_key="s3cret")) as client:
            page.goto(address(client, "status"))
            expect(page.get_by_label("Key of this service")).to_be_visible()
            check(page)


def check(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
