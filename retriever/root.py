"""A folder of collections and the aliases beside them.

<root>/<collection>/collection.sqlite …    <root>/aliases.json   {"alias": "collection"}, replaced atomically
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from retriever.collection import Collection
from retriever.encoder import Encoder
from retriever.errors import (
    CollectionExists,
    CorruptCollection,
    InvalidName,
    NoReranker,
    StorageFailed,
    UnknownCollection,
    UnsupportedFormat,
)
from retriever.files import discard, locked, read_plain_file, replace_file
from retriever.rerank import Reranker
from retriever.snapshots import Manifest, restore
from retriever.store import FILE_NAME, Store

ALIASES = "aliases.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# A collection's folder would be in the way of these files beside it.
RESERVED = frozenset({ALIASES, "keys.json"})


class Root:
    """The collections of one folder. Encoders are loaded once and shared by the collections opened through it.

    reranker: the name of a cross-encoder, or None; the attribute `reranker_name` tells it. memory: bytes that building
    a dense index may take, None for half of what is available. gpu_memory: bytes that vectors may take on a GPU, None
    for half of what is free, 0 for no use of it. Safe to use from several threads.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        reranker: str | None = None,
        memory: int | None = None,
        gpu_memory: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.memory = memory
        self.gpu_memory = gpu_memory
        self._encoders: dict[str, Encoder] = {}
        self.reranker_name = reranker
        self._reranker: Reranker | None = None
        self._loading = threading.Lock()

    def names(self) -> list[str]:
        """The names of all collections, sorted."""
        if not self.path.is_dir():
            return []
        found = (path.parent.name for path in self.path.glob(f"[!.]*/{FILE_NAME}"))
        return sorted(name for name in found if _is_name(name) and self.exists(name))

    def aliases(self) -> dict[str, str]:
        """Alias -> name of its collection. Raises StorageFailed where their file can't be read or is damaged."""
        path = self.path / ALIASES
        text = read_plain_file(path)
        try:
            return {} if text is None else {alias: str(name) for alias, name in orjson.loads(text).items()}
        except (ValueError, AttributeError):
            raise StorageFailed(
                f"{ALIASES} is damaged", hint='it is an object of names, {"alias": "collection"}: mend it', path=path
            ) from None

    def resolve(self, name: str) -> str:
        """The collection that a name or an alias stands for. Raises UnknownCollection, InvalidName."""
        target = self.aliases().get(checked_name(name), name)
        if not self.exists(target):
            known = ", ".join([*self.names(), *self.aliases()]) or "none yet"
            raise UnknownCollection(f"no collection {name!r}", hint=f"there are: {known}", path=self.path)
        return target

    def exists(self, name: str) -> bool:
        """Whether there is a collection of this very name. A link doesn't count: it could leave the root."""
        file = self.path / checked_name(name) / FILE_NAME
        return not file.parent.is_symlink() and not file.is_symlink() and file.is_file()

    def create(self, name: str, *, encoder: Encoder | None, **settings: Any) -> Collection:  # noqa: ANN401 - Collection.create's
        """Make an empty collection; settings as for `Collection.create`. Raises CollectionExists, InvalidName."""
        if name in self.aliases():
            raise CollectionExists(f"{name} is an alias of {self.aliases()[name]}", hint="choose another name")
        folder = self.path / checked_name(name)
        return Collection.create(
            folder, encoder=encoder, reranker=self._reranker_loader(), memory=self.memory, gpu_memory=self.gpu_memory,
            **settings,
        )  # fmt: skip

    def open(self, name: str, *, encoder: Encoder | None = None, background: bool = True) -> Collection:
        """Open a collection by its name or an alias; errors as for `resolve` and `Collection.open`."""
        folder = self.path / self.resolve(name)
        return Collection.open(
            folder, encoder=encoder, loader=self.load_encoder, reranker=self._reranker_loader(), memory=self.memory,
            gpu_memory=self.gpu_memory, background=background,
        )  # fmt: skip

    def drop(self, name: str) -> None:
        """Delete a collection with all its files, and the aliases that stand for it."""
        if name in self.aliases():
            raise InvalidName(
                f"{name} is an alias of {self.aliases()[name]}",
                hint=f"drop {self.aliases()[name]}, or remove the alias",
            )
        folder = self.path / self.resolve(name)
        with _alone_if_sound(folder), locked(self.path / ".aliases.lock", wait=True):
            self._write_aliases({alias: target for alias, target in self.aliases().items() if target != name})
            discard(folder)
        discard(sibling_of(folder))

    def restore(self, path: Path | str, name: str) -> Manifest:
        """Make the collection `name` from a snapshot file, whatever it was called there.

        Raises CollectionExists, InvalidName, InvalidSnapshot, UnsupportedFormat, OutputError.
        """
        if name in self.aliases():
            raise CollectionExists(f"{name} is an alias of {self.aliases()[name]}", hint="choose another name")
        folder = self.path / checked_name(name)
        self.path.mkdir(parents=True, exist_ok=True)
        return restore(Path(path), folder)

    def set_alias(self, alias: str, name: str) -> None:
        """Have an alias stand for a collection from now on, atomically. Raises CollectionExists, UnknownCollection."""
        if self.exists(alias):
            raise CollectionExists(f"{alias} is a collection", hint="choose another alias")
        target = self.resolve(name)
        with locked(self.path / ".aliases.lock", wait=True):
            # Again, where nobody can drop it: no alias is left without its collection.
            target = self.resolve(target)
            self._write_aliases({**self.aliases(), alias: target})

    def remove_alias(self, alias: str) -> None:
        """Forget an alias. Raises UnknownCollection."""
        with locked(self.path / ".aliases.lock", wait=True):
            aliases = self.aliases()
            if alias not in aliases:
                raise UnknownCollection(f"no alias {alias!r}", path=self.path)
            del aliases[alias]
            self._write_aliases(aliases)

    def loaded_encoder(self, name: str) -> Encoder | None:
        """An encoder by name if it has been loaded."""
        return self._encoders.get(name)

    def load_encoder(self, name: str) -> Encoder:
        """An encoder by name, loaded once; who wants another one waits meanwhile, unless it is there already.

        Raises ModelUnavailable, MissingDependency.
        """
        if (loaded := self.loaded_encoder(name)) is not None:
            return loaded
        with self._loading:
            if name not in self._encoders:
                self._encoders[name] = Encoder.load(name)
            return self._encoders[name]

    def reranker(self) -> Reranker:
        """The cross-encoder, loaded at the first call. Raises NoReranker where none was named, ModelUnavailable."""
        if self.reranker_name is None:
            raise NoReranker("no reranker is configured", hint="name a cross-encoder in POLYSEEK_RERANKER")
        if self._reranker is None:
            with self._loading:
                self._reranker = self._reranker or Reranker.load(self.reranker_name)
        return self._reranker

    def _reranker_loader(self) -> Callable[[], Reranker] | None:
        return None if self.reranker_name is None else self.reranker

    def _write_aliases(self, aliases: dict[str, str]) -> None:
        replace_file(self.path / ALIASES, orjson.dumps(aliases, option=orjson.OPT_SORT_KEYS))


