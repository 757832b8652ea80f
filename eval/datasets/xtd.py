"""XTD: a test set of captions in eleven languages. Aggarwal & Kale 2020 (arXiv 2012.05107).

Two layouts: the publisher's, files `test_1kcaptions_<language>.txt` whose lines belong to those of
`test_image_names.txt`; and a `manifest.jsonl`, a picture a line with its captions, several or none in a language.
Pictures, where they are at hand, lie below the folder or in a zip in it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.datasets import pictures
from eval.datasets.captions import Captioned, dataset
from eval.datasets.files import Folder, Line, identifier_of, same_length, tag_of, text_of
from eval.datasets.options import wanted_languages
from eval.tasks import Dataset
from retriever.errors import InvalidData

MANIFEST = "manifest.jsonl"
_FILES = "test_1kcaptions_"
_NAMES = "test_image_names.txt"
_CAPTIONS = 'captions are {"en": "…"} or {"en": ["…", "…"]}'


def read(
    path: Path,
    *,
    languages: Sequence[str] | None = None,
    pairs: Sequence[str] | None = None,
    text_only: bool = False,
) -> list[Dataset]:
    """One dataset. languages: which captions are read. pairs: `de-en` asks in German for English captions. text_only:
    captions alone, also where there are pictures, which the pairs do as well.

    Raises InvalidData with file, line and id, InvalidRequest for languages that aren't there.
    """
    folder, with_pictures = Folder(path), pairs is None and not text_only
    if folder.has(MANIFEST):
        data = of_manifest(folder, MANIFEST, languages, name=folder.name, with_pictures=with_pictures)
    elif folder.matching(f"**/{_FILES}*.txt"):
        data = _of_files(folder, languages, with_pictures=with_pictures)
    else:
        raise InvalidData(
            f"{folder.name} has neither {MANIFEST} nor {_FILES}en.txt", hint="give the folder of XTD", path=path
        )
    return [dataset(data, pairs)]


# -- the publisher's files


def _of_files(folder: Folder, languages: Sequence[str] | None, *, with_pictures: bool) -> Captioned:
    names = folder.matching(f"**/{_NAMES}")
    if len(names) != 1:
        raise InvalidData(
            f"{folder.name} has {len(names)} files {_NAMES}",
            hint="one names the pictures, a line each",
            path=folder.path,
        )
    files = _by_language(folder)
    return of_lines(folder, names[0], files, languages, name=folder.name, with_pictures=with_pictures)


def _by_language(folder: Folder) -> dict[str, str]:
    """Language -> its file."""
    files: dict[str, str] = {}
    for name in folder.matching(f"**/{_FILES}*.txt"):
        code = Path(name).stem.removeprefix(_FILES)
        # As the publisher names Japanese.
        tag = "ja" if code == "jp" else tag_of(Line(f"{folder.name}/{name}", 1, "", folder.path / name), code)
        if tag in files:
            raise InvalidData(f"{folder.name} has {files[tag]} and {name}", hint="a language has one file")
        files[tag] = name
    return dict(sorted(files.items()))


def of_lines(
    folder: Folder, names: str, files: Mapping[str, str], languages: Sequence[str] | None, *, name: str,
    with_pictures: bool,
) -> Captioned:  # fmt: skip
    """Of files whose lines belong together: a file that names the pictures, and one for each language."""
    kept = wanted_languages(languages, list(files), folder.name)
    lines = {file: folder.texts(file) for file in [names, *(files[language] for language in kept)]}
    same_length(lines)
    images = [(line.text.strip().partition("#")[0], line) for line in lines[names]]
    _check_once(images)
    captions = {language: [(line.text.strip(),) for line in lines[files[language]]] for language in kept}
    found = pictures.find(folder, images) if with_pictures else ()
    return Captioned(name, tuple(image for image, _ in images), captions, found, folder.checksums)


def _check_once(images: Sequence[tuple[str, Line]]) -> None:
    seen: set[str] = set()
    for image, line in images:
        if image in seen:
            raise line.error(f"{image} was there before", "a picture comes once")
        seen.add(image)


# -- a manifest


def of_manifest(
    folder: Folder, file: str, languages: Sequence[str] | None, *, name: str, with_pictures: bool
) -> Captioned:
    """Of a JSON Lines file with `id`, `image` and `captions`."""
    rows: dict[str, dict[str, tuple[str, ...]]] = {}
    images: list[tuple[str, Line]] = []
    for line, record in folder.records(file):
        identifier = identifier_of(line, record)
        if identifier in rows:
            raise line.error(f"{identifier} was there before", "an id comes once")
        rows[identifier] = _captions(line, identifier, record)
        images.append((text_of(line, record, "image"), line))
    there = sorted({language for captions in rows.values() for language in captions})
    if not there:
        raise InvalidData(f"{folder.name}/{file} has no captions", hint=_CAPTIONS, path=folder.path)
    kept = wanted_languages(languages, there, folder.name)
    captions = {language: [row.get(language, ()) for row in rows.values()] for language in kept}
    found = pictures.find(folder, images) if with_pictures else ()
    return Captioned(name, tuple(rows), captions, found, folder.checksums)


def _captions(line: Line, identifier: str, record: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    given = record.get("captions")
    if not isinstance(given, dict):
        raise line.error(f"{identifier} has no captions", _CAPTIONS)
    captions: dict[str, tuple[str, ...]] = {}
    for code, texts in given.items():
        tag = tag_of(line, code)
        if tag in captions:
            raise line.error(f"{identifier} has captions in {tag} twice", "another of its languages means the same")
        several = (texts,) if isinstance(texts, str) else tuple(texts) if isinstance(texts, list) else (None,)
        if not all(isinstance(text, str) and text.strip() for text in several):
            raise line.error(f"{identifier} has a caption in {tag} that is empty or no text", _CAPTIONS)
        captions[tag] = several
    return {tag: texts for tag, texts in captions.items() if texts}
