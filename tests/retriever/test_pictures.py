"""Pictures: opening, refusing, thumbnails."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retriever import pictures
from retriever.errors import InvalidDocument
from retriever.pictures import check_picture, media_type, open_picture, thumbnail


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def two_halves() -> Image.Image:
    picture = Image.new("RGB", (32, 16), "red")
    picture.paste("blue", (16, 0, 32, 16))
    return picture


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_every_format_opens_as_rgb_from_bytes_and_from_a_file(tmp_path, kind):
    data = encoded(two_halves(), kind)
    (tmp_path / "picture").write_bytes(data)
    for source in (data, tmp_path / "picture"):
        check_picture(source)
        assert media_type(source) == f"image/{kind.lower()}"
        picture = open_picture(source)
        assert (picture.mode, picture.size) == ("RGB", (32, 16))
        red, _, blue = (int(channel) for channel in picture.getpixel((4, 8)))
        assert red > 200 > 60 > blue


MODES = {
    "grey": (Image.new("L", (4, 4), 128), "PNG", (128, 128, 128)),
    "one bit": (Image.new("1", (4, 4), 1), "PNG", (255, 255, 255)),
    "palette": (
        Image.new("RGB", (4, 4), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE),
        "PNG",
        (10, 20, 30),
    ),
    "16-bit grey": (Image.fromarray(np.full((4, 4), 128 << 8, np.uint16)), "PNG", (128, 128, 128)),
    "32-bit grey": (Image.fromarray(np.array([[0, 65535], [65535, 0]], np.int32)), "TIFF", (0, 0, 0)),
    "float grey": (Image.fromarray(np.full((4, 4), 128, np.float32)), "TIFF", (128, 128, 128)),
    "CMYK": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
    "transparent": (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG", (255, 255, 255)),
    "half transparent": (Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG", (127, 127, 127)),
    "transparent grey": (Image.new("LA", (4, 4), (0, 0)), "PNG", (255, 255, 255)),
}


@pytest.mark.parametrize(("picture", "kind", "colour"), MODES.values(), ids=MODES)
def test_every_mode_becomes_rgb_with_transparency_on_white(picture, kind, colour):
    opened = open_picture(encoded(picture, kind))
    assert (opened.mode, opened.getpixel((0, 0))) == ("RGB", colour)


def test_a_picture_is_turned_as_its_orientation_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    picture = open_picture(encoded(two_halves(), "JPEG", exif=exif, quality=95))
    assert picture.size == (16, 32)
    assert picture.getpixel((8, 4))[0] > 200
    assert picture.getpixel((8, 28))[2] > 200


def test_damaged_camera_notes_do_not_refuse_a_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(two_halves(), "JPEG", exif=exif).replace(b"Exif\0\0MM\0*", b"Exif\0\0MM\0\xff")
    check_picture(data)
    assert open_picture(data).size == (32, 16)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), "blue")]
    data = encoded(Image.new("RGB", (8, 8), "red"), kind, save_all=True, append_images=frames)
    assert open_picture(data).getpixel((4, 4))[0] > 200


def png_header(width: int, height: int) -> bytes:
    """A PNG that states its size and ends where its pixels would begin."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\xff\xffIDAT"
    )


BAD = {
    "nothing": (b"", "it is none of JPEG, PNG"),
    "text": (b"not a picture", "it is none of JPEG, PNG"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is none of JPEG, PNG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is none of JPEG, PNG"),
    "more pixels": (png_header(8001, 8000), "it has 8,001 x 8,000 pixels, more than 64,000,000"),
    "a bomb": (png_header(100_000, 100_000), "it has more than 64,000,000 pixels"),
}


# WebP's container is checked as a whole, and refused.
@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_no_later_frame_is_decoded_so_that_damage_there_is_never_met(kind):
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    first, *others = [Image.fromarray(frame) for frame in noise]
    data = encoded(first, kind, save_all=True, append_images=others)
    half = len(data) // 2
    assert np.array_equal(open_picture(data[:half] + bytes(len(data) - half)), open_picture(data))


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("function", [open_picture, check_picture, media_type])
def test_what_is_no_picture_is_an_invalid_document(function, data, reason):
    with pytest.raises(InvalidDocument, match="unreadable picture: ") as caught:
        function(data)
    assert reason in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_half_a_picture_is_found_when_it_is_opened(kind):
    half = encoded(Image.effect_noise((64, 64), 50), kind)[:900]
    check_picture(half)
    with pytest.raises(InvalidDocument, match=r"unreadable picture: .*truncated"):
        open_picture(half)


def test_a_file_that_is_missing_or_too_large_is_an_invalid_document(tmp_path, monkeypatch):
    with pytest.raises(InvalidDocument, match="there is no file"):
        open_picture(tmp_path / "missing.png")
    with pytest.raises(InvalidDocument, match="there is no file"):
        open_picture(tmp_path)
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.png").write_bytes(encoded(two_halves(), "PNG"))
    with pytest.raises(InvalidDocument, match=r"its file has \d+ bytes, more than 10"):
        open_picture(tmp_path / "a.png")


SEEDS = [encoded(two_halves(), kind) for kind in pictures.FORMATS]


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6))
def test_damaged_bytes_are_a_picture_or_an_invalid_document_and_never_warn(data, changes):
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(data)] = value
    try:
        picture = open_picture(bytes(damaged))
    except InvalidDocument:
        return
    check_picture(bytes(damaged))
    assert picture.mode == "RGB"


def test_warnings_come_back_after_pictures_were_opened_in_many_threads():
    before = list(warnings.filters)
    data = encoded(two_halves(), "PNG")
    threads = [threading.Thread(target=lambda: [open_picture(data) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_a_thumbnail_is_webp_within_the_size_and_leaves_the_picture_alone():
    picture = Image.new("RGB", (1000, 500), "green")
    small = Image.open(io.BytesIO(thumbnail(picture)))
    assert (small.format, small.size, picture.size) == ("WEBP", (384, 192), (1000, 500))
    assert Image.open(io.BytesIO(thumbnail(picture, 100))).size == (100, 50)
    assert Image.open(io.BytesIO(thumbnail(Image.new("RGB", (20, 10))))).size == (20, 10)
