"""What is planned for a collection before anything is built."""

import logging

import numpy as np
import pytest

from retriever import Collection, Document, kinds
from retriever.kinds import inverted_file, plans

PLENTY = 2**40


def kinds_of(*args, **members):
    return [plan.kind for plan in plans(*args, **members)]


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(0, "flat"), (19_999, "flat"), (20_000, "rabitq"), (99_999, "rabitq"), (100_000, "ivf"), (10**7, "ivf")],
)
def test_auto_chooses_by_the_number_of_vectors(count, chosen):
    assert kinds_of("auto", count, 512, memory=PLENTY)[0] == chosen


def test_a_collection_that_changes_much_keeps_what_needs_no_training_longer():
    assert kinds_of("auto", 200_000, 512, memory=PLENTY, gone=0.6)[0] == "rabitq"
    assert kinds_of("auto", 200_000, 512, memory=PLENTY, gone=0.1)[0] == "ivf"


@pytest.mark.parametrize("kind", ["auto", "rabitq", "ivf", "hnsw", "IVF64,SQ8"])
def test_what_doesn_t_fit_into_memory_gives_way_to_what_does(kind):
    everything = plans(kind, 1_000_000, 384, memory=PLENTY)
    assert [plan.memory for plan in everything] == sorted((plan.memory for plan in everything), reverse=True)
    for plan in everything:
        assert plans(kind, 1_000_000, 384, memory=plan.memory)[0] == plan
    assert kinds_of(kind, 1_000_000, 384, memory=0) == ["flat"]


def test_few_vectors_are_scanned_whatever_the_kind():
    assert kinds_of("hnsw", 999, 64, memory=PLENTY) == ["flat"]


@pytest.mark.parametrize(
    ("count", "dimension", "factory"),
    [
        (200_000, 512, "IVF256,PQ128x4fs"),
        (1_000_000, 384, "IVF512,PQ96x4fs"),
        (50_000, 99, "IVF128,RaBitQ"),
        (1, 8, "IVF16,PQ2x4fs"),
    ],
)
def test_an_inverted_file_fits_its_vectors(count, dimension, factory):
    assert inverted_file(count, dimension) == factory


def test_uneven_lengths_get_codes_that_bear_them(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2_000, 16), dtype=np.float32)
    lengths = {"even": np.ones(2_000), "uneven": rng.lognormal(0, 0.3, 2_000)}
    for name, factors in lengths.items():
        scaled = (vectors / np.linalg.norm(vectors, axis=1)[:, None] * factors[:, None]).astype(np.float32)
        with Collection.create(tmp_path / name, encoder=None, kind="ivf", background=False) as collection:
            collection.upsert([Document(id=str(n), text="kivo", language="en", vector=v) for n, v in enumerate(scaled)])
            collection.settle()
            assert ("RaBitQ" in collection.info().index.factory) == (name == "uneven")


def test_only_a_kind_that_knows_no_row_sets_gets_a_second_index():
    assert kinds.named("ivf", 10_000, 64).filtered is None
    assert kinds.named("IVF64,PQ8x4fs", 10_000, 64).filtered is None
    assert kinds.named("SQ8", 10_000, 64).filtered is None
    assert kinds.named("hnsw", 10_000, 64).filtered == inverted_file(10_000, 64)
    assert kinds.named("PQ8x4fs", 10_000, 64).filtered == inverted_file(10_000, 64)


def test_a_build_says_its_plan_and_keeps_to_the_memory_allowed(tmp_path, caplog):
    vectors = np.random.default_rng(0).standard_normal((2_000, 16), dtype=np.float32)
    documents = [Document(id=str(n), text="kivo", language="en", vector=v) for n, v in enumerate(vectors)]
    with Collection.create(tmp_path / "c", encoder=None, kind="hnsw", memory=200_000, background=False) as collection:
        collection.upsert(documents)
        with caplog.at_level(logging.INFO, "retriever"):
            collection.settle()
        assert collection.info().kind != "hnsw"
    assert any("dense index of c" in record.getMessage() for record in caplog.records)
