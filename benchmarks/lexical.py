"""Lexical search against BM25 over words between spaces, in the same tantivy with the same parameters.

Run: POLYSEEK_DATA=DIR python benchmarks/lexical.py. It reads scifact, xquad (each language's own pool), cosqa and
codesearchnet-human-code there, prints nDCG@10 and recall@10, and fails where a goal is missed.
"""

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import tantivy
from _judged import Judged, K, data, load, ndcg, recall

from retriever.analysis import query_terms
from retriever.lexical import LexicalUnit, in_memory

XQUAD = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")
GOALS = ("ar", "de", "ru", "th", "zh")  # lexical search must find more than BM25 over words between spaces
SCIFACT_GOAL = 0.68

Search = Callable[[str], Sequence[int]]


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


def evaluate(judged: Judged, make: Callable[[Sequence[str], str], Search], language: str) -> tuple[float, float, float]:
    """Mean nDCG@10, mean recall@10, milliseconds a query (its analysis included)."""
    ids = [row["_id"] for row in judged.documents]
    search = make([f"{row.get('title', '')} {row['text']}".strip() for row in judged.documents], language)
    started = time.perf_counter()
    found = {query: search(text) for query, text in judged.queries.items()}
    milliseconds = 1e3 * (time.perf_counter() - started) / len(found)
    scored = [([ids[row] for row in rows], judged.gains[query]) for query, rows in found.items()]
    return (
        float(np.mean([ndcg(*pair) for pair in scored])),
        float(np.mean([recall(*pair) for pair in scored])),
        milliseconds,
    )


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    root = data()
    sets = [("scifact", "test", None), ("cosqa", "test", None), ("codesearchnet-human-code", "test", None)]
    sets += [("xquad", "test_mono", language) for language in XQUAD]
    missed = []
    print(f"{'':30}{'lexical search':>28}{'words between spaces':>28}")
    print(f"{'':30}{'nDCG@10  recall@10       ms':>28}{'nDCG@10  recall@10       ms':>28}")
    for folder, split, language in sets:
        judged = load(root / folder, split, language)
        ours, theirs = (evaluate(judged, make, language or "en") for make in (lexical, between_spaces))
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
