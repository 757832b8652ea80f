"""Vectors that are made once: what is kept, for how long, and what a kill leaves."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval import vectors
from eval.tasks import Items, Picture
from eval.vectors import CachedEncoder
from retriever import Encoder
from retriever.errors import InvalidData, UnsupportedModality


def texts(*contents, **others):
    return Items(tuple(f"i{place}" for place in range(len(contents))), contents, **others)


def kept(cache):
    return sorted(path for path in (cache / "evaluation").rglob("*") if path.is_file())


def refuse(*_, **__):
    raise AssertionError("an encoder was loaded")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(vectors, "TEXTS_IN_CHUNK", 3)
    monkeypatch.setattr(vectors, "PICTURES_IN_CHUNK", 2)


def test_vectors_are_those_of_the_encoder_in_order(cache, model, small_chunks):
    items = texts("one", "two", "three", "four", titles=("", "a title", "", ""))
    got = CachedEncoder(model).encode(items, "document")
    expected = Encoder.load(model).encode_documents(["one", "a title two", "three", "four"]).vectors
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_second_time_no_encoder_is_loaded(cache, model, small_chunks, monkeypatch):
    items = texts("one", "two", "three", "four")
    first = CachedEncoder(model).encode(items, "query")
    monkeypatch.setattr(Encoder, "load", refuse)
    again = CachedEncoder(model)
    assert np.array_equal(again.encode(items, "query"), first)


def test_an_encoder_that_is_loaded_already_is_the_same_as_its_name(cache, model, monkeypatch):
    loaded = Encoder.load(model)
    first = CachedEncoder(loaded).encode(texts("one"), "query")
    monkeypatch.setattr(Encoder, "load", refuse)
    assert np.array_equal(CachedEncoder(model).encode(texts("one"), "query"), first)


def test_roles_are_kept_apart(cache, model):
    encoder = CachedEncoder(model)
    encoder.encode(texts("one"), "query")
    encoder.encode(texts("one"), "document")
    assert len(kept(cache)) == 2


def test_texts_that_join_to_the_same_are_not_the_same(cache, model):
    encoder = CachedEncoder(model)
    one, other = encoder.encode(texts("ab", "c"), "query"), encoder.encode(texts("a", "bc"), "query")
    assert not np.allclose(one, other)


def test_encoding_that_was_stopped_goes_on_after_the_last_whole_chunk(cache, model, small_chunks):
    items = texts(*"abcdefgh")

    def stop(what, done, of):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(model).encode(items, "query", stop)
    before = {path: path.stat().st_mtime_ns for path in kept(cache)}
    assert len(before) == 2
    whole = CachedEncoder(model).encode(items, "query")
    assert before.items() <= {path: path.stat().st_mtime_ns for path in kept(cache)}.items()
    np.testing.assert_allclose(whole, Encoder.load(model).encode_queries(list("abcdefgh")).vectors, atol=1e-6)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content[:-1] + b"\xff", lambda _: b""]
)
def test_a_damaged_chunk_is_encoded_again(cache, model, damage):
    first = CachedEncoder(model).encode(texts("one", "two"), "query")
    [file] = kept(cache)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert np.array_equal(CachedEncoder(model).encode(texts("one", "two"), "query"), first)
    assert file.read_bytes() == whole


def test_progress_counts_to_the_number_of_items(cache, model, small_chunks):
    told = []
    CachedEncoder(model).encode(texts(*"abcde"), "query", lambda *step: told.append(step[1:]))
    assert told == [(3, 5), (5, 5)]


# -- pictures


def png(colour):
    data = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(data, "PNG")
    return data.getvalue()


COLOURS = ((200, 20, 20), (20, 200, 20), (20, 20, 200))


def test_pictures_of_a_folder_and_of_a_zip_are_encoded_alike(cache, towers, tmp_path, small_chunks):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for place, colour in enumerate(COLOURS):
            (tmp_path / f"{place}.png").write_bytes(png(colour))
            archive.writestr(f"in/{place}.png", png(colour))
    encoder = CachedEncoder(towers)
    ids = ("0", "1", "2")
    loose = encoder.encode(Items(ids, pictures=tuple(Picture(tmp_path / f"{i}.png") for i in ids)), "document")
    files = len(kept(cache))
    members = tuple(Picture(tmp_path / "all.zip", f"in/{i}.png") for i in ids)
    assert np.array_equal(encoder.encode(Items(ids, pictures=members), "query"), loose)
    assert len(kept(cache)) == files  # the same pictures, wherever they lie
    expected = Encoder.load(towers).encode_images([Image.open(io.BytesIO(png(colour))) for colour in COLOURS])
    np.testing.assert_allclose(loose, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (Picture(Path("nowhere.png")), "nowhere.png"),
        (Picture(Path("a.zip"), "inside.png"), "a.zip:inside.png"),
        (Picture(Path("broken.zip"), "inside.png"), "broken.zip:inside.png"),
        (Picture(Path("text.png")), "text.png"),
    ],
)
def test_a_picture_that_cannot_be_opened_is_named(cache, towers, tmp_path, monkeypatch, picture, says):
    monkeypatch.chdir(tmp_path)
    zipfile.ZipFile(tmp_path / "a.zip", "w").close()
    (tmp_path / "broken.zip").write_bytes(b"PK")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InvalidData, match=says):
        CachedEncoder(towers).encode(Items(("1",), pictures=(picture,)), "document")


def test_a_text_encoder_says_that_it_sees_no_pictures(cache, model, tmp_path):
    (tmp_path / "1.png").write_bytes(png(COLOURS[0]))
    with pytest.raises(UnsupportedModality):
        CachedEncoder(model).encode(Items(("1",), pictures=(Picture(tmp_path / "1.png"),)), "document")
