"""Files of made datasets."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from eval.tasks import Task


def write(folder: Path, files: Mapping[str, str | bytes], *, compressed: bool = False) -> Path:
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        path = folder / (f"{name}.gz" if compressed else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if compressed else data)
    return folder


def jsonl(rows: Iterable[Mapping]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def judged(task: Task) -> dict[tuple[str, str], int]:
    """(query's id, document's id) -> grade."""
    places = task.judgements
    order = list(zip(places.query.tolist(), places.document.tolist(), strict=True))
    assert order == sorted(set(order))
    return {
        (task.queries.ids[query], task.corpus.ids[document]): grade
        for (query, document), grade in zip(order, places.grade.tolist(), strict=True)
    }
