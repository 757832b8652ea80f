"""Multi30K: descriptions of Flickr30k's pictures in four languages. Elliott et al. 2016 (arXiv 1605.00459).

Two layouts: the publisher's `data/task1`, files `raw/<split>.<language>` whose lines belong to those of
`image_splits/<split>.txt`; and `<split>.jsonl`, a picture a line with its captions. The captions are task 1's,
which are translations of one description, so that the languages are parallel. Pictures are found as for XTD.
"""

from collections.abc import Sequence
from pathlib import Path

from eval.datasets.captions import Captioned, dataset
from eval.datasets.files import Folder, Line, tag_of
from eval.datasets.options import wanted_splits
from eval.datasets.xtd import of_lines, of_manifest
from eval.tasks import Dataset
from retriever.errors import InvalidData

SPLIT = "test_2016_flickr"


def read(
    path: Path,
    *,
    split: str | None = None,
    languages: Sequence[str] | None = None,
    pairs: Sequence[str] | None = None,
    text_only: bool = False,
) -> list[Dataset]:
    """A dataset for each split. split: `test_2016_flickr` where it is None, several with commas. The others: see
    `xtd.read`.
    """
    with_pictures = pairs is None and not text_only
    return [
        dataset(_read(Folder(path), one, languages, with_pictures=with_pictures), pairs)
        for one in wanted_splits(split, SPLIT)
    ]


def _read(folder: Folder, split: str, languages: Sequence[str] | None, *, with_pictures: bool) -> Captioned:
    name = f"{folder.name}-{split}"
    if folder.has(f"{split}.jsonl"):
        return of_manifest(folder, f"{split}.jsonl", languages, name=name, with_pictures=with_pictures)
    files = {tag_of(_anywhere(folder, file), Path(file).suffix[1:]): file for file in folder.matching(f"raw/{split}.*")}
    if not files:
        raise InvalidData(f"{folder.name} has no split {split}", hint=_hint(folder), path=folder.path)
    names = f"image_splits/{split}.txt"
    return of_lines(folder, names, files, languages, name=name, with_pictures=with_pictures)


def _anywhere(folder: Folder, file: str) -> Line:
    return Line(f"{folder.name}/{file}", 1, "", folder.path / file)


def _hint(folder: Folder) -> str:
    splits = {Path(file).stem for pattern in ("*.jsonl", "raw/*.*") for file in folder.matching(pattern)}
    return f"it has {', '.join(sorted(splits))}" if splits else "give the folder of the .jsonl files, or data/task1"
