"""What a test does on the page, and what it looks at."""

import httpx
from playwright.sync_api import Locator, Page


def address(client: httpx.Client, path: str = "") -> str:
    return str(client.base_url.join(path))


def type_query(page: Page, text: str) -> None:
    page.get_by_label("Search for").fill(text)


def search(page: Page, text: str) -> None:
    type_query(page, text)
    page.get_by_role("button", name="Search", exact=True).click()


def hits(page: Page) -> Locator:
    return page.locator("#hits > li")
