"""What a valid document is, and how records become one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.documents import MAX_INTEGER, Document, Unit, record_id
from retriever.errors import InvalidDocument


def test_members_that_are_not_reserved_become_metadata_beside_those_of_metadata():
    record = {
        "_id": "a1",
        "text": "x",
        "year": 2024,
        "metadata": {"tags": ["p"], "a": {"b": {"c": True}}},
        "gone": None,
    }
    assert Document.from_record(record).metadata == {"year": 2024, "tags": ("p",), "a.b.c": True}


def test_a_language_is_kept_in_canonical_form_under_either_name():
    assert Document.from_record({"id": "a", "text": "x", "language": "zh-TW"}).language == "zh-Hant"
    assert Document.from_record({"id": "a", "text": "x", "lang": "cmn"}).language == "zh"
    assert Document.from_record({"id": "a", "text": "x", "language": None}).language is None


def test_captions_are_grouped_by_canonical_language_without_blank_ones():
    captions = {"de": "eins", "deu": ["zwei", " "], "fr": [], "en": None}
    assert Document(id="a", captions=captions).captions == {"de": ("eins", "zwei")}


def test_an_image_is_a_path_from_the_folder_of_its_file_or_bytes():
    document = Document.from_record({"id": "a", "image": "cats/1.jpg"}, base=Path("/data"))
    assert (document.image, document.image_file, document.picture) == ("cats/1.jpg", Path("/data/cats/1.jpg"), None)
    document = Document.from_record({"id": "a", "image": b"bytes"})
    assert (document.image, document.image_file, document.picture) == (None, None, b"bytes")


def test_an_id_may_be_under_either_name_and_an_integer():
    assert record_id({"_id": "a", "id": "b"}) == "a"
    assert record_id({"_id": None, "id": "b"}) == "b"
    assert record_id({"id": 7}) == "7"
    assert record_id({"id": True}) is None
    assert record_id({"id": 1.5}) is None
    assert record_id({}) is None


def test_a_vector_alone_is_enough_and_becomes_float32():
    document = Document.from_record({"id": "a"}, vector=np.array([1, 2], np.float16))
    assert document.vector.dtype == np.float32
    assert document.vector.tolist() == [1, 2]


def test_where_a_document_came_from_is_no_part_of_it():
    record = {"id": "a", "text": "x"}
    document = Document.from_record(record, origin=("d.jsonl", 3))
    assert document.origin == ("d.jsonl", 3)
    assert document == Document.from_record(record)
    assert document.digest(None) == Document.from_record(record).digest(None)


INVALID = {
    "no id": ({"text": "x"}, "no _id or id"),
    "empty id": ({"id": "", "text": "x"}, "1 to 512 bytes of UTF-8, this one has 0"),
    "long id": ({"id": "é" * 257, "text": "x"}, "this one has 514"),
    "id with a surrogate": ({"id": "\ud800", "text": "x"}, "id holds a lone surrogate at character 0"),
    "nothing": ({"id": "a", "year": 1}, "nothing to search"),
    "blank": ({"id": "a", "text": " \n", "title": "\t", "captions": {"de": [""]}, "image": ""}, "nothing to search"),
    "text": ({"id": "a", "text": ["x"]}, "text must be a string, got list"),
    "title": ({"id": "a", "title": 5}, "title must be a string, got int"),
    "surrogate": ({"id": "a", "text": "ab\udc00"}, "text holds a lone surrogate at character 2"),
    "surrogate in a path": ({"id": "a", "image": "\udc00"}, "image holds a lone surrogate"),
    "surrogate in a caption": ({"id": "a", "captions": {"de": "\udc00"}}, "captions.de holds a lone surrogate"),
    "surrogate in metadata": ({"id": "a", "text": "x", "m": ["\udc00"]}, "metadata m holds a lone surrogate"),
    "surrogate in a name": ({"id": "a", "text": "x", "\udc00": 1}, "a metadata name holds a lone surrogate"),
    "language": ({"id": "a", "text": "x", "language": "klingonish"}, "klingonish"),
    "language type": ({"id": "a", "text": "x", "lang": 5}, "language must be a string, got int"),
    "caption language": ({"id": "a", "captions": {"klingonish": "x"}}, "klingonish"),
    "captions": ({"id": "a", "captions": ["x"]}, "captions must map languages to texts, got list"),
    "caption": ({"id": "a", "captions": {"de": 5}}, "captions.de must be a text or a list of texts, got int"),
    "captions of numbers": ({"id": "a", "captions": {"de": [5]}}, "captions.de must be a string, got int"),
    "image": ({"id": "a", "image": 5}, "image must be a path, got int"),
    "metadata": ({"id": "a", "text": "x", "metadata": [1]}, "metadata must be an object, got list"),
    "metadata list": ({"id": "a", "text": "x", "m": [1]}, "metadata m must be a string, number, boolean or list"),
    "integer": ({"id": "a", "text": "x", "m": MAX_INTEGER + 1}, "an integer has 64 bits"),
    "number": ({"id": "a", "text": "x", "m": float("nan")}, "a number must be finite, got nan"),
}


@pytest.mark.parametrize(("record", "reason"), INVALID.values(), ids=INVALID)
def test_an_invalid_record_says_what_is_wrong(record, reason):
    with pytest.raises(InvalidDocument) as caught:
        Document.from_record(record)
    assert reason in str(caught.value)


def test_a_record_must_be_an_object():
    with pytest.raises(InvalidDocument, match="a document is a JSON object, not list"):
        Document.from_record([1])


@pytest.mark.parametrize(
    ("vector", "reason"),
    [([[1.0]], "shape"), ([], "shape"), ([np.inf], "not finite"), ([np.nan], "not finite")],
)
def test_a_vector_has_one_axis_of_finite_numbers(vector, reason):
    with pytest.raises(InvalidDocument, match=reason):
        Document(id="a", vector=np.array(vector, np.float32))


@pytest.mark.parametrize("depth", [33, 5000])
def test_metadata_nested_too_deeply_is_invalid_and_no_recursion_error(depth):
    nested: object = 1
    for _ in range(depth):
        nested = {"a": nested}
    with pytest.raises(InvalidDocument, match="nested more than 32 levels"):
        Document(id="a", text="x", metadata=nested)
    listed: object = 1
    for _ in range(depth):
        listed = [listed]
    with pytest.raises(InvalidDocument, match="metadata m must be"):
        Document(id="a", text="x", metadata={"m": listed})


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
scalars = st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | text
documents = st.builds(
    Document,
    id=text.filter(lambda drawn: "\0" not in drawn),
    title=text,
    text=st.just("x") | text,
    language=st.sampled_from([None, "de", "zh-Hant", "pt-BR"]),
    captions=st.dictionaries(st.sampled_from(["de", "en", "und"]), st.lists(text, min_size=1).map(tuple)),
    metadata=st.dictionaries(text, scalars | st.lists(text).map(tuple)),
)


@given(documents)
def test_a_document_is_read_back_from_its_record_with_the_same_digest(document):
    read_back = Document.from_record(document.to_record())
    assert read_back == document
    assert read_back.digest(None) == document.digest(None)


CHANGES = [
    {"id": "b"}, {"title": "t"}, {"text": "y"}, {"language": "de"}, {"modality": "code"}, {"image": "a.jpg"},
    {"captions": {"de": ("c",)}}, {"metadata": {"m": 1}}, {"vector": np.ones(2, np.float32)},
]  # fmt: skip


def test_a_digest_changes_with_everything_that_is_stored():
    base = {"id": "a", "text": "x"}
    digests = {Document(**(base | change)).digest(None) for change in [{}, *CHANGES]}
    digests.add(Document(**base).digest(b"picture"))
    assert len(digests) == len(CHANGES) + 2


def test_a_units_digest_depends_on_what_is_encoded_and_not_on_where_it_stands():
    unit = Unit("passage", "en", "text", "content", 0, 7)
    assert unit.digest == Unit("passage", "de", "text", "content", 9, 16).digest
    assert unit.digest != Unit("caption", "en", "text", "content", 0, 7).digest
    assert unit.digest != Unit("passage", "en", "text", "other", 0, 7).digest
    assert Unit("image", "und", "image", b"content").digest == Unit("image", "und", "image", b"content").digest


def test_an_id_with_nul_is_refused():
    with pytest.raises(InvalidDocument, match="NUL"):
        Document(id="a\0b", text="x")
