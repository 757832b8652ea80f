"""Real sentence vectors for the benchmarks of the dense side: `docs-multi` of POLYSEEK_DATA through `multilingual`.

Distinct sentences of more than ten characters, in turns from each folder and language of it, so that a small sample is
as mixed as a large one; languages that the encoder knows come first (some 320,000). The first HELD_OUT are queries, the
rest the base. Vectors are kept in the cache directory and are only ever appended to: a later, larger call encodes what
is new. About 900 sentences/s on one core.
"""

import gzip
import hashlib
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

if TYPE_CHECKING:
    from retriever import Encoder

HELD_OUT = 2_000
CHUNK = 10_000
LONGEST = 1_000
Vectors = NDArray[np.float32]


class Sentence(NamedTuple):
    """A sentence, its language (BCP 47) and the folder it comes from."""

    text: str
    language: str
    folder: str


def data_folder() -> Path:
    """POLYSEEK_DATA; the benchmark ends with the reason, and without an error, where it is unset."""
    if data := os.environ.get("POLYSEEK_DATA"):
        return Path(data)
    print("skipped: POLYSEEK_DATA is unset, real sentences can't be had")
    sys.exit(0)


@cache
def sentences() -> tuple[Sequence[Sentence], Sequence[Sentence]]:
    """All base sentences and all queries, each in the order of its vectors."""
    from retriever.models import catalog

    [model] = [info for info in catalog() if info.name == "multilingual"]
    known = {tag.split("-")[0] for tag in model.languages}
    random, seen = np.random.default_rng(0), set[str]()
    tiers: tuple[list[list[Sentence]], list[list[Sentence]]] = ([], [])
    for file in sorted(Path(data_folder(), "docs-multi").glob("*/*.jsonl.gz")):
        group = list(_new_sentences(file, seen))
        language = file.name.removesuffix(".jsonl.gz").split("-")[0]
        tiers[language not in known].append([group[i] for i in random.permutation(len(group))])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*tier) for tier in tiers)
    ordered = [sentence for turn in turns for sentence in turn if sentence is not None]
    return ordered[HELD_OUT:], ordered[:HELD_OUT]


def _new_sentences(file: Path, seen: set[str]) -> Iterator[Sentence]:
    with gzip.open(file, "rb") as lines:
        for line in lines:
            document = orjson.loads(line)
            for sentence in itertools.chain.from_iterable(part for _, part in document["blocks"]):
                text = sentence.strip()[:LONGEST]
                if len(text) > 10 and text not in seen:
                    seen.add(text)
                    yield Sentence(text, document["lang"], file.parent.name)


def sentence_vectors(count: int, queries: int = HELD_OUT) -> tuple[Vectors, Vectors]:
    """The vectors of the first `count` base sentences, mapped (count, 512), and of `queries` held-out ones (q, 512).

    Raises ValueError where there aren't so many sentences.
    """
    from retriever import Encoder
    from retriever.files import locked
    from retriever.models import cache_folder

    base, held_out = sentences()
    if count > len(base) or queries > len(held_out):
        raise ValueError(f"{len(base)} sentences and {len(held_out)} queries are there, not {count} and {queries}")
    encoder = Encoder.load("multilingual")
    texts = [sentence.text for sentence in itertools.chain(held_out, base[:count])]
    # Of the texts that every size has, and of the model: other data or another model is another file.
    name = hashlib.sha256("\0".join([encoder.fingerprint, str(len(base)), *texts[:HELD_OUT]]).encode()).hexdigest()[:16]
    folder = cache_folder() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sentences-{name}.f32"
    with locked(folder / f"sentences-{name}.lock", wait=True):
        _encode_missing(path, texts, encoder)
    vectors = np.memmap(path, dtype="<f4", mode="r").reshape(-1, encoder.dimension).view(np.ndarray)
    return vectors[HELD_OUT : HELD_OUT + count], vectors[:queries]


def _encode_missing(path: Path, texts: Sequence[str], encoder: "Encoder") -> None:
    with path.open("ab") as file:
        done = file.tell() // (4 * encoder.dimension)
        # A row that a kill cut off is written again.
        file.truncate(done * 4 * encoder.dimension)
        for start in range(done, len(texts), CHUNK):
            file.write(encoder.encode_documents(texts[start : start + CHUNK]).vectors.astype("<f4").tobytes())
            file.flush()
            print(f"encoded {min(start + CHUNK, len(texts))} of {len(texts)} sentences", file=sys.stderr)