def sibling_of(folder: Path) -> Path:
    """The folder in which a collection is encoded anew, before it takes the collection's name."""
    return folder.with_name(f".{folder.name}.migrating")


@contextlib.contextmanager
def alone(folder: Path, store: Store) -> Iterator[None]:
    """Keep writers and the keeper of the derived indices out of a collection, for its folder to change its name.

    Whoever waited meets CollectionReplaced; without the lock it would write into whatever has the name by then.
    """
    with locked(folder / "keeper.lock", wait=True), store.exclusive():
        yield


@contextlib.contextmanager
def _alone_if_sound(folder: Path) -> Iterator[None]:
    """`alone`, unless the store can't be opened: a damaged collection is one that has to be dropped."""
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(contextlib.closing(Store.open(folder / FILE_NAME)))
            stack.enter_context(alone(folder, store))
        except (CorruptCollection, UnsupportedFormat, StorageFailed):
            pass
        yield


def checked_name(name: str) -> str:
    """A name that can be a folder of the root and nothing else. Raises InvalidName."""
    if not _is_name(name):
        raise InvalidName(
            f"not a name for a collection: {name!r:.80}",
            hint="use 1 to 64 letters of ASCII, digits, '_', '-' and '.', beginning with a letter or digit; "
            f"{' and '.join(sorted(RESERVED))} are taken",
        )
    return name


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None and name not in RESERVED
