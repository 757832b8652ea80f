"""Folders of pictures."""

import threading

import orjson
import pytest
from PIL import Image

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.readers import Reject, read


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "cats/a.png", ".hidden.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(path)
    return tmp_path / "pictures"


def test_each_picture_is_a_document_named_by_its_path(folder):
    first, second = read(folder)
    assert first == Document(id="b.jpg", image="b.jpg", modality="image")
    assert (second.id, second.image_file) == ("cats/a.png", folder / "cats/a.png")


def test_an_unreadable_picture_is_a_reject_and_the_others_are_read(folder):
    (folder / "a.gif").write_bytes(b"no picture")
    reject, *documents = read(folder)
    assert (reject.file, reject.id, reject.line) == (str(folder / "a.gif"), "a.gif", None)
    assert reject.reason.startswith("unreadable picture: ")
    assert len(documents) == 2


def test_captions_in_jsonl_are_found_in_the_folder_and_add_up(folder):
    records = [
        {"image": "cats/a.png", "captions": {"de": ["eins", "zwei"], "en": "one"}, "title": "Cat", "year": 2020},
        {"image": "b.jpg", "captions": {}},
        {"image": "./cats/a.png", "captions": {"de": "drei"}, "year": 2021},
    ]
    (folder / "captions.jsonl").write_bytes(b"\n".join(map(orjson.dumps, records)))
    first, second = read(folder)
    assert first.captions == {}
    assert second == Document(
        id="cats/a.png",
        title="Cat",
        image="cats/a.png",
        modality="image",
        captions={"de": ("eins", "zwei", "drei"), "en": ("one",)},
        metadata={"year": 2021},
    )


def test_captions_in_tsv_are_read_line_by_line_with_quotes_as_they_are(folder, tmp_path):
    captions = tmp_path / "elsewhere.tsv"
    captions.write_text('b.jpg\t"Ein" Ball\tde\r\n\nb.jpg\t"A ball\n', encoding="utf-8")
    first, second = read(folder, captions=captions)
    assert first.captions == {"de": ('"Ein" Ball',), "und": ('"A ball',)}
    assert second.captions == {}


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("captions.tsv", b"b.jpg", "this one has 1 fields"),
        ("captions.tsv", b"b.jpg\ta\tde\tb", "this one has 4 fields"),
        ("captions.tsv", b"b.jpg\t\xff", "invalid UTF-8 at byte 7"),
        ("captions.tsv", b"missing.jpg\ta", "there is no picture 'missing.jpg'"),
        ("captions.jsonl", b"{", "not JSON"),
        ("captions.jsonl", b'{"captions": {}}', "it has no image"),
        ("captions.jsonl", b'{"image": "b.jpg"}', "captions must map languages"),
        ("captions.jsonl", b'{"image": "b.jpg", "captions": {"de": [1]}}', "captions must map languages"),
        ("captions.jsonl", b'{"image": "b\\u0000.jpg", "captions": {}}', "there is no picture"),
    ],
)
def test_a_bad_line_of_captions_is_a_reject_and_the_pictures_are_read(folder, name, line, reason):
    (folder / name).write_bytes(b"\n" + line + b"\n")
    reject, *documents = read(folder)
    assert (reject.file, reject.line) == (str(folder / name), 2)
    assert reason in reject.reason
    assert len(documents) == 2


def test_a_caption_in_no_language_refuses_its_picture(folder):
    (folder / "captions.tsv").write_text("b.jpg\ta ball\tnonsense\n")
    reject, document = read(folder)
    assert isinstance(reject, Reject)
    assert (reject.id, document.id) == ("b.jpg", "cats/a.png")


def test_a_captions_file_that_is_missing_or_out_of_place_is_a_source_error(folder, tmp_path):
    with pytest.raises(SourceError, match=r"missing\.tsv can't be read: No such file"):
        list(read(folder, captions=tmp_path / "missing.tsv"))
    (tmp_path / "d.jsonl").touch()
    with pytest.raises(SourceError, match="goes with pictures"):
        read(tmp_path / "d.jsonl", captions=tmp_path / "missing.tsv")
    with pytest.raises(SourceError, match="is not a folder"):
        list(read(folder / "b.jpg", format="pictures"))


def test_documents_may_be_taken_in_another_thread_each(folder):
    (folder / "captions.tsv").write_text("b.jpg\ta ball\n")
    documents = read(folder)
    taken = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: taken.append(next(documents)))
        thread.start()
        thread.join()
    assert [document.id for document in taken] == ["b.jpg", "cats/a.png"]
