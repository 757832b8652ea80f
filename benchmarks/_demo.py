"""The demo's collections, and what is known of their answers before anything is measured."""

import importlib.util
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import orjson
from _load import Request, request
from _servers import POLYSEEK

from retriever.collection import Collection
from retriever.documents import Document
from retriever.errors import PolyseekError
from retriever.files import locked
from retriever.models import cache_folder
from retriever.requests import Hit, SearchRequest
from retriever.root import Root

EXAMPLE = Path(__file__).parent.parent / "examples" / "demo.py"
DOCSTRING = re.compile(r'"""\s*([^\n]{30,200}?)\s*(?:"""|\n)')
# Candidates that are tried: about half of them are known items, and trying 1,000 takes some seconds.
CANDIDATES = 3_000
# By so much the item is ahead of what comes second: cosine, and BM25's ratio. Other batches change a vector by 1e-6,
# other documents change the weight of a word.
AHEAD, TIMES_AHEAD = 0.02, 1.1
BATCH = 256


class Known(NamedTuple):
    """A text and the document that answers it best, by words as by meaning."""

    text: str
    id: str


def demo_root(scratch: Path, *names: str) -> Path:
    """A root with copies of the demo's collections of these names.

    They are built as examples/demo.py does, at the first call (minutes), and kept in the cache directory.
    """
    kept, root = cache_folder() / "benchmarks" / "demo", scratch / "-".join(names)
    kept.mkdir(parents=True, exist_ok=True)
    with locked(kept / "lock", wait=True):
        _build(kept, names)
        for name in names:
            shutil.copytree(kept / name, root / name)
    return root


def _build(root: Path, names: Sequence[str]) -> None:
    demo, sources = _example(), root / "demo-sources"
    sources.mkdir(exist_ok=True)
    for name, source, options in demo.COLLECTIONS:
        if name in names:
            if name == "code":
                demo.copy_library(sources / source)
            else:
                demo.write_jsonl(sources / source, demo.topic_records())
            command = [POLYSEEK, "index", "build", name, sources / source, "--root", root, *shlex.split(options)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known_items(root: Path) -> list[Known]:
    """First lines of docstrings, each of which has its own function as the best hit of both sides, by a distance.

    Found in this process by exact search: what a service answers must agree, in every mode.
    """
    with Root(root).open("code") as code:
        lines: dict[str, str] = {}
        for document in _documents(code):
            if found := DOCSTRING.search(document.text):
                lines.setdefault(found[1], document.id)
        step = max(1, len(lines) // CANDIDATES)
        candidates = [Known(text, identifier) for text, identifier in lines.items()][::step]
        parts = [candidates[start : start + BATCH] for start in range(0, len(candidates), BATCH)]
        return [item for part in parts for item in _certain(code, part)]


def _documents(collection: Collection) -> Iterator[Document]:
    cursor = None
    while True:
        page = collection.scroll(cursor, 1_000)
        yield from page.documents
        cursor = page.cursor
        if cursor is None:
            return


def _hits(code: Collection, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
    """The hits of each; raises what a request was answered by in their place."""
    found = []
    for result in code.search_many(requests):
        if isinstance(result, PolyseekError):
            raise result
        found.append(result.hits)
    return found


def _certain(code: Collection, part: Sequence[Known]) -> Iterator[Known]:
    requests = [SearchRequest(text=item.text, k=2, fields=[], highlight=False, exact=True) for item in part]
    dense = _hits(code, [one.model_copy(update={"mode": "dense"}) for one in requests])
    lexical = _hits(code, [one.model_copy(update={"mode": "lexical"}) for one in requests])
    for item, by_meaning, by_words in zip(part, dense, lexical, strict=True):
        if {by_meaning[0].id, by_words[0].id} == {item.id}:
            ahead = by_meaning[0].score - by_meaning[1].score > AHEAD
            if ahead and by_words[0].score > TIMES_AHEAD * by_words[1].score:
                yield item


def search_for(collection: str, body: Mapping[str, Any], best: str) -> Request:
    """A search whose best hit is known."""
    expected = b'"hits":[{"rank":1,"id":' + orjson.dumps(best)
    return request("POST", f"/v1/collections/{collection}/search", orjson.dumps(body), expected)
