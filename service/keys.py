"""Keys of the service: made by `polyseek keys`, kept as digests in <root>/keys.json, looked up at every request.

A key is `psk_<id>_<secret>`. Its secret is 256 random bits, which nobody can search through: a plain SHA-256 of it is
safe to keep, and the slow hashes that passwords need would only cost every request their time.
"""

import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from retriever.errors import InvalidRequest, PolyseekError, StorageFailed
from retriever.files import locked, read_plain_file, replacing

Scope = Literal["read", "write"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
FILE_NAME = "keys.json"
# The id of the key that comes from the settings (`api_key`); no key in the file has it.
FROM_SETTINGS = "api_key"

_FORM = re.compile(rb"psk_([0-9a-f]{8})_[\w-]+")

log = logging.getLogger("polyseek.service")


class Key(BaseModel):
    """A key without its secret. sha256: of the whole key, in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    name: str
    scopes: Annotated[frozenset[Scope], PlainSerializer(sorted)] = Field(min_length=1)
    created: AwareDatetime
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[Key]


def new_key(root: Path, name: str, scopes: Iterable[Scope]) -> tuple[Key, str]:
    """Make a key; the text is what its holder sends, and can't be had again. Raises StorageFailed."""
    with _changing(root) as keys:
        identifier = next(made for made in iter(lambda: secrets.token_hex(4), None) if made not in keys)
        text = f"psk_{identifier}_{secrets.token_urlsafe(32)}"
        key = Key(
            id=identifier,
            name=name,
            scopes=frozenset(scopes),
            created=datetime.now(UTC).replace(microsecond=0),
            sha256=_sha256(text.encode()).hex(),
        )
        keys[identifier] = key
    return key, text


def revoke_key(root: Path, identifier: str) -> Key:
    """Forget a key; a service over this root refuses it from the next request on. Raises InvalidRequest."""
    if (key := read_keys(root).get(identifier)) is None:
        raise InvalidRequest(f"there is no key {identifier!r}", hint="polyseek keys list shows the ids", path=root)
    with _changing(root) as keys:
        keys.pop(identifier, None)
    return key


def read_keys(root: Path) -> dict[str, Key]:
    """Keys by their ids; none where there is no file. Raises StorageFailed where it can't be read or is damaged."""
    path = root / FILE_NAME
    text = read_plain_file(path)
    try:
        return {} if text is None else {key.id: key for key in _File.model_validate_json(text).keys}
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise StorageFailed(
            f"{FILE_NAME} is damaged: {f'{place}: ' if place else ''}{fault['msg']}",
            hint="restore it from a backup; or remove it, which revokes every key, and run: polyseek keys new",
            path=path,
        ) from None


@contextlib.contextmanager
def _changing(root: Path) -> Iterator[dict[str, Key]]:
    """The keys, written back when the block ends, while no other process changes them."""
    path = root / FILE_NAME
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / ".keys.lock", wait=True):
            keys = read_keys(root)
            yield keys
            with replacing(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_text(_File(keys=list(keys.values())).model_dump_json(indent=1))
    except OSError as error:
        raise StorageFailed(
            f"{FILE_NAME} can't be written: {error.strerror or error}", hint="check who may write there", path=path
        ) from None


def _sha256(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a request comes from: the id of a key and its scopes."""

    id: str
    scopes: frozenset[Scope]


class Keys:
    """The keys that are valid now. A changed file counts from the next request on.

    A file that can't be read, or is damaged, takes no key away and lets nobody in: the keys read last stay, and
    `troubles` says why. Raises StorageFailed where it is so from the start. wanted: whether there ever was a key, or a
    file that may hold one.
    """

    def __init__(self, root: Path, api_key: str | None) -> None:
        self._root = root
        self._file = os.fspath(root / FILE_NAME)
        self._from_settings = None if api_key is None else _sha256(api_key.encode())
        self._seen = self._signature()
        self._keys = _by_id(read_keys(root))
        self._trouble: PolyseekError | None = None
        self.wanted = bool(self._keys) or api_key is not None

    def holder(self, text: bytes) -> Holder | None:
        """Whose key this text is, if anyone's, as of the last `refresh`.

        It takes as long for an unknown id as for a wrong secret.
        """
        digest = _sha256(text)
        form = _FORM.fullmatch(text)
        stored, holder = self._keys.get(form[1], _NOBODY) if form else _NOBODY
        named = hmac.compare_digest(digest, stored)
        from_settings = hmac.compare_digest(digest, self._from_settings or _UNKNOWN)
        if from_settings:
            return _SETTINGS_HOLDER
        return holder if named else None

    def troubles(self) -> list[str]:
        """Why the file's newest content isn't in force; nothing where it is."""
        self.refresh()
        return [] if self._trouble is None else [str(self._trouble)]

    def refresh(self) -> None:
        """Read the file again if it changed since; looking takes 2 µs."""
        if (signature := self._signature()) == self._seen:
            return
        self._seen = signature
        try:
            self._keys = _by_id(read_keys(self._root))
        except PolyseekError as error:
            self._trouble, self.wanted = error, True
            log.error("the keys read last stay valid: %s", error)  # noqa: TRY400 - no traceback for what a person did
            return
        self._trouble = None
        self.wanted |= bool(self._keys)

    def _signature(self) -> tuple[int, int, int] | None:
        """Another one for another content: the file is always replaced, and a new inode or time comes with that."""
        try:
            status = os.lstat(self._file)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


# What no text has as its digest, as far as anyone can tell.
_UNKNOWN = bytes(32)
_NOBODY = (_UNKNOWN, Holder("", frozenset()))
_SETTINGS_HOLDER = Holder(FROM_SETTINGS, frozenset(SCOPES))


def _by_id(keys: dict[str, Key]) -> dict[bytes, tuple[bytes, Holder]]:
    return {key.id.encode(): (bytes.fromhex(key.sha256), Holder(key.id, key.scopes)) for key in keys.values()}
