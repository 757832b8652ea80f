"""Lexical search against BM25 over words between spaces, in the same tantivy with the same parameters.

Run: POLYSEEK_DATA=DIR python benchmarks/lexical.py. It reads scifact, xquad (each language's own pool), cosqa and
codesearchnet-human-code there, prints nDCG@10 and recall@10, and fails where a goal is missed.
"""

import gzip
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tantivy

from retriever.analysis import query_terms
from retriever.lexical import LexicalUnit, in_memory

K = 10
XQUAD = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")
GOALS = ("ar", "de", "ru", "th", "zh")  # lexical search must find more than BM25 over words between spaces
SCIFACT_GOAL = 0.68

Search = Callable[[str], Sequence[int]]


class Collection(NamedTuple):
    """texts: the corpus; queries and, for each, the gain of every relevant row of the corpus."""

    texts: list[str]
    queries: list[str]
    relevant: list[dict[int, int]]


def lines(file: Path) -> Iterator[str]:
    """The lines of a file, or of the same file compressed."""
    if file.exists():
        yield from file.read_text("utf-8").splitlines()
    else:
        with gzip.open(f"{file}.gz", "rt", encoding="utf-8") as stream:
            yield from stream


def load(folder: Path, split: str, language: str | None = None) -> Collection:
    """A BEIR folder; of `language` alone where the folder holds several."""
    corpus, queries = (
        [json.loads(line) for line in lines(folder / name)] for name in ("corpus.jsonl", "queries.jsonl")
    )
    if language is not None:
        corpus, queries = ([row for row in rows if row["lang"] == language] for rows in (corpus, queries))
    rows = {row["_id"]: number for number, row in enumerate(corpus)}
    gains: dict[str, dict[int, int]] = {}
    for line in list(lines(folder / "qrels" / f"{split}.tsv"))[1:]:
        query, document, gain = line.split("\t")
        if int(gain) > 0 and document in rows:
            gains.setdefault(query, {})[rows[document]] = int(gain)
    judged = [row for row in queries if row["_id"] in gains]
    texts = [f"{row.get('title', '')} {row['text']}".strip() for row in corpus]
    return Collection(texts, [row["text"] for row in judged], [gains[row["_id"]] for row in judged])


def lexical(texts: Sequence[str], language: str) -> Search:
    """What the project serves."""
    snapshot = in_memory([LexicalUnit(row + 1, text, language) for row, text in enumerate(texts)])
    return lambda query: list(snapshot.search(query_terms(query, [language]), K)[0] - 1)


def between_spaces(texts: Sequence[str], _: str) -> Search:
    """BM25 over lower-case words between spaces."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("words", tokenizer_name="spaces", index_option="freq")
    builder.add_integer_field("row", fast=True)
    schema = builder.build()
    index = tantivy.Index(schema)
    index.register_tokenizer("spaces", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())
    writer = index.writer(50_000_000, 1)
    for row, text in enumerate(texts):
        writer.add_document(tantivy.Document(words=" ".join(text.lower().split()), row=row))
    writer.commit()
    index.reload()
    searcher = index.searcher()

    def search(query: str) -> Sequence[int]:
        words = [tantivy.Query.term_query(schema, "words", word, index_option="freq") for word in query.lower().split()]
        hits = searcher.search(tantivy.Query.boolean_query([(tantivy.Occur.Should, word) for word in words]), K).hits
        return searcher.fast_field_values("row", [address for _, address in hits])

    return search


def ndcg(found: Sequence[int], gains: Mapping[int, int]) -> float:
    """nDCG@10 with linear gains."""
    discounts = 1 / np.log2(np.arange(K) + 2)
    ideal = np.sort(np.array(list(gains.values()), dtype=float))[::-1][:K]
    got = np.array([gains.get(row, 0) for row in found], dtype=float)
    return float(got @ discounts[: len(got)] / (ideal @ discounts[: len(ideal)]))


def evaluate(
    data: Collection, make: Callable[[Sequence[str], str], Search], language: str
) -> tuple[float, float, float]:
    """Mean nDCG@10, mean recall@10, milliseconds a query (its analysis included)."""
    search = make(data.texts, language)
    started = time.perf_counter()
    found = [search(query) for query in data.queries]
    milliseconds = 1e3 * (time.perf_counter() - started) / len(found)
    recalls = [len(set(rows) & set(gains)) / len(gains) for rows, gains in zip(found, data.relevant, strict=True)]
    gained = [ndcg(rows, gains) for rows, gains in zip(found, data.relevant, strict=True)]
    return float(np.mean(gained)), float(np.mean(recalls)), milliseconds


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    if "POLYSEEK_DATA" not in os.environ:
        print("skipped: POLYSEEK_DATA is not set", file=sys.stderr)
        return 0
    root = Path(os.environ["POLYSEEK_DATA"])
    sets = [("scifact", "test", None), ("cosqa", "test", None), ("codesearchnet-human-code", "test", None)]
    sets += [("xquad", "test_mono", language) for language in XQUAD]
    missed = []
    print(f"{'':30}{'lexical search':>28}{'words between spaces':>28}")
    print(f"{'':30}{'nDCG@10  recall@10       ms':>28}{'nDCG@10  recall@10       ms':>28}")
    for folder, split, language in sets:
        data = load(root / folder, split, language)
        ours, theirs = (evaluate(data, make, language or "en") for make in (lexical, between_spaces))
        cells = "".join(
            f"{gain:12.4f}{recall:9.4f}{milliseconds:7.2f}" for gain, recall, milliseconds in (ours, theirs)
        )
        print(f"{folder} {language or '':4}".ljust(30) + cells, flush=True)
        if (folder == "scifact" and ours[0] < SCIFACT_GOAL) or (language in GOALS and ours[1] <= theirs[1]):
            missed.append(f"{folder} {language or ''}")
    print("goals missed: " + (", ".join(missed) or "none"))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
