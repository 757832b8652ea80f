"""Pictures on the page: searched by, and found. Under a two-tower model made here."""

import base64
from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FilePayload, Page, expect

from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.root import Root
from service.settings import Settings
from tests.models import two_tower_model
from tests.service.conftest import needs_chromium, png, serving
from tests.service.searching import hits

pytestmark = needs_chromium

CARDS = {"red": ("rote Karte", "赤い札"), "blue": ("blaue Karte", "青い札"), "green": ("grüne Karte", "緑の札")}


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service over `cards`, pictures with captions, and `words`, which has no encoder."""
    folder = tmp_path_factory.mktemp("cards")
    root = Root(folder / "data")
    with root.create("cards", encoder=Encoder.load(str(two_tower_model(folder / "towers")))) as collection:
        collection.upsert(
            [
                Document(
                    id=f"card/{color}",
                    picture=png(color),
                    modality="image",
                    captions={"en": [f"{color} card"], "de": [german], "ja": [japanese]},
                )
                for color, (german, japanese) in CARDS.items()
            ]
        )
    with root.create("words", encoder=None) as collection:
        collection.upsert([Document(id="a", text="a red word", language="en")])
    with serving(Settings(root=root.path)) as client:
        yield client


@pytest.fixture
def ready(cards: httpx.Client, page: Page) -> Page:
    """The page, ready to search `cards`."""
    page.goto(str(cards.base_url))
    expect(page.locator("#start button").first).to_be_visible()
    return page


def blue() -> FilePayload:
    return FilePayload(name="blue.png", mimeType="image/png", buffer=png("blue"))


def give(page: Page, event: str, name: str) -> None:
    """Drop or paste a picture, as a browser tells a page of it."""
    page.evaluate(
        """([event, name, content]) => {
          const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], name, { type: "image/png" }));
          const made = event === "paste"
            ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
            : new DragEvent(event, { dataTransfer: data, bubbles: true, cancelable: true });
          document.querySelector("main").dispatchEvent(made);
        }""",
        [event, name, base64.b64encode(png("blue")).decode()],
    )


def test_pictures_are_a_grid_with_captions_in_the_language_of_the_query(ready: Page):
    ready.get_by_label("Query language").select_option("German")
    ready.get_by_label("Search for").fill("rote Karte")
    expect(hits(ready)).to_have_count(3)
    assert ready.locator("#hits").evaluate("list => getComputedStyle(list).display") == "grid"
    expect(hits(ready).locator("h2[lang=de]")).to_have_count(3)
    assert {title.inner_text() for title in hits(ready).locator("h2").all()} == {german for german, _ in CARDS.values()}
    expect(hits(ready).first.locator("h2 mark").first).to_have_text("rote")
    picture = ready.get_by_role("img", name="rote Karte")
    expect(picture).to_be_visible()
    assert picture.evaluate("async image => (await image.decode(), image.naturalWidth)") == 384


def test_a_query_without_a_chosen_language_shows_captions_of_the_language_that_was_found(ready: Page):
    ready.locator("select[name=mode]").select_option("Words")
    ready.get_by_label("Search for").fill("赤い札")
    expect(hits(ready).first.locator("h2")).to_have_text("赤い札")


def test_a_chosen_picture_is_searched_by_and_can_be_taken_away(ready: Page):
    with ready.expect_file_chooser() as chooser:
        ready.get_by_role("button", name="Search by a picture").click()
    chooser.value.set_files(blue())
    expect(hits(ready)).to_have_count(3)
    expect(ready.locator("#chips")).to_contain_text("blue.png")
    ready.get_by_role("button", name="Remove the picture").click()
    expect(hits(ready)).to_have_count(0)
    expect(ready.locator("#start")).to_be_visible()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_searched_by(ready: Page, event: str):
    give(ready, event, "given.png")
    expect(ready.locator("#chips")).to_contain_text("given.png")
    expect(hits(ready)).to_have_count(3)


def test_a_picture_goes_with_a_text_and_comes_back_with_the_back_button(ready: Page):
    with ready.expect_response("**/search") as alone:
        ready.locator("#file").set_input_files(blue())
    expect(hits(ready)).to_have_count(3)
    with ready.expect_response("**/search") as both:
        ready.get_by_label("Search for").fill("card")
    assert [each.value.json()["mode"] for each in (alone, both)] == ["dense", "hybrid"]
    assert both.value.request.headers["content-type"].startswith("multipart/form-data")
    expect(hits(ready).first.locator("mark").first).to_have_text("card")
    ready.get_by_role("button", name="Remove the picture").click()
    expect(ready.locator("#chips")).to_be_empty()
    ready.go_back()
    expect(ready.locator("#chips")).to_contain_text("blue.png")
    ready.reload()
    expect(ready.get_by_role("alert")).to_contain_text("picture of this search is gone")


def test_a_file_that_is_no_picture_is_an_error_with_what_to_do(ready: Page):
    ready.locator("#file").set_input_files(FilePayload(name="broken.png", mimeType="image/png", buffer=b"no picture"))
    expect(ready.get_by_role("alert").locator(".hint")).to_contain_text("PNG")


def test_a_collection_that_takes_no_pictures_says_why(ready: Page):
    ready.get_by_label("Collection").select_option("words")
    choose = ready.get_by_role("button", name="Search by a picture")
    expect(choose).to_be_disabled()
    expect(choose).to_have_accessible_description("This collection has no encoder: it can't be searched by a picture.")
    give(ready, "drop", "given.png")
    expect(ready.get_by_role("alert")).to_contain_text("can't be searched by a picture")


def test_a_picture_has_its_why_and_its_likes(ready: Page):
    ready.locator("#file").set_input_files(blue())
    hit = hits(ready).first
    hit.get_by_role("button", name="Why this hit").click()
    expect(hit.locator(".why tbody th")).to_have_text(["Meaning of text", "Meaning of pictures", "Score"])
    hit.get_by_role("button", name="More like this").click()
    expect(hits(ready)).to_have_count(2)
    expect(ready.locator("#chips li")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_in_a_grid_of_pictures(ready: Page, scheme: str):
    ready.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    ready.locator("#file").set_input_files(blue())
    hits(ready).first.get_by_role("button", name="Why this hit").click()
    expect(ready.locator(".why table")).to_be_visible()
    found = Axe().run(ready)
    assert found.violations_count == 0, found.generate_report()
