"""The page in a real browser, over a real service: searching, what is shown of a hit, and the address."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Page, Request, Route, expect

from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.root import Root
from service.settings import Settings
from tests.service.conftest import needs_chromium, serving
from tests.service.searching import address, hits, search, type_query

KITCHEN = [
    ("tea", "en", "Tea", "Green tea is brewed with water that does not boil.", 2021),
    ("shay", "ar", "الشاي الأخضر", "يُحضَّر الشاي الأخضر بماء لا يغلي.", 2022),
    ("cha", "ja", "緑茶", "緑茶は沸騰させないお湯で淹れます。", 2023),
    ("tee", "de", "Grüner Tee", "Grüner Tee wird mit Wasser aufgegossen, das nicht kocht.", 2018),
]
RECIPES = 21
LONG = "Before it all. " * 300 + "The saffron is ground here. " + "After it all. " * 300

SEARCH = "**/v1/collections/*/search"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_pages_pure_functions_do_what_their_own_tests_say():
    command = ["node", "--test", str(Path(__file__).with_name("page.test.mjs"))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service over `kitchen`: four languages, years, one long text, and 21 recipes."""
    path = tmp_path_factory.mktemp("kitchen")
    documents = [
        Document(id=name, language=language, title=title, text=text, metadata={"year": year})
        for name, language, title, text, year in KITCHEN
    ]
    documents.append(Document(id="long", language="en", title="Spices", text=LONG, metadata={"year": 1999}))
    documents += [
        Document(id=f"recipe/{i}", language="en", text=f"Recipe {i} of soup", metadata={"year": 1900})
        for i in range(RECIPES)
    ]
    with Root(path).create("kitchen", encoder=Encoder.load("multilingual")) as collection:
        collection.upsert(documents)
    with serving(Settings(root=path)) as client:
        yield client


def in_address(page: Page, name: str) -> list[str]:
    return parse_qs(urlsplit(page.url).query).get(name, [])


def asked_texts(page: Page) -> list[str]:
    """The texts of the searches that the page sends from now on."""
    texts: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/search"):
            texts.append(json.loads(request.post_data or "{}")["text"])

    page.on("request", note)
    return texts


@needs_chromium
def test_hits_come_as_one_types_with_marks_language_and_timings(notes: httpx.Client, page: Page):
    page.goto(address(notes))
    type_query(page, "flour and water")
    hit = hits(page).first
    expect(hit.locator("mark").first).to_have_text("flour")
    expect(hit.locator(".text")).to_have_text("Bread needs flour, water, salt and a little patience.")
    expect(hit.locator(".text")).to_have_attribute("lang", "en")
    expect(hit.locator(".text")).to_have_attribute("dir", "auto")
    expect(hit.locator(".about")).to_contain_text("English")
    expect(page.get_by_role("status")).to_contain_text("hits")
    expect(page.locator("#timings")).to_contain_text("encode")
    assert in_address(page, "q") == ["flour and water"]


@needs_chromium
def test_code_has_its_place_line_numbers_and_colours_and_is_left_to_right(notes: httpx.Client, page: Page):
    page.goto(address(notes, "?q=count+words&mode=lexical"))
    hit = hits(page).first
    expect(hit.locator(".about")).to_contain_text("lib/words.py:7")
    expect(hit.locator("pre")).to_have_attribute("dir", "ltr")
    expect(hit.locator(".line").nth(2)).to_have_attribute("data-line", "9")
    expect(hit.locator(".line").nth(2)).to_have_text("    return len(text.split())\n", use_inner_text=False)
    expect(hit.locator(".is-keyword")).to_have_text(["def", "return"])
    expect(hit.locator("mark.is-name").first).to_have_text("count")
    colours = hit.locator(".line").evaluate_all(
        "lines => lines.flatMap(line => [...line.children]).map(part => getComputedStyle(part).color)"
    )
    assert len(set(colours)) >= 3


@needs_chromium
def test_a_document_of_captions_shows_those_of_the_language_that_was_found(notes: httpx.Client, page: Page):
    page.goto(address(notes, "?q=Kätzchen"))
    hit = hits(page).first
    expect(hit.locator("mark")).to_have_text("Kätzchen")
    expect(hit.locator(".captions li")).to_have_text(["schlafende Katze"])


