"""Captions of the same pictures in several languages: XTD and Multi30K in their layouts."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eval.datasets import read
from eval.datasets.captions import Captioned, dataset
from eval.tasks import Picture
from retriever.errors import InvalidData, InvalidRequest
from tests.eval.files import jsonl, judged, write

NAMES = ("one.jpg", "two.jpg", "three.jpg")
XTD = {
    "XTD10/test_image_names.txt": "".join(f"{name}\n" for name in NAMES),
    "MIC/test_1kcaptions_en.txt": "a cat\na dog\na bird\n",
    "MIC/test_1kcaptions_de.txt": "eine Katze\nein Hund\nein Vogel\n",
    "STAIR/test_1kcaptions_jp.txt": "猫\n犬\n鳥\n",
}
RAGGED = [
    {"id": "1", "image": "one.jpg", "captions": {"en": ["a cat", "the cat"], "de": "eine Katze", "fr": ["un chat"]}},
    {"id": "2", "image": "two.jpg", "captions": {"en": ["a dog", "the dog"], "de": ["ein Hund", "der Hund"], "fr": []}},
    {"id": "3", "image": "three.jpg", "captions": {"en": ["a bird"], "de": "ein Vogel"}},
    {"id": "4", "image": "four.jpg", "captions": {"en": ["a fish"]}},
]


def picture(colour):
    out = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "JPEG")
    return out.getvalue()


def zipped(names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, picture("red"))
    return out.getvalue()


def by_name(dataset):
    return {task.name: task for task in dataset.tasks}


# -- XTD as published


def test_without_pictures_each_language_asks_for_captions_in_each_other(tmp_path):
    [dataset] = read("xtd", [write(tmp_path / "xtd", XTD)])
    assert list(by_name(dataset)) == ["en-de", "ja-de", "de-en", "ja-en", "de-ja", "en-ja"]
    task = by_name(dataset)["ja-de"]
    assert (task.kind, task.query_language, task.document_language) == ("caption", "ja", "de")
    assert (task.queries.texts, task.corpus.texts) == (("猫", "犬", "鳥"), ("eine Katze", "ein Hund", "ein Vogel"))
    assert judged(task) == {(f"{name}:ja", f"{name}:de"): 1 for name in NAMES}
    assert dataset.groups["to en"] == ["de-en", "ja-en"]
    assert {each.name: dict(each.tasks) for each in dataset.alignments}["to en"] == {"de": "de-en", "ja": "ja-en"}
    assert sorted(dataset.files) == sorted(XTD)


def test_the_captions_of_a_language_are_one_object_in_all_tasks(tmp_path):
    [dataset] = read("xtd", [write(tmp_path / "xtd", XTD)])
    assert len({id(items) for task in dataset.tasks for items in (task.queries, task.corpus)}) == 3


def test_languages_and_pairs_choose(tmp_path):
    folder = write(tmp_path / "xtd", XTD)
    assert list(by_name(read("xtd", [folder], languages=["deu", "jpn"])[0])) == ["ja-de", "de-ja"]
    assert list(by_name(read("xtd", [folder], pairs=["de-en"])[0])) == ["de-en"]
    with pytest.raises(InvalidRequest, match="xtd has no language fr") as caught:
        read("xtd", [folder], languages=["fr"])
    assert caught.value.hint == "it has de, en, ja"
    with pytest.raises(InvalidRequest, match="xtd has no pair de-fr"):
        read("xtd", [folder], pairs=["de-fr"])


@pytest.mark.parametrize(
    "files",
    [
        {f"images/train2014/{name}": picture("red") for name in NAMES},
        {"pictures.zip": zipped(f"val/{name}" for name in NAMES)},
    ],
    ids=["folder", "zip"],
)
def test_with_pictures_both_directions_are_asked_in_each_language(tmp_path, files):
    [dataset] = read("xtd", [write(tmp_path / "xtd", XTD | files)])
    tasks = by_name(dataset)
    assert list(tasks) == ["image-de", "image-en", "image-ja", "de-image", "en-image", "ja-image"]
    assert judged(tasks["image-de"]) == {(name, f"{name}:de"): 1 for name in NAMES}
    assert judged(tasks["de-image"]) == {(f"{name}:de", name): 1 for name in NAMES}
    assert tasks["image-de"].queries is tasks["image-en"].queries is tasks["ja-image"].corpus
    assert tasks["image-de"].corpus is tasks["de-image"].queries
    assert {each.name: list(each.tasks) for each in dataset.alignments} == {
        "image to text": ["de", "en", "ja"],
        "text to image": ["de", "en", "ja"],
    }
    for found in tasks["image-de"].queries.pictures:
        content = found.file.read_bytes() if found.member is None else zipfile.ZipFile(found.file).read(found.member)
        assert content == picture("red")


def test_of_captions_alone_pictures_are_not_looked_for(tmp_path):
    folder = write(tmp_path / "xtd", XTD | {"pictures.zip": b"no zip"})
    [dataset] = read("xtd", [folder], text_only=True)
    assert {task.kind for task in dataset.tasks} == {"caption"}
    assert "pictures.zip" not in dataset.files


def test_pictures_are_in_the_checksums(tmp_path):
    folder = write(tmp_path / "one", XTD | {"pictures.zip": zipped(NAMES)})
    [dataset] = read("xtd", [folder])
    assert dataset.files["pictures.zip"] == hashlib.sha256((folder / "pictures.zip").read_bytes()).hexdigest()
    folder = write(tmp_path / "two", XTD | {f"images/{name}": picture("red") for name in NAMES})
    one = read("xtd", [folder])[0].files["(pictures)"]
    write(folder, {"images/one.jpg": picture("blue")})
    assert read("xtd", [folder])[0].files["(pictures)"] != one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"MIC/test_1kcaptions_de.txt": "eine Katze\nein Hund\n"},
            "test_1kcaptions_de.txt ends after line 2, .*line 3",
        ),
        ({"XTD10/test_image_names.txt": "one.jpg\ntwo.jpg\n"}, "test_image_names.txt ends after line 2"),
        ({"MIC/test_1kcaptions_de.txt": "eine Katze\n\nein Vogel\n"}, "test_1kcaptions_de.txt, line 2: it is empty"),
        ({"XTD10/test_image_names.txt": "one.jpg\ntwo.jpg\none.jpg\n"}, "line 3: one.jpg was there before"),
        (
            {"STAIR/test_1kcaptions_de.txt": "x\n"},
            "xtd has MIC/test_1kcaptions_de.txt and STAIR/test_1kcaptions_de.txt",
        ),
        ({"test_image_names.txt": "one.jpg\n"}, "xtd has 2 files test_image_names.txt"),
        ({"MIC/test_1kcaptions_xx1.txt": "x\n"}, "'xx1' names no language"),
        ({"images/one.jpg": picture("red")}, "test_image_names.txt, line 2: the picture two.jpg is missing"),
        ({"a/one.jpg": b"", "b.zip": zipped(NAMES)}, "line 1: the picture one.jpg is there 2 times"),
        ({"pictures.zip": b"no zip"}, "pictures.zip can't be read"),
    ],
)
def test_what_does_not_belong_together_is_named(tmp_path, change, said):
    with pytest.raises(InvalidData, match=said) as caught:
        read("xtd", [write(tmp_path / "xtd", XTD | change)])
    assert caught.value.hint


def test_a_folder_without_captions_is_named(tmp_path):
    with pytest.raises(InvalidData, match=r"has neither manifest.jsonl nor test_1kcaptions_en.txt"):
        read("xtd", [tmp_path])


# -- manifests, ragged


def ragged(folder, **others):
    names = [row["image"] for row in RAGGED]
    return write(folder, {"manifest.jsonl": jsonl(RAGGED), "pictures.zip": zipped(names)}, **others)


def test_what_has_no_caption_is_not_asked_but_stays_in_the_gallery(tmp_path):
    tasks = by_name(read("xtd", [ragged(tmp_path / "set")])[0])
    assert tasks["image-de"].queries.ids == ("1", "2", "3")
    assert judged(tasks["image-de"]) == {("1", "1:de:1"): 1, ("2", "2:de:1"): 1, ("2", "2:de:2"): 1, ("3", "3:de:1"): 1}
    assert judged(tasks["fr-image"]) == {("1:fr", "1"): 1}
    assert len(tasks["fr-image"].corpus) == 4


def test_ragged_captions_have_a_parallel_part_for_the_alignments(tmp_path):
    [dataset] = read("xtd", [ragged(tmp_path / "set")])
    tasks = by_name(dataset)
    # A quarter of the pictures has French captions.
    assert {each.name: dict(each.tasks) for each in dataset.alignments} == {
        "image to text": {"de": "parallel-image-de", "en": "parallel-image-en"},
        "text to image": {"de": "parallel-de-image", "en": "parallel-en-image"},
    }
    assert judged(tasks["parallel-image-en"]) == {("1", "1:en:1"): 1, ("2", "2:en:1"): 1, ("3", "3:en:1"): 1}
    assert tasks["parallel-image-en"].queries is tasks["parallel-image-de"].queries
    assert [task.name for task in dataset.tasks if task.name.startswith("parallel")] == [
        "parallel-image-de", "parallel-image-en", "parallel-de-image", "parallel-en-image",
    ]  # fmt: skip


def test_between_ragged_captions_all_of_the_same_picture_are_right(tmp_path):
    tasks = by_name(read("xtd", [ragged(tmp_path / "set")], text_only=True)[0])
    assert tasks["en-de"].queries.texts == ("a cat", "the cat", "a dog", "the dog", "a bird")
    assert judged(tasks["en-de"]) == {
        ("1:en:1", "1:de:1"): 1, ("1:en:2", "1:de:1"): 1, ("2:en:1", "2:de:1"): 1, ("2:en:1", "2:de:2"): 1,
        ("2:en:2", "2:de:1"): 1, ("2:en:2", "2:de:2"): 1, ("3:en:1", "3:de:1"): 1,
    }  # fmt: skip
    assert len(tasks["de-en"].corpus) == 6


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "x.jpg", "captions": {"en": "x"}}, "line 2: it has no _id"),
        ({"id": "1", "captions": {"en": "x"}}, "line 2: 1 was there before"),
        ({"id": "2"}, "line 2: 2 has no captions"),
        ({"id": "2", "captions": {"en": " "}}, "line 2: 2 has a caption in en that is empty"),
        ({"id": "2", "captions": {"en": ["x", 3]}}, "line 2: 2 has a caption in en that is empty or no text"),
        ({"id": "2", "captions": {"en": None}}, "line 2: 2 has a caption in en that is empty or no text"),
        ({"id": "2", "captions": {"nowhere": "x"}}, "line 2: 'nowhere' names no language"),
        ({"id": "2", "captions": {"zh": "x", "cmn": "x"}}, "line 2: 2 has captions in zh twice"),
    ],
)
def test_a_manifest_that_is_inconsistent_is_named_by_line_and_id(tmp_path, row, said):
    manifest = jsonl([{"id": "1", "image": "one.jpg", "captions": {"en": "a cat", "de": "eine Katze"}}, row])
    with pytest.raises(InvalidData, match=f"set/manifest.jsonl, {said}"):
        read("xtd", [write(tmp_path / "set", {"manifest.jsonl": manifest})])


def test_a_manifest_without_any_caption_is_an_error(tmp_path):
    with pytest.raises(InvalidData, match=r"set/manifest.jsonl has no captions"):
        read("xtd", [write(tmp_path / "set", {"manifest.jsonl": jsonl([{"id": "1", "captions": {}}])})])


# -- Multi30K


def multi30k(folder):
    return write(
        folder,
        {
            "image_splits/test_2016_flickr.txt": "one.jpg#1\ntwo.jpg#2\n",
            "raw/test_2016_flickr.de": "eine Katze\nein Hund\n",
            "raw/test_2016_flickr.fr": "un chat\nun chien\n",
            "raw/test_2017_flickr.de": "ein Vogel\n",
        },
    )


def test_multi30k_is_read_as_it_was_published(tmp_path):
    folder = multi30k(tmp_path / "task1")
    write(folder, {"raw/test_2016_flickr.en": "a cat\na dog\n"}, compressed=True)
    [dataset] = read("multi30k", [folder])
    assert dataset.name == "task1-test_2016_flickr"
    assert judged(by_name(dataset)["fr-en"]) == {("one.jpg:fr", "one.jpg:en"): 1, ("two.jpg:fr", "two.jpg:en"): 1}
    with pytest.raises(InvalidData, match="task1 has no split test_2018") as caught:
        read("multi30k", [folder], split="test_2018")
    assert caught.value.hint == "it has test_2016_flickr, test_2017_flickr"


def test_multi30k_is_read_from_lines_of_json_a_dataset_each_split(tmp_path):
    rows = [{"_id": "a:0", "image": "1.jpg", "captions": {"en": "a cat", "de": "eine Katze"}, "descriptions": {}}]
    folder = write(tmp_path / "m", {"val.jsonl": jsonl(rows), "test_2016_flickr.jsonl": jsonl(rows)}, compressed=True)
    datasets = read("multi30k", [folder], split="val,test_2016_flickr", pairs=["de-en"])
    assert [dataset.name for dataset in datasets] == ["m-val", "m-test_2016_flickr"]
    assert [[task.name for task in dataset.tasks] for dataset in datasets] == [["de-en"], ["de-en"]]


# -- invariants

ROWS = st.lists(st.fixed_dictionaries({language: st.integers(0, 3) for language in ("de", "en", "fr")}), max_size=6)


@given(ROWS)
def test_a_caption_s_right_answers_are_its_own_picture_s_and_aligned_tasks_are_of_one_size(rows):
    captions = {
        language: [tuple(f"{place}.{n}" for n in range(row[language])) for place, row in enumerate(rows)]
        for language in ("de", "en", "fr")
    }
    pictures = tuple(Picture(name) for name in range(len(rows)))
    ids = tuple(map(str, range(len(rows))))
    for shown in (pictures, ()):
        found = dataset(Captioned("made", ids, captions, shown, {}), None)
        tasks = by_name(found)
        for task in found.tasks:
            pairs = judged(task)
            assert all(query.split(":")[0] == document.split(":")[0] for query, document in pairs)
            assert set(task.judgements.query.tolist()) == set(range(len(task.queries)))
        for alignment in found.alignments:
            aligned = [tasks[name] for name in alignment.tasks.values()]
            owners = [[query.split(":")[0] for query in task.queries.ids] for task in aligned]
            assert all(one == owners[0] and len(set(one)) == len(one) for one in owners)
            assert len({len(task.corpus) for task in aligned}) == 1
            assert all(np.all(np.bincount(task.judgements.query) == 1) for task in aligned)
