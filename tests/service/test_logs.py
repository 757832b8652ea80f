"""The log of a real process: one JSON object a line, which says what was asked without saying what was searched for."""

import io
import json
import logging
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from retriever.documents import Document
from retriever.root import Root
from service.app import create_app
from service.logs import JsonLines
from service.middleware import HEADERS
from service.settings import Settings
from tests.service.conftest import running, serving
from tests.service.test_shutdown import Running, serve

SECRET = "whatnobodyshouldread"
SEARCH = "/v1/collections/notes/search"


@pytest.fixture
def root(tmp_path) -> Root:
    made = Root(tmp_path / "data")
    with made.create("notes", encoder=None) as notes:
        notes.upsert([Document(id="tea", text="green tea", language="en")])
    return made


def logged(root: Root, ask: Callable[[Running], None], **settings: object) -> list[dict[str, Any]]:
    """What a service logs that is asked so."""
    with serve(root, drain_seconds=0, **settings) as process:
        ask(process)
        process.process.send_signal(signal.SIGTERM)
        _, log = process.ended()
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def answers(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["message"] == "answered" and line["route"] != "/readyz"]


def test_each_request_is_a_line_with_its_id_and_without_what_was_searched_for(root: Root):
    found = []

    def ask(service: Running) -> None:
        given = {"X-Request-ID": "order/7:a"}
        found.append(service.client.post(SEARCH, json={"text": SECRET, "mode": "lexical"}, headers=given))
        found.append(service.client.get("/v1/collections/notes/documents", params={"filter": f'{{"x": "{SECRET}"}}'}))
        documents = [{"id": "b", "text": SECRET}]
        found.append(service.client.put("/v1/collections/notes/documents", json={"documents": documents}))

    lines = logged(root, ask)
    assert SECRET not in json.dumps(lines)
    assert [answer.headers["x-request-id"] for answer in found] == [line["request_id"] for line in answers(lines)]
    search, scroll, put = answers(lines)
    assert search["request_id"] == "order/7:a"
    assert (search["method"], search["route"], search["path"]) == ("POST", "/v1/collections/{name}/search", SEARCH)
    assert (search["status"], search["collection"], search["level"]) == (200, "notes", "info")
    assert 0 < search["ms"] < 60_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", search["time"])
    assert (scroll["path"], scroll["status"]) == ("/v1/collections/notes/documents", 400)
    assert (put["status"], put["method"]) == (200, "PUT")


def test_log_queries_adds_what_was_searched_for(root: Root):
    def ask(service: Running) -> None:
        service.client.post(SEARCH, json={"text": SECRET, "mode": "lexical"})
        searches = [{"text": "one", "mode": "lexical"}, {"text": "two \u2028 lines", "mode": "lexical"}]
        service.client.post(f"{SEARCH}/batch", json={"searches": searches})

    one, many = answers(logged(root, ask, log_queries="true"))
    assert (one["text"], many["text"]) == (SECRET, ["one", "two \u2028 lines"])


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "tab\there", 'quote"', "\u00e9"])
def test_an_id_that_could_break_a_log_is_replaced(root: Root, given: str):
    with serving(Settings(root=root.path)) as client:
        answer = client.get("/livez", headers=[(b"X-Request-ID", given.encode("latin-1"))])
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_health_checks_that_succeed_are_logged_only_where_asked_for(root: Root):
    def ask(service: Running) -> None:
        service.client.get("/livez")
        service.client.get("/metrics")

    assert answers(logged(root, ask)) == []
    assert {line["route"] for line in answers(logged(root, ask, log_level='"debug"'))} == {"/livez", "/metrics"}


def test_what_nobody_foresaw_is_one_line_with_its_traceback_and_no_word_of_it_in_the_answer(root: Root):
    app = create_app(Settings(root=root.path))

    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError("one\ntwo")

    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    logging.getLogger("polyseek.service").addHandler(handler)
    try:
        with running(app) as client:
            answer = client.get("/boom")
    finally:
        logging.getLogger("polyseek.service").removeHandler(handler)
    [line] = [json.loads(line) for line in written.getvalue().splitlines() if "unforeseen" in line]
    assert line["traceback"].endswith("RuntimeError: one\ntwo")
    assert (line["level"], line["request_id"]) == ("error", answer.headers["x-request-id"])
    assert (answer.status_code, "two" in answer.text) == (500, False)
    assert {name.decode(): value.decode() for name, value in HEADERS.items()}.items() <= dict(answer.headers).items()