@needs_chromium
def test_a_japanese_query_finds_and_marks_japanese(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen))
    search(page, "緑茶")
    hit = hits(page).first
    expect(hit.locator("h2")).to_have_text("緑茶")
    expect(hit.locator(".text")).to_have_attribute("lang", "ja")
    expect(hit.locator("mark").first).to_have_text("緑茶")


@needs_chromium
def test_an_arabic_query_and_its_hits_run_from_right_to_left(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen))
    search(page, "الشاي الأخضر")
    direction = "element => getComputedStyle(element).direction"
    hit = hits(page).first
    expect(hit.locator(".text")).to_have_attribute("lang", "ar")
    assert page.get_by_label("Search for").evaluate(direction) == "rtl"
    assert hit.locator("h2").evaluate(direction) == "rtl"
    assert hit.locator(".text").evaluate(direction) == "rtl"
    assert hit.locator(".actions").evaluate(direction) == "ltr"


@needs_chromium
def test_a_filter_is_added_shown_kept_in_the_address_and_removed(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen, "?q=green+tea&k=30"))
    expect(hits(page)).to_have_count(26)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Field").select_option("year")
    page.get_by_label("Comparison").select_option("at least")
    page.get_by_label("Value").fill("2022")
    page.get_by_role("button", name="Add").click()
    expect(hits(page)).to_have_count(2)
    expect(page.locator("#chips")).to_contain_text("year ≥ 2022")
    assert in_address(page, "filter") == ["year>=2022"]
    page.reload()
    expect(hits(page)).to_have_count(2)
    page.get_by_role("button", name="Remove the filter year ≥ 2022").click()
    expect(hits(page)).to_have_count(10)
    assert in_address(page, "filter") == []


@needs_chromium
def test_the_languages_to_choose_are_those_of_the_collection(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen, "?q=tea"))
    choice = page.get_by_label("Query language")
    expect(choice.locator("option")).to_have_text(["Any", "Arabic", "English", "German", "Japanese"])
    choice.select_option("German")
    expect(hits(page).first).to_be_visible()
    assert in_address(page, "language") == ["de"]


@needs_chromium
def test_the_back_button_goes_from_search_to_search_and_not_from_letter_to_letter(notes: httpx.Client, page: Page):
    page.goto(address(notes))
    page.get_by_label("Search for").press_sequentially("tea", delay=200)
    expect(page.locator("mark").first).to_have_text("tea")
    page.get_by_label("Search for").press("Enter")
    search(page, "flour")
    expect(page.locator("mark").first).to_have_text("flour")
    page.go_back()
    expect(page.get_by_label("Search for")).to_have_value("tea")
    expect(page.locator("mark").first).to_have_text("tea")
    page.go_back()
    expect(page.get_by_label("Search for")).to_have_value("")
    expect(hits(page)).to_have_count(0)
    page.go_forward()
    expect(page.locator("mark").first).to_have_text("tea")


@needs_chromium
def test_an_older_search_is_ended_and_its_answer_never_shown(notes: httpx.Client, page: Page):
    held: list[Route] = []
    ended: list[Request] = []

    def hold_tea(route: Route) -> None:
        if "tea" in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    def note(request: Request) -> None:
        ended.append(request)

    page.route(SEARCH, hold_tea)
    page.on("requestfailed", note)
    page.goto(address(notes, "?mode=lexical"))
    search(page, "tea")
    search(page, "flour")
    expect(page.locator("#hits mark")).to_have_text("flour")
    assert [route.request for route in held] == ended
    assert ended[0].failure == "net::ERR_ABORTED"


@needs_chromium
def test_what_an_input_method_has_not_decided_is_not_searched_for(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen))
    expect(page.locator("#start button").first).to_be_visible()
    texts = asked_texts(page)
    page.get_by_label("Search for").focus()
    keyboard = page.context.new_cdp_session(page)
    for undecided in ("り", "りょ", "りょく", "りょくちゃ"):
        keyboard.send("Input.imeSetComposition", {"text": undecided, "selectionStart": 1, "selectionEnd": 1})
    keyboard.send("Input.insertText", {"text": "緑茶"})
    expect(hits(page).first.locator("mark").first).to_have_text("緑茶")
    assert texts == ["緑茶"]


