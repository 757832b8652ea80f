"""All kinds of datasets: what they share, and the real ones in the layouts of POLYSEEK_DATA."""

import os
from pathlib import Path

import numpy as np
import pytest

from eval.datasets import KINDS, options, read
from retriever.errors import InvalidRequest
from tests.eval.files import jsonl, write

DATA = Path(os.environ.get("POLYSEEK_DATA", ""))
real = pytest.mark.skipif("POLYSEEK_DATA" not in os.environ, reason="POLYSEEK_DATA is not set")


def test_the_kinds_are_those_of_the_command_line():
    assert KINDS == ("beir", "xtd", "multi30k", "tatoeba", "xquad-r", "code")


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("tatoeba", {"split": "test"}), ("xtd", {"split": "test"}), ("beir", {"pairs": ["de-en"]}),
        ("beir", {"pools": True}), ("code", {"text_only": True}), ("xquad-r", {"split": "dev"}),
    ],
)  # fmt: skip
def test_an_option_that_a_kind_does_not_know_is_an_error_that_lists_those_it_knows(tmp_path, kind, given):
    [name] = given
    with pytest.raises(InvalidRequest, match=f"{kind} has no option {name}") as caught:
        read(kind, [tmp_path], **given)
    assert caught.value.hint == f"it has {', '.join(options(kind))}"


def test_two_datasets_of_one_name_are_an_error(tmp_path):
    row = jsonl([{"_id": "a", "text": "x"}])
    files = {"corpus.jsonl": row, "queries.jsonl": row, "qrels/test.tsv": "a\ta\t1\n"}
    folders = [write(tmp_path / name / "set", files) for name in "ab"]
    with pytest.raises(InvalidRequest, match="two datasets are named set"):
        read("beir", folders)


def sizes(dataset):
    return {task.name: (len(task.queries), len(task.corpus), len(task.judgements)) for task in dataset.tasks}


@real
@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "name", "queries", "documents", "judgements"),
    [
        ("beir", "scifact", 300, 5183, 339), ("beir", "cranfield", 225, 1398, 1836), ("beir", "cisi", 76, 1460, 3114),
        ("beir", "cacm", 52, 3204, 796), ("beir", "npl", 93, 11426, 2083),
        ("beir", "medquad-liveqa", 103, 17908, 2311), ("code", "cosqa", 500, 6267, 500),
    ],
)  # fmt: skip
def test_real_sets_have_the_sizes_of_their_descriptions(kind, name, queries, documents, judgements):
    assert sizes(read(kind, [DATA / name])[0]) == {"test": (queries, documents, judgements)}


@real
@pytest.mark.data
def test_real_tatoeba_has_112_languages_both_ways():
    [dataset] = read("tatoeba", [DATA / "tatoeba"])
    assert len(dataset.groups["to English"]) == len(dataset.groups["from English"]) == 112
    assert len(dataset.groups["to English of 36"]) == 36
    assert sum(len(task.queries) for task in dataset.tasks) == 2 * 88_877


@real
@pytest.mark.data
def test_real_xquad_r_has_the_answer_of_each_question_in_eleven_languages():
    [dataset] = read("xquad-r", [DATA / "xquad-r"])
    found = sizes(dataset)
    assert all(found[name] == (1190, 13_014, 11 * 1190) for name in dataset.groups["pool"])
    candidates = {
        "ar": 1222, "de": 1276, "el": 1234, "en": 1180, "es": 1215, "hi": 1244, "ru": 1219, "th": 852, "tr": 1167,
        "vi": 1209, "zh": 1196,
    }  # fmt: skip
    assert {name: found[f"mono-{name}"] for name in dataset.groups["pool"]} == {
        language: (1190, count, 1190) for language, count in candidates.items()
    }


@real
@pytest.mark.data
def test_real_captions_are_complete_where_their_description_says_so():
    [xtd] = read("xtd", [DATA / "xtd10"])
    assert set(sizes(xtd).values()) == {(1000, 1000, 1000)}
    assert len(xtd.tasks) == 11 * 10
    counts = {"test_2016_flickr": (1000, 4), "test_2017_flickr": (1000, 3), "test_2018_flickr": (1071, 4)}
    for dataset in read("multi30k", [DATA / "multi30k"], split=",".join(counts)):
        size, languages = counts[dataset.name.partition("-")[2]]
        assert set(sizes(dataset).values()) == {(size, size, size)}
        assert len(dataset.tasks) == languages * (languages - 1)


@real
@pytest.mark.data
def test_real_ragged_captions_with_pictures_have_their_numbers():
    [dataset] = read("xtd", [DATA / "flickr8k-multi"])
    found = sizes(dataset)
    each = {"ar": (1000, 3), "cs": (929, 1), "de": (929, 6), "en": (1000, 5), "fr": (929, 1), "nl": (58, 5)}
    for language, (pictures, captions) in each.items():
        assert found[f"image-{language}"] == (pictures, pictures * captions, pictures * captions)
        assert found[f"{language}-image"] == (pictures * captions, 1000, pictures * captions)
    assert found["parallel-image-de"] == found["parallel-image-en"] == (929, 929, 929)


@real
@pytest.mark.data
def test_real_annotated_queries_have_their_functions_by_language():
    [dataset] = read("code", [DATA / "codesearchnet-human-code"])
    assert {task.name: len(task.corpus) for task in dataset.tasks} == {
        "python": 954, "java": 774, "javascript": 306, "ruby": 296, "php": 293, "go": 165,
    }  # fmt: skip
    for task in dataset.tasks:
        assert set(task.judgements.grade.tolist()) <= {0, 1, 3, 7}
        relevant = np.bincount(task.judgements.query, weights=task.judgements.grade > 0)
        assert relevant.min() > 0
