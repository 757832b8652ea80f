"""Vectors of items, each made once: what was encoded before is read back, so that a killed evaluation goes on.

<cache>/evaluation/<fingerprint>/<digest of a chunk's role and contents>, each a checksum and then the vectors as .npy.
Axes: N items, D dimensions.
"""

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from eval.tasks import Items, Picture
from retriever import models
from retriever.encoder import PICTURES_IN_BATCH, Encoder
from retriever.errors import InvalidData, InvalidDocument
from retriever.files import read_plain_file, replace_file, written_for
from retriever.pictures import open_picture
from retriever.towers import Role

T = TypeVar("T")
Vectors = NDArray[np.float32]
# What is being done; how much of it is done, of how much.
Progress = Callable[[str, int, int], None]

# What a kill costs at most: some ten seconds of encoding passages, or a minute of pictures, on two cores.
TEXTS_IN_CHUNK = 2_048
PICTURES_IN_CHUNK = 256
CHECKSUM = 16


def cache() -> Path:
    """The folder of what evaluations made; all of it may be deleted."""
    return models.cache_folder() / "evaluation"


class CachedEncoder:
    """An encoder whose vectors are kept in the cache folder. It is loaded when something isn't there yet.

    model: an encoder, or the name of one. Raises ModelUnavailable, MissingDependency.
    """

    def __init__(self, model: str | Path | Encoder) -> None:
        how: Encoder | models.Conventions
        if isinstance(model, Encoder):
            how = self.encoder = model
            self.name, self.fingerprint = model.name, model.fingerprint
        else:
            located = models.locate(model)
            how = models.conventions(located)
            self.name, self.fingerprint = located.name, models.fingerprint(located, how)
        self.similarity, self.query_prompt, self.document_prompt = how.similarity, how.query_prompt, how.document_prompt
        self._folder = cache() / self.fingerprint

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder itself, loaded at the first use."""
        return Encoder.load(self.name)

    def encode(self, items: Items, role: Role, progress: Progress = lambda *_: None) -> Vectors:
        """The vectors of items, (N, D), float32: of texts as queries or documents, or of pictures.

        Raises UnsupportedModality, InvalidData for a picture that can't be opened, OutputError where the cache can't be
        written to.
        """
        vectors: Vectors | None = None
        done = 0
        for chunk in self._chunks(items, role):
            if vectors is None:
                vectors = np.empty((len(items), chunk.shape[1]), np.float32)
            vectors[done : done + len(chunk)] = chunk
            done += len(chunk)
            progress(f"{self.name}: {'pictures' if items.pictures else f'{role} texts'}", done, len(items))
        return np.empty((0, self.encoder.dimension), np.float32) if vectors is None else vectors

    def _chunks(self, items: Items, role: Role) -> Iterator[Vectors]:
        if items.pictures:
            for pictures in _parts(items.pictures, PICTURES_IN_CHUNK):
                contents = read_pictures(pictures)
                make = partial(self._encode_pictures, pictures, contents)
                yield self._kept(_key("image", contents), len(pictures), make)
        else:
            for texts in _parts(items.contents, TEXTS_IN_CHUNK):
                key = _key(role, [text.encode("utf-8", "surrogatepass") for text in texts])
                yield self._kept(key, len(texts), partial(self._encode_texts, texts, role))

    def _kept(self, key: str, count: int, make: Callable[[], Vectors]) -> Vectors:
        """The vectors under a key, (count, D); made where they aren't there or are damaged."""
        file = self._folder / key
        vectors = _unpacked(read_plain_file(file))
        if vectors is None or len(vectors) != count:
            vectors = make()
            with written_for(file):
                self._folder.mkdir(parents=True, exist_ok=True)
                replace_file(file, _packed(vectors))
        return vectors

    def _encode_texts(self, texts: Sequence[str], role: Role) -> Vectors:
        encoder = self.encoder
        return (encoder.encode_queries(texts) if role == "query" else encoder.encode_documents(texts)).vectors

    def _encode_pictures(self, pictures: Sequence[Picture], contents: Sequence[bytes]) -> Vectors:
        """A batch at a time, so that no more of them are decoded at once."""
        batches = _parts(list(zip(pictures, contents, strict=True)), PICTURES_IN_BATCH)
        return np.concatenate([self.encoder.encode_images([_opened(*one) for one in batch]) for batch in batches])


def read_pictures(pictures: Sequence[Picture]) -> list[bytes]:
    """The pictures as their files or the members of their zips hold them. Raises InvalidData."""
    with contextlib.ExitStack() as stack:
        # A zip's directory is read when it is opened: once.
        archive = lru_cache(None)(lambda file: stack.enter_context(zipfile.ZipFile(file)))
        return [_read(picture, archive) for picture in pictures]


def _read(picture: Picture, archive: Callable[[Path], zipfile.ZipFile]) -> bytes:
    try:
        return picture.file.read_bytes() if picture.member is None else archive(picture.file).read(picture.member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidData(
            f"the picture {_place(picture)} can't be read: {reason}", hint="get the pictures again", path=picture.file
        ) from None


def _opened(picture: Picture, content: bytes) -> Image:
    try:
        return open_picture(content)
    except InvalidDocument as error:
        raise InvalidData(f"{_place(picture)}: {error}", hint="get the pictures again", path=picture.file) from None


def _place(picture: Picture) -> str:
    return picture.file.name if picture.member is None else f"{picture.file.name}:{picture.member}"


def _parts(members: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (members[start : start + size] for start in range(0, len(members), size))


def _key(kind: str, contents: Sequence[bytes]) -> str:
    """What names a chunk: a hash over what its vectors depend on beside the encoder."""
    h = hashlib.blake2b(kind.encode(), digest_size=20)
    for content in contents:
        h.update(len(content).to_bytes(8, "little") + content)
    return h.hexdigest()


def _packed(vectors: Vectors) -> bytes:
    stream = io.BytesIO()
    np.save(stream, vectors)
    return _checksum(stream.getvalue()) + stream.getvalue()


def _unpacked(content: bytes | None) -> Vectors | None:
    """None where it isn't what `_packed` made."""
    if content is None or _checksum(content[CHECKSUM:]) != content[:CHECKSUM]:
        return None
    vectors: Vectors = np.load(io.BytesIO(content[CHECKSUM:]))
    return vectors


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()
