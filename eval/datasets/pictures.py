"""Where the pictures of a dataset are: below its folder, in folders or in zips that lie in it."""

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from eval.datasets.files import Folder, Line, checksum
from eval.tasks import Picture
from retriever.errors import InvalidData
from retriever.pictures import SUFFIXES


def find(folder: Folder, names: Sequence[tuple[str, Line]]) -> tuple[Picture, ...]:
    """The pictures of these names, each with the line that names it; () where none of them is there.

    The folders that they lie in don't count. The checksums get that of each zip, and one for all pictures in folders:
    of the lines `SHA-256  name`, in order. Raises InvalidData where some are missing or one is there twice.
    """
    there: dict[str, list[Picture]] = {}
    for picture in _pictures(folder):
        there.setdefault(PurePosixPath(picture.member or picture.file.name).name, []).append(picture)
    if not any(_base(name) in there for name, _ in names):
        return ()
    pictures = tuple(_only(there.get(_base(name), []), name, line) for name, line in names)
    _add_checksums(folder, pictures)
    return pictures


def _base(name: str) -> str:
    return PurePosixPath(name).name


def _pictures(folder: Folder) -> Iterator[Picture]:
    for path in sorted(folder.path.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield Picture(path)
    for path in sorted(folder.path.glob("*.zip")):
        yield from (Picture(path, member) for member in _members(path))


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if PurePosixPath(name).suffix.lower() in SUFFIXES]
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidData(f"{path.name} can't be read: {error}", hint="get the file again", path=path) from None


def _only(found: Sequence[Picture], name: str, line: Line) -> Picture:
    if not found:
        raise line.error(f"the picture {name} is missing", "others are there: get it, or move them all away")
    if len(found) > 1:
        raise line.error(f"the picture {name} is there {len(found)} times", "leave one in the folder or in its zips")
    return found[0]


def _add_checksums(folder: Folder, pictures: Sequence[Picture]) -> None:
    for path in sorted({picture.file for picture in pictures if picture.member}):
        folder.add(path)
    files = sorted(picture.file for picture in pictures if not picture.member)
    if files:
        lines = [f"{checksum(path)}  {path.relative_to(folder.path).as_posix()}\n" for path in files]
        folder.checksums["(pictures)"] = hashlib.sha256("".join(lines).encode()).hexdigest()
