import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from retriever.errors import ModelUnavailable
from retriever.rerank import Reranker
from tests.models import plain_transformers_model, tiny_cross_encoder, tiny_text_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_cross_encoder(tmp_path_factory.mktemp("models") / "cross")


def test_scores_are_the_cross_encoders_own_in_the_order_of_the_texts(folder):
    texts = ["b", "a much longer text about nothing " * 4, "", *(f"text {i}" * (i % 5) for i in range(40))]
    expected = CrossEncoder(str(folder), device="cpu").predict([("query", text) for text in texts])
    scores = Reranker.load(folder).score("query", texts)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_no_texts_have_no_scores(folder):
    assert Reranker.load(folder).score("query", []).shape == (0,)


def test_a_model_of_several_scores_for_a_pair_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="gives 3 scores for a pair, a reranker gives 1"):
        Reranker.load(tiny_cross_encoder(tmp_path / "three", labels=3))


def test_an_encoder_is_no_reranker(tmp_path):
    with pytest.raises(ModelUnavailable, match="is a SentenceTransformer, not a CrossEncoder"):
        Reranker.load(tiny_text_model(tmp_path / "encoder"))
    with pytest.raises(ModelUnavailable, match="is a BertModel, not a cross-encoder"):
        Reranker.load(plain_transformers_model(tmp_path / "plain"))


def test_a_score_that_is_not_finite_is_an_error_and_no_rank(folder, tmp_path):
    broken = CrossEncoder(str(folder), device="cpu")
    for weight in broken.model.classifier.parameters():
        weight.data.fill_(np.nan)
    broken.save_pretrained(str(tmp_path / "broken"))
    with pytest.raises(ModelUnavailable, match="gave a score that is not finite"):
        Reranker.load(tmp_path / "broken").score("query", ["text"])
