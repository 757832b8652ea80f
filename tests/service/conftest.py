"""Real services on ports of their own, over collections made for the tests."""

import http.client
import io
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.root import Root
from service.app import create_app
from service.server import listen
from service.settings import Settings

NOTES = [
    Document(id="tea", title="Tea", text="Green tea is brewed with water that does not boil.", language="en"),
    Document(id="bread", text="Bread needs flour, water, salt and a little patience.", language="en"),
    Document(id="moon", text="Der Mond umkreist die Erde in etwa siebenundzwanzig Tagen.", language="de"),
    Document(id="rain", text="雨が降っているので、傘を持って行きます。", language="ja"),
    Document(id="cat", captions={"de": ["schlafende Katze", "Kätzchen"], "en": ["sleeping cat"]}),
    Document(
        id="lib/words.py#count_words",
        text='def count_words(text):\n    """Count the words of a text."""\n    return len(text.split())',
        modality="code",
        language="en",
        metadata={"path": "lib/words.py", "symbol": "count_words", "start_line": 7},
    ),
]


WORDS = ("apple", "bridge", "cloud", "drum")

CHROMIUM = "/usr/bin/chromium"
needs_chromium = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is not installed")


def png(color: str = "red", size: int = 500) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size // 2), color).save(buffer, "PNG")
    return buffer.getvalue()


def axes(count: int = 4) -> list[Document]:
    """Documents whose vectors are the axes of the space: what is nearest is known by hand."""
    vectors = np.eye(count, dtype=np.float32)
    return [
        Document(id=f"axis{i}", text=f"{word} shared", language="en", metadata={"number": i}, vector=vectors[i])
        for i, word in enumerate(WORDS[:count])
    ]


def ready(client: httpx.Client) -> httpx.Response:
    """The first answer that isn't "still starting"."""
    for _ in range(400):
        answer = client.get("/readyz")
        if "being opened" not in answer.text:
            return answer
        time.sleep(0.05)
    raise AssertionError("never ready")


def raw(client: httpx.Client, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    """Status and text of a request whose path is sent as it stands."""
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def serving(settings: Settings) -> AbstractContextManager[httpx.Client]:
    """A client of a service with these settings."""
    return running(create_app(settings))


@contextmanager
def running(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of an application that runs in a thread of this process."""
    listener = listen(Settings(port=0))
    server = uvicorn.Server(uvicorn.Config(app, http="h11", log_level="critical", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="session")
def notes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the collection `notes`, searchable by meaning and by words."""
    path = tmp_path_factory.mktemp("notes")
    with Root(path).create("notes", encoder=Encoder.load("multilingual")) as notes:
        notes.upsert(NOTES)
    return path


@pytest.fixture(scope="session")
def notes(notes_root: Path) -> Iterator[httpx.Client]:
    """A service over `notes`, which no test writes to."""
    with serving(Settings(root=notes_root)) as client:
        yield client


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root with the collection `axes`, of ready-made vectors."""
    made = Root(tmp_path / "data")
    with made.create("axes", encoder=None) as collection:
        collection.upsert(axes())
    return made


@pytest.fixture
def client(root: Root) -> Iterator[httpx.Client]:
    """A service over a root that is the test's own."""
    with serving(Settings(root=root.path, max_body_bytes=200_000, max_picture_bytes=50_000)) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test for anything it complains of on the console."""
    with browser.new_context() as context, watched(context) as page:
        yield page


@contextmanager
def watched(context: BrowserContext) -> Iterator[Page]:
    """A new page; what it complains of on the console, such as a breach of its policy, is an error at the end."""
    complaints: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    # The browser itself notes every answer that is an error; those are shown on the page.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []
