"""The files of a model folder: their digests, whether they are the ones expected, and whether they are safe to load."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from retriever.errors import ModelUnavailable
from retriever.files import in_root

# What describes a model but doesn't change its vectors, or holds it in a form that is never loaded.
_IGNORED_FOLDERS = frozenset({"onnx", "openvino", "coreml", "eval", "runs"})
_IGNORED_SUFFIXES = frozenset(
    {".md", ".png", ".jpg", ".svg", ".bin", ".h5", ".ot", ".msgpack", ".onnx", ".gitattributes"}
)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file that makes the model what it is, by its path within the folder."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") or part in _IGNORED_FOLDERS for part in relative.parts)
        if path.is_file() and not hidden and path.suffix not in _IGNORED_SUFFIXES:
            found[relative.as_posix()] = sha256(path)
    return found


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex. Raises ModelUnavailable where it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnavailable(
            f"{in_root(path)} can't be read: {error.strerror}",
            hint="install the package or copy the model again",
            path=path,
        ) from error


def check(folder: Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise ModelUnavailable unless each expected file was found with its digest."""
    for name, digest in expected.items():
        if found.get(name) != digest:
            raise ModelUnavailable(
                f"{in_root(folder / name)} has SHA-256 {found.get(name, 'none (missing)')}, expected {digest}",
                hint="its files were changed or copied in part: install the package, or copy the model, again",
                path=folder,
            )


def refuse_pickles(folder: Path) -> None:
    """Raise ModelUnavailable where weights are there as a pickle alone, which could run code when it is loaded."""
    for path in sorted(folder.rglob("pytorch_model*.bin")):
        if not any(path.parent.glob("*.safetensors")):
            raise ModelUnavailable(
                f"{in_root(path)} holds weights as a pickle, which could run code; only safetensors are loaded",
                hint="if you trust it, convert it and name the new folder: "
                "SentenceTransformer('FOLDER').save_pretrained('NEW-FOLDER')",
                path=path,
            )
