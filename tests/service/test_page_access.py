"""The page for everyone: by keyboard alone, on a phone, for screen readers, light and dark."""

from collections.abc import Callable

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.service.conftest import needs_chromium, watched
from tests.service.searching import address, hits

pytestmark = needs_chromium


def focused(page: Page) -> str:
    """What has the focus, by the name that a screen reader would say, or its text."""
    script = "e => e.ariaLabel ?? e.labels?.[0]?.textContent.trim().split('\\n')[0].trim() ?? e.textContent.trim()"
    return page.locator(":focus").evaluate(script)


def tab_to(page: Page, name: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page).startswith(name):
            return
    raise AssertionError(f"no {name} on the way of the Tab key")


def test_everything_is_reached_by_keyboard(notes: httpx.Client, page: Page):
    page.goto(address(notes))
    expect(page.locator("#start button").first).to_be_visible()
    expect(page.get_by_label("Search for")).to_be_focused()
    page.keyboard.type("flour")
    page.keyboard.press("Enter")
    expect(hits(page).first.locator("mark").first).to_have_text("flour")
    page.keyboard.press("ArrowDown")
    expect(hits(page).first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(hits(page).nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    tab_to(page, "Why this hit")
    page.keyboard.press("Enter")
    expect(hits(page).first.locator(".why table")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Search for")).to_be_focused()
    page.keyboard.type("tea/")
    expect(page.get_by_label("Search for")).to_have_value("tea/")


def test_filters_are_added_and_removed_by_keyboard(notes: httpx.Client, page: Page):
    page.goto(address(notes, "?q=tea"))
    expect(hits(page).first).to_be_visible()
    tab_to(page, "Filter")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Field")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#filter")).to_be_hidden()
    expect(page.locator("#add-filter")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("de")
    page.keyboard.press("Enter")
    expect(page.locator("#chips")).to_contain_text("language = de")
    expect(page.locator("#add-filter")).to_be_focused()
    page.get_by_role("button", name="Remove the filter").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#chips")).to_be_empty()
    expect(page.locator("#add-filter")).to_be_focused()


def test_the_first_link_of_the_page_skips_to_the_hits(notes: httpx.Client, page: Page):
    page.goto(address(notes, "?q=tea"))
    expect(hits(page).first).to_be_visible()
    skip = page.get_by_role("link", name="Skip to the hits")
    for _ in range(3):  # the search has the focus at first
        page.keyboard.press("Shift+Tab")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#hits")).to_be_focused()


def test_what_changes_is_announced(notes: httpx.Client, page: Page):
    page.goto(address(notes, "?q=flour&mode=lexical"))
    expect(page.get_by_role("status")).to_have_text("1 hit")
    expect(page.get_by_role("alert")).to_be_empty()
    expect(page.locator("#hits")).to_have_attribute("aria-busy", "false")


@pytest.mark.parametrize(
    "path", ["", "?q=tea", "?q=count+words&mode=lexical", "?q=tea&filter=a=b", "?q=zz&mode=lexical"]
)
def test_a_phone_has_no_need_to_scroll_sideways_and_enough_room_for_fingers(
    notes: httpx.Client, browser: Browser, path: str
):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with browser.new_context(**phone) as context, watched(context) as page:
        page.goto(address(notes, path))
        expect(page.locator("#hits > li, #start:not([hidden]), #alert > *").first).to_be_visible()
        page.locator("#add-filter").tap()
        for why in page.get_by_role("button", name="Why this hit").all()[:1]:
            why.tap()
            expect(page.locator(".why table")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        targets = page.locator("button:visible, select:visible, .actions a:visible")
        low = [target.bounding_box()["height"] for target in targets.all()]
        assert min(low) >= 44


def code_and_why(page: Page) -> None:
    page.get_by_role("button", name="Why this hit").first.click()
    expect(page.locator(".why table")).to_be_visible()
    page.locator("#add-filter").click()


def nothing(_page: Page) -> None:
    """Look at it as it comes."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("path", "act"),
    [
        ("", nothing),
        ("?q=tea", nothing),
        ("?q=count+words&mode=lexical&filter=modality=code", code_and_why),
        ("?q=tea&filter=a=b", nothing),
        ("?q=zz&mode=lexical&filter=language=de", nothing),
    ],
)
def test_axe_finds_no_fault(notes: httpx.Client, browser: Browser, path: str, act: Callable[[Page], None], scheme: str):
    with browser.new_context(color_scheme=scheme, reduced_motion="reduce") as context, watched(context) as page:
        page.goto(address(notes, path))
        expect(page.locator("#hits > li, #start button, #alert > *").first).to_be_visible()
        act(page)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