@needs_chromium
def test_more_hits_follow_those_that_are_there_until_there_are_no_more(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen, "?q=recipe+soup&mode=lexical"))
    more = page.get_by_role("button", name="More hits")
    expect(page.get_by_role("status")).to_have_text("The first 10 hits")
    more.click()
    expect(hits(page)).to_have_count(20)
    expect(hits(page).nth(10)).to_be_focused()
    assert in_address(page, "k") == ["20"]
    more.click()
    expect(hits(page)).to_have_count(RECIPES)
    expect(more).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text(f"{RECIPES} hits")
    assert len(set(hits(page).locator("h2").all_text_contents())) == RECIPES
    page.reload()
    expect(hits(page)).to_have_count(RECIPES)


@needs_chromium
def test_why_a_hit_is_there_are_parts_that_add_up_to_its_score(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen, "?q=green+tea"))
    hit = hits(page).first
    hit.get_by_role("button", name="Why this hit").click()
    rows = hit.locator(".why tbody tr")
    expect(rows.locator("th")).to_have_text(["Meaning", "Words", "Score"])
    added = [float(row.locator("td").last.inner_text()) for row in rows.all()]
    assert sum(added[:2]) == pytest.approx(added[2], rel=0.01)
    assert added[2] == float(hit.locator(".score").inner_text())
    hit.get_by_role("button", name="Hide why").click()
    expect(hit.locator(".why")).to_have_count(0)


@needs_chromium
def test_more_like_a_hit_are_others_and_typing_searches_by_text_again(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen, "?q=green+tea"))
    expect(hits(page).first.locator("h2")).to_have_text("Tea")
    hits(page).first.get_by_role("button", name="More like this").click()
    expect(page.locator("#chips")).to_contain_text("More like Tea")
    expect(hits(page).first.locator("h2")).not_to_have_text("Tea")
    assert (in_address(page, "like"), in_address(page, "q")) == (["tea"], [])
    type_query(page, "saffron")
    expect(hits(page).first.locator("h2")).to_have_text("Spices")
    expect(page.locator("#chips")).to_be_empty()


@needs_chromium
def test_more_context_shows_what_stands_around_the_passage(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen, "?q=saffron&mode=lexical"))
    hit = hits(page).first
    text = hit.locator(".text")
    expect(text.locator("mark")).to_have_text("saffron")
    short = len(text.inner_text())
    while (more := hit.get_by_role("button", name="More context")).is_visible():
        more.click()
    assert text.text_content() == LONG
    hit.get_by_role("button", name="Less").click()
    assert len(text.inner_text()) == short


@needs_chromium
def test_an_id_is_copied_and_its_json_is_a_link(kitchen: httpx.Client, page: Page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(address(kitchen, "?q=recipe+7&mode=lexical"))
    hit = hits(page).first
    hit.get_by_role("button", name="Copy id").click()
    expect(hit.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "recipe/7"
    link = hit.get_by_role("link", name="JSON").get_attribute("href")
    assert kitchen.get(f"/{link}").json()["text"] == "Recipe 7 of soup"


@needs_chromium
def test_an_empty_page_says_what_there_is_and_offers_words_of_the_documents(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen))
    start = page.locator("#start")
    expect(start).to_contain_text("26 documents in 4 languages")
    start.get_by_role("button", name="緑茶").click()
    expect(hits(page).first.locator("h2")).to_have_text("緑茶")
    expect(start).to_be_hidden()


@needs_chromium
def test_where_nothing_is_found_the_page_offers_what_may_help(kitchen: httpx.Client, page: Page):
    page.goto(address(kitchen, "?q=tea&mode=lexical&filter=year<1800"))
    expect(page.get_by_role("status")).to_have_text("No hits")
    expect(page.locator("#start")).to_contain_text("Nothing was found for “tea”")
    page.get_by_role("button", name="Without the filters").click()
    expect(hits(page).first).to_be_visible()
