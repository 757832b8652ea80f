"""Make the small collection of this format, and the answers that it must give for ever after.

    python -m tests.retriever.golden.make

Run once, when `store.FORMAT` changes; what older releases wrote is never made again.
"""

import io
from pathlib import Path

import orjson
from PIL import Image

from retriever import Collection, Document, SearchRequest, derived, indexer, kinds
from retriever.encoder import Encoder
from retriever.store import FILE_NAME, FORMAT

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / f"format-{FORMAT}"


def picture():
    """A red square as PNG."""
    content = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(content, "PNG")
    return content.getvalue()


def documents():
    """Every feature of a document at least once."""
    long = " ".join(
        f"Satz {number} handelt von Flüssen, Brücken und der Stadt Nummer {number}." for number in range(60)
    )
    texts = {
        "de": "Die alte Brücke führt über den Fluss", "en": "The old bridge crosses the river",
        "fr": "Le vieux pont traverse la rivière", "ja": "古い橋が川を渡る", "ar": "الجسر القديم يعبر النهر",
    }  # fmt: skip
    yield Document(id="lang", title="Flüsse", text=long, language="de", metadata={"kind": "long"})
    for number, (language, text) in enumerate(texts.items()):
        yield Document(
            id=f"text-{language}", title=f"Bridge {number}", text=text, language=language,
            metadata={
                "year": 2000 + number, "ratio": number / 4, "open": number % 2 == 0, "tags": ("a", "b")[: number % 3],
            },
        )  # fmt: skip
    yield Document(id="identified", text="Wo ist die nächste Apotheke, bitte?")
    yield Document(id="code", text="def cross(river):\n    return bridge[river]", modality="code")
    yield Document(
        id="captions", text="a picture of a square", language="en", picture=picture(),
        captions={"en": ("a red square", "a square"), "de": ("ein rotes Quadrat",)},
    )  # fmt: skip
    for number in range(6):
        yield Document(
            id=f"short/{number} ü", text=f"kivo number {number}", language="en", metadata={"year": 1990 + number}
        )


REQUESTS = (
    *({"like": like, "k": 8} for like in ("text-en", "identified", "code")),
    {"like": "text-en", "filter": {"year": {"gte": 2001}}, "k": 8},
    {"like": "text-de", "filter": {"or": [{"tags": "a"}, {"open": True}]}, "group": False, "k": 8},
    *({"text": text, "mode": "lexical", "k": 20} for text in ("bridge", "Brücke Flüsse", "red square", "橋", "kivo")),
    {"text": "kivo", "mode": "lexical", "filter": {"year": {"lt": 1994}, "not": {"year": 1991}}, "k": 20},
    {"text": "river", "mode": "lexical", "language": "en", "k": 20},
)


def answers(collection):
    """What must stay: dense scores, and which documents hold a word; lexical scores change with the index's size."""
    found = []
    for members in REQUESTS:
        hits = collection.search(SearchRequest(**members)).hits
        lexical = members.get("mode") == "lexical"
        found.append(sorted(hit.id for hit in hits) if lexical else [[hit.id, round(hit.score, 5)] for hit in hits])
    return found


def stored(collection):
    """Everything that is said of each document."""
    return [
        orjson.loads(orjson.dumps(collection.get(identifier).to_record())) for identifier in sorted(collection.ids())
    ]


def make():
    """Write the collection and its answers."""
    derived.TAIL, indexer.TAIL, kinds.INDEXED_FROM = 4, 4, 8
    encoder = Encoder.load("multilingual")
    with Collection.create(GOLDEN, encoder=encoder, kind="rabitq", recall=0.9, background=False) as collection:
        collection.upsert(list(documents()))
        collection.set_queries(["Where does the bridge cross?", "eine Apotheke"])
        collection.optimize()
        # Behind the index: something added, changed, removed; metadata alone changed.
        collection.upsert([Document(id="late", text="kivo came late", language="en", metadata={"year": 1993})])
        collection.upsert([Document(id="short/1 ü", text="kivo number 1", language="en", metadata={"year": 2020})])
        collection.delete(ids=["short/2 ü"])
        collection.search("kivo", mode="lexical")
        expected = {
            "generation": collection.generation,
            "answers": answers(collection),
            "documents": stored(collection),
        }
    for name in (f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", "keeper.lock", "indexer.lock"):
        (GOLDEN / name).unlink(missing_ok=True)
    for lock in (GOLDEN / "lexical").glob(".tantivy-*.lock"):
        lock.unlink()
    (FOLDER / f"format-{FORMAT}.json").write_bytes(orjson.dumps(expected, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    make()
