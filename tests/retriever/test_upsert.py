"""A batch of documents is written table by table: it ends like its documents put one by one."""

import random

import numpy as np
import pytest

from retriever import Collection
from tests.retriever.conftest import document

IDS = "abcdefgh"


def batches(seed):
    """Batches in which documents are new, changed in text, changed in metadata alone, or the same as before."""
    rng = random.Random(seed)
    return [
        [
            document(
                name,
                vector=np.eye(3)[rng.randrange(3)],
                text=f"kivo {rng.randrange(3)}",
                metadata={"n": rng.randrange(3), "tags": rng.choices(["x", "y", "z"], k=2)},
            )
            for name in rng.sample(IDS, rng.randrange(1, len(IDS) + 1))
        ]
        for _ in range(6)
    ]


def content(collection):
    """Everything stored, units in the order of their keys."""
    with collection._store.reading() as reader:
        keys = reader.document_keys(list(IDS))
        documents, units = reader.documents(list(keys.values())), reader.units_of(list(keys.values()))
        vectors = reader.existing_vectors([unit.key for group in units.values() for unit in group])
        stored = {
            name: (documents[key], [(unit.digest, unit.end, vectors[unit.key].tolist()) for unit in units[key]])
            for name, key in keys.items()
        }
        fields = {n: collection.count(filter={"n": n}) for n in range(3)}
        tags = {tag: collection.count(filter={"tags": tag}) for tag in "xyz"}
    return stored, fields, tags


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_ends_like_its_documents_put_one_by_one(tmp_path, seed):
    with (
        Collection.create(tmp_path / "whole", encoder=None) as whole,
        Collection.create(tmp_path / "single", encoder=None) as single,
    ):
        for batch in batches(seed):
            at_once = whole.upsert(batch)
            results = [single.upsert([put]) for put in batch]
            for count in ("added", "updated", "unchanged"):
                assert getattr(at_once, count) == sum(getattr(result, count) for result in results)
            assert content(whole) == content(single)
        assert whole.verify().ok


def test_keys_are_never_used_twice_even_those_of_the_newest_documents(collection):
    collection.upsert([document("a"), document("b")])
    with collection._store.reading() as reader:
        keys, last = reader.document_keys(["a", "b"]), reader.last_unit()
    collection.delete(ids=["a", "b"])
    collection.upsert([document("c"), document("d")])
    with collection._store.reading() as reader:
        assert min(reader.document_keys(["c", "d"]).values()) > max(keys.values())
        assert min(reader.unit_keys()) > last
