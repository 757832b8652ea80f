"""CoSQA and CodeSearchNet as they were published."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from eval.datasets.files import Folder, Line, items, judgements
from eval.tasks import Items, Task

_MAP = "code_idx_map.txt"
_COSQA = "a record has idx, doc and retrieval_idx"
_FUNCTION = "a function has url, code_tokens and docstring_tokens"


def has_cosqa(folder: Folder) -> bool:
    """Whether it is CoSQA's folder `data/search`."""
    return folder.has(_MAP)


def cosqa(folder: Folder, split: str) -> Task:
    """The questions of a split, and all functions. Raises InvalidData."""
    line, numbers = folder.json(_MAP)
    if not isinstance(numbers, dict):
        raise line.error("it is no JSON object", f"{_MAP} maps a function to its number")
    corpus = items((line, {"_id": f"c{number}", "text": code}) for code, number in numbers.items())
    place = {identifier: place for place, identifier in enumerate(corpus.ids)}
    line, records = folder.json(f"cosqa-retrieval-{split}-500.json")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise line.error("it is no list of JSON objects", _COSQA)
    queries = items((line, {"_id": record.get("idx"), "text": record.get("doc")}) for record in records)
    for record in records:
        if f"c{record.get('retrieval_idx')}" not in place:
            raise line.error(f"{record['idx']} has function {record.get('retrieval_idx')}, {_MAP} has not", _COSQA)
    right = [place[f"c{record['retrieval_idx']}"] for record in records]
    return Task(split, "search", queries, corpus, judgements(range(len(records)), right))


def codesearchnet_languages(folder: Folder) -> list[str]:
    """The folders of programming languages."""
    found = folder.matching("*/codebase.jsonl") or folder.matching("*/final/jsonl/*/*.jsonl")
    return sorted({PurePosixPath(name).parts[0] for name in found})


def codesearchnet(folder: Folder, language: str, split: str) -> Task:
    """The docstrings of a language's split; their functions are known by their URLs. Raises InvalidData."""
    codebase, functions = f"{language}/codebase.jsonl", f"{language}/{split}.jsonl"
    files = folder.matching(f"{language}/final/jsonl/{split}/*.jsonl") or [functions]
    records = [pair for file in files for pair in folder.records(file)]
    queries = _items(records, "docstring_tokens")
    corpus = _items(folder.records(codebase), "code_tokens") if folder.has(codebase) else _items(records, "code_tokens")
    place = {identifier: place for place, identifier in enumerate(corpus.ids)}
    for (line, _), identifier in zip(records, queries.ids, strict=True):
        if identifier not in place:
            raise line.error(f"{codebase} has no function {identifier}", "see that both files are of one release")
    name = language if split == "test" else f"{language}-{split}"
    return Task(name, "search", queries, corpus, judgements(range(len(queries)), [place[i] for i in queries.ids]))


def _items(records: Iterable[tuple[Line, Mapping[str, Any]]], name: str) -> Items:
    return items((line, {"_id": record.get("url"), "text": _joined(line, record, name)}) for line, record in records)


def _joined(line: Line, record: Mapping[str, Any], name: str) -> str:
    tokens = record.get(name)
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise line.error(f"its {name} are no list of texts", _FUNCTION)
    return " ".join(tokens)
