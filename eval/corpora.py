"""A corpus as a collection: opened where it is there, else built.

A collection is built under a name that nobody searches and gets its own once it is whole; a build that was killed goes
on. Evaluations ask it as every client does.
"""

import hashlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from eval.tasks import Items
from eval.vectors import Progress, cache, read_pictures
from retriever.build import only_build
from retriever.collection import Collection
from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.errors import EncoderMismatch, InvalidData, InvalidDocument, InvalidRequest
from retriever.files import discard, sync_folder, written_for
from retriever.root import Root
from retriever.store import FILE_NAME

# One transaction each; a batch that isn't encoded is mostly waiting for the disk.
BATCH = 256
BATCH_LEXICAL = 4_096


def in_root(root: Root, name: str, corpus: Items, encoder: Callable[[], Encoder], progress: Progress) -> Collection:
    """The collection of this name or alias, open; built with an encoder and without passages where there is none.

    Raises InvalidRequest where it holds other documents than the corpus, InvalidData where a document can't be taken.
    """
    if not root.exists(name) and name not in root.aliases():
        _build(root.path / name, corpus, encoder(), progress)
    collection = root.open(name)
    try:
        _check(collection, corpus)
    except BaseException:
        collection.close()
        raise
    return collection


def lexical(corpus: Items, progress: Progress) -> Collection:
    """A collection in the cache whose only use is lexical search; made anew where the corpus or this release changed.

    Raises InvalidRequest for a corpus of pictures, InvalidData where a document can't be taken.
    """
    if corpus.pictures:
        raise InvalidRequest("lexical search finds no pictures", hint="evaluate it on texts")
    folder = cache() / "lexical" / _digest(corpus)
    if not (folder / FILE_NAME).is_file():
        _build(folder, corpus, None, progress)
    return Collection.open(folder)


def _check(collection: Collection, corpus: Items) -> None:
    held, wanted = set(collection.ids()), set(corpus.ids)
    if held != wanted:
        raise InvalidRequest(
            f"{collection.name} is another corpus: it lacks {len(wanted - held):,} of {len(wanted):,} documents and "
            f"holds {len(held - wanted):,} others",
            hint="give a name that isn't taken, for the collection to be built; or build this one from the corpus",
        )


def _build(folder: Path, corpus: Items, encoder: Encoder | None, progress: Progress) -> None:
    """Raises CollectionBusy where another process is doing it, InvalidData, OutputError."""
    aside = folder.with_name(f".{folder.name}.evaluating")
    with _begun(aside, encoder) as collection, only_build(aside):
        # Left from a try with another corpus of the same name.
        collection.delete(ids=list(set(collection.ids()) - set(corpus.ids)))
        size = BATCH_LEXICAL if encoder is None else BATCH
        for start in range(0, len(corpus), size):
            batch = list(_documents(corpus, range(start, min(start + size, len(corpus))), lexical=encoder is None))
            if rejected := collection.upsert(batch).rejected:
                raise InvalidData(
                    f"{folder.name} can't take document {rejected[0].id}: {rejected[0].reason}",
                    hint="a collection holds texts that aren't empty; see docs/datasets.md",
                )
            progress(f"{folder.name}: documents", start + len(batch), len(corpus))
        collection.settle()
    with written_for(folder):
        aside.rename(folder)
        sync_folder(folder.parent)


def _begun(aside: Path, encoder: Encoder | None) -> Collection:
    """The unfinished collection, empty where there is none or one of another encoder."""
    if (aside / FILE_NAME).is_file():
        try:
            return Collection.open(aside, encoder=encoder, background=False)
        except EncoderMismatch:
            discard(aside)
    return Collection.create(aside, encoder=encoder, passages="none", background=False)


def _documents(corpus: Items, rows: range, *, lexical: bool) -> Iterator[Document]:
    """Some of the corpus. lexical: with a vector that says nothing, since every unit of a collection has one."""
    pictures = read_pictures(corpus.pictures[rows.start : rows.stop])
    for row in rows:
        try:
            yield Document(
                id=corpus.ids[row],
                title=corpus.titles[row] if corpus.titles else "",
                text=corpus.texts[row] if corpus.texts else "",
                language=corpus.languages[row] if corpus.languages else None,
                modality="image" if pictures else "text",
                picture=pictures[row - rows.start] if pictures else None,
                vector=np.ones(1, np.float32) if lexical else None,
            )
        except InvalidDocument as error:
            raise InvalidData(f"no collection can take document {corpus.ids[row]}: {error}") from None


def _digest(corpus: Items) -> str:
    """Over all that a lexical collection depends on."""
    h = hashlib.blake2b(version("polyseek").encode(), digest_size=16)
    for members in (corpus.ids, corpus.titles, corpus.texts, corpus.languages):
        h.update(len(members).to_bytes(8, "little"))
        for member in members:
            content = (member or "").encode()
            h.update(len(content).to_bytes(8, "little") + content)
    return h.hexdigest()
