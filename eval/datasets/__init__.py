"""Datasets in their publishers' layouts, one module each: docs/datasets.md."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.datasets import beir, code, multi30k, tatoeba, xquad_r, xtd
from eval.tasks import Dataset
from retriever.errors import InvalidRequest

_READERS: dict[str, Callable[..., list[Dataset]]] = {
    "beir": beir.read,
    "xtd": xtd.read,
    "multi30k": multi30k.read,
    "tatoeba": tatoeba.read,
    "xquad-r": xquad_r.read,
    "code": code.read,
}
KINDS: tuple[str, ...] = tuple(_READERS)


def options(kind: str) -> tuple[str, ...]:
    """The options of a kind, of those that `read` has."""
    return tuple(inspect.signature(_READERS[kind]).parameters)[1:]


def read(
    kind: str,
    paths: Sequence[Path],
    *,
    split: str | None = None,
    languages: Sequence[str] | None = None,
    pairs: Sequence[str] | None = None,
    pools: bool = False,
    text_only: bool = False,
) -> list[Dataset]:
    """The datasets of folders, which are read with the same options; each reader says what they mean to it.

    Raises InvalidData with file, line and id for what can't be read; InvalidRequest for an option that the kind doesn't
    know, and two datasets of one name.
    """
    named = {
        "split": split,
        "languages": languages,
        "pairs": pairs,
        "pools": pools or None,
        "text_only": text_only or None,
    }
    given = {name: value for name, value in named.items() if value is not None}
    known = options(kind)
    for name in given:
        if name not in known:
            raise InvalidRequest(f"{kind} has no option {name}", hint=f"it has {', '.join(known)}")
    datasets = [dataset for path in paths for dataset in _READERS[kind](path, **given)]
    names = [dataset.name for dataset in datasets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidRequest(f"two datasets are named {twice.pop()}", hint="a dataset is named as its folder")
    return datasets
