import numpy as np
import pytest

from retriever import Collection, Document


def document(identifier, vector=(1.0, 0.0, 0.0), text="kivo", **members):
    """A document that brings its vector; its language is given, so that nothing is identified."""
    members.setdefault("language", "en")
    return Document(id=identifier, text=text, vector=np.array(vector, dtype=np.float32), **members)


@pytest.fixture
def collection(tmp_path):
    """An empty collection without encoder: every vector is computable by hand."""
    with Collection.create(tmp_path / "c", encoder=None) as made:
        yield made
