"""Pictures: from the bytes of a file to RGB pixels, and thumbnails of them.

Only formats that Pillow decodes by itself are opened (no program is ever started for one), within limits on the file
and on the pixels, which the header states before any are decoded.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from retriever.errors import InvalidDocument

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
MAX_FILE_BYTES = 50_000_000
# 64 million pixels are 192 MB as RGB.
MAX_PIXELS = 64_000_000


def open_picture(data: bytes | Path) -> "Image":
    """The picture as RGB, turned as its EXIF orientation says; the first frame of an animation.

    data: the encoded bytes, or the file that holds them. Transparent pixels are laid on white, 16 bits become 8.
    Raises InvalidDocument ("unreadable picture: …") for whatever isn't a picture of FORMATS within the limits.
    """
    with _opened(data) as picture:
        picture.load()
        return _rgb(_turned(picture))


def check_picture(data: bytes | Path) -> None:
    """Raise InvalidDocument where the picture's format or size already says that `open_picture` will refuse it.

    Hundreds of times cheaper than opening it; what is damaged further on is found when it is decoded.
    """
    with _opened(data):
        pass


def media_type(data: bytes | Path) -> str:
    """The picture's media type by its header, `image/jpeg` say. Raises InvalidDocument as `check_picture` does."""
    from PIL import Image

    with _opened(data) as picture:
        return Image.MIME[picture.format or ""]


def thumbnail(picture: "Image", size: int = 384) -> bytes:
    """The picture as WebP, its longer side at most `size` pixels; a smaller one keeps its size."""
    small = picture.copy()
    small.thumbnail((size, size), reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=80)
    return out.getvalue()


@contextlib.contextmanager
def _opened(data: bytes | Path) -> "Iterator[Image]":
    """The picture with its header read. Whatever goes wrong in the block as well becomes InvalidDocument."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet, _stream(data) as stream, Image.open(stream, formats=FORMATS) as picture:
            _check_pixels(picture)
            yield picture
    except _Refused as error:
        raise InvalidDocument(f"unreadable picture: {error}") from None
    except Image.DecompressionBombError:
        raise InvalidDocument(f"unreadable picture: it has more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise InvalidDocument(f"unreadable picture: it is none of {', '.join(FORMATS)}") from None
    except Exception as error:  # the decoders raise errors of a dozen kinds on damaged bytes
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidDocument(f"unreadable picture: {reason or type(error).__name__}") from None


class _Refused(Exception):
    """A picture outside the limits."""


def _check_pixels(picture: "Image") -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise _Refused(f"it has {picture.width:,} x {picture.height:,} pixels, more than {MAX_PIXELS:,} in all")


def _stream(data: bytes | Path) -> BinaryIO:
    if isinstance(data, bytes):
        size = len(data)
    elif data.is_file():
        size = data.stat().st_size
    else:
        raise _Refused(f"there is no file {data}")
    if size > MAX_FILE_BYTES:
        raise _Refused(f"its file has {size:,} bytes, more than {MAX_FILE_BYTES:,}")
    return io.BytesIO(data) if isinstance(data, bytes) else data.open("rb")


def _turned(picture: "Image") -> "Image":
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a camera's damaged notes say nothing against the pixels
        return picture


def _rgb(picture: "Image") -> "Image":
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in {"I", "F"}:
        picture = Image.fromarray(_eight_bits(np.asarray(picture)))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    canvas = Image.new("RGBA", layered.size, "white")
    canvas.alpha_composite(layered)
    return canvas.convert("RGB")


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey pixels of 16 bits by their upper byte; of 32 bits, which name no range, by the range that they have."""
    if pixels.dtype.itemsize == 2:
        return (pixels >> 8).astype(np.uint8)
    values = np.nan_to_num(pixels.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        return values.astype(np.uint8)
    return ((values - low) * (255 / (high - low or 1))).astype(np.uint8)


class _Quiet:
    """Silences Pillow's warnings while any thread is inside.

    Python's filters belong to the process: the first thread to enter saves them and the last one to leave restores
    them, where a `catch_warnings` of each thread's own would restore another's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.close()


_quiet = _Quiet()
