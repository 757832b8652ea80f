"""Collections with real encoders: what is encoded and what isn't, pictures under two towers, reranking, mismatches."""

import io

import numpy as np
import pytest
from PIL import Image

from retriever import Collection, Document, Encoder, Root, SearchRequest
from retriever.build import BuildOptions, build
from retriever.errors import EncoderMismatch, InvalidRequest, UnsupportedModality
from retriever.rerank import Reranker
from tests.models import tiny_cross_encoder, tiny_text_model, two_tower_model

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (20, 40, 210)}


def picture(colour, size=24):
    data = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    return Encoder.load(two_tower_model(tmp_path_factory.mktemp("towers") / "model"))


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    return tiny_text_model(tmp_path_factory.mktemp("text") / "model")


@pytest.fixture
def pictures(tmp_path, towers):
    with Collection.create(tmp_path / "pictures", encoder=towers) as collection:
        collection.upsert(
            [Document(id=name, picture=picture(colour), captions={"en": [f"a {name} square"]}, language="en")
             for name, colour in COLOURS.items()]
        )  # fmt: skip
        yield collection


class CountingEncoder:
    """Counts what a collection has encoded; everything else is the encoder's own."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.encoded = []

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_documents(self, texts):
        self.encoded += texts
        return self._encoder.encode_documents(texts)


def test_a_picture_finds_itself_first_among_pictures(pictures):
    for name, colour in COLOURS.items():
        hits = pictures.search(SearchRequest(image=picture(colour)), group=False, filter={"kind": "image"}).hits
        assert (hits[0].id, hits[0].unit.kind) == (name, "image")
        assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_each_tower_is_ranked_by_itself_and_fused_by_rank(pictures):
    result = pictures.search(SearchRequest(image=picture(COLOURS["blue"])), explain=True)
    found_by = [(side["side"], side["tower"]) for side in result.plan["candidates"]]
    assert found_by == [("dense", "text"), ("dense", "image")]
    assert all(hit.score < 0.05 for hit in result.hits), "a reciprocal rank, not a cosine"
    with pytest.raises(InvalidRequest, match="min_score doesn't go with a fused score"):
        pictures.search(SearchRequest(image=picture(COLOURS["blue"]), min_score=0.5))


def test_text_and_picture_mix_by_weight(pictures, towers):
    text, image = "a red square", picture(COLOURS["red"])
    weighted = pictures.search(SearchRequest(text=text, image=image, image_weight=0.25, mode="dense"), group=False)
    mixed = 0.25 * towers.encode_images([Image.open(io.BytesIO(image))])[0]
    mixed = mixed + 0.75 * towers.encode_queries([text]).vectors[0]
    expected = pictures.search(SearchRequest(vector=(mixed / np.linalg.norm(mixed)).tolist()), group=False)
    assert [(hit.id, hit.unit.kind) for hit in weighted.hits] == [(hit.id, hit.unit.kind) for hit in expected.hits]


def test_the_picture_of_a_document_and_its_thumbnail_come_back(pictures):
    data, media_type = pictures.picture("red")
    assert (data, media_type) == (picture(COLOURS["red"]), "image/png")
    thumbnail = Image.open(io.BytesIO(pictures.thumbnail("red", 16)))
    assert (thumbnail.format, max(thumbnail.size)) == ("WEBP", 16)
    assert pictures.search("red", mode="lexical").hits[0].document.has_picture


def test_an_unreadable_picture_is_rejected_or_refused(pictures):
    result = pictures.upsert([Document(id="broken", picture=b"no picture", captions={"en": ["x"]})])
    assert "unreadable picture" in result.rejected[0].reason
    with pytest.raises(InvalidRequest, match="unreadable picture"):
        pictures.search(SearchRequest(image=b"no picture"))


def test_without_a_picture_tower_captions_are_searched_and_the_build_says_so(tmp_path, text_model):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in COLOURS.items():
        (folder / f"{name}.png").write_bytes(picture(colour))
    (folder / "captions.tsv").write_text("red.png\ta red square\ten\nblue.png\ta blue square\ten\n")
    root = Root(tmp_path / "root")
    summary = build(root, "photos", [folder], BuildOptions(encoder=str(text_model), rejects=tmp_path / "rejects"))
    assert (summary.added, summary.rejected, summary.pictures_unsearched) == (2, 1, 2)
    assert "has no picture tower" in (tmp_path / "rejects").read_text()
    with root.open("photos") as collection:
        [hit] = collection.search("blue", mode="lexical").hits
        assert (hit.unit.kind, hit.unit.caption, hit.highlights) == ("caption", "a blue square", [(2, 6)])
        with pytest.raises(UnsupportedModality, match="has no picture tower"):
            collection.search(SearchRequest(image=picture(COLOURS["red"])))


def test_a_put_again_and_a_change_of_metadata_encode_nothing(tmp_path, text_model):
    encoder = CountingEncoder(Encoder.load(text_model))
    with Collection.create(tmp_path / "c", encoder=encoder) as collection:
        one = {"id": "a", "text": "first passage. " * 20, "language": "en", "year": 1}
        collection.upsert([one])
        made = len(encoder.encoded)
        assert made > 1, "the text is long enough for several passages"
        collection.upsert([one])
        collection.upsert([{**one, "year": 2}])
        assert len(encoder.encoded) == made
        collection.upsert([{"id": "b", "text": "short", "language": "en"}])
        collection.upsert([{"id": "b", "text": "short", "language": "de"}])
        assert len(encoder.encoded) == made + 1
        collection.upsert([{**one, "text": "another passage. " * 20}])
        assert len(encoder.encoded) > made + 1


def test_passages_carry_the_title_and_point_into_the_text(tmp_path, text_model):
    text = "Kettles boil. Rivers flow fast. Birds sing at dawn. Foxes sleep by day."
    with Collection.create(tmp_path / "c", encoder=Encoder.load(text_model)) as collection:
        collection.upsert([Document(id="a", title="T", text=text, language="en")])
        hits = collection.search("foxes", group=False, mode="lexical").hits
        assert hits
        for hit in hits:
            assert "Foxes" in text[hit.unit.start : hit.unit.end]
            assert [text[start:end] for start, end in hit.highlights] == ["Foxes"]


def test_passages_none_makes_one_unit_and_counts_what_was_cut(tmp_path, text_model):
    with Collection.create(tmp_path / "c", encoder=Encoder.load(text_model), passages="none") as collection:
        result = collection.upsert([Document(id="a", text="word " * 500, language="en"), Document(id="b", text="word")])
        assert result.truncated == 1
        assert collection.info().units == 2


def test_a_query_that_is_cut_says_so(tmp_path, text_model):
    with Collection.create(tmp_path / "c", encoder=Encoder.load(text_model)) as collection:
        collection.upsert([Document(id="a", text="word", language="en")])
        assert collection.search("word " * 500).truncated
        assert not collection.search("word").truncated


def test_opening_with_another_encoder_is_refused_naming_both(tmp_path, text_model):
    mine, other = Encoder.load(text_model), Encoder.load(tiny_text_model(tmp_path / "other", seed=5))
    Collection.create(tmp_path / "c", encoder=mine).close()
    with pytest.raises(EncoderMismatch) as error:
        Collection.open(tmp_path / "c", encoder=other)
    assert mine.name in str(error.value)
    assert other.name in str(error.value)


def test_a_model_that_changed_on_disk_is_refused_when_it_is_needed(tmp_path):
    folder = tiny_text_model(tmp_path / "model", seed=1)
    with Collection.create(tmp_path / "c", encoder=Encoder.load(folder)) as collection:
        collection.upsert([Document(id="a", text="word", language="en")])
    tiny_text_model(folder, seed=2)
    with Collection.open(tmp_path / "c") as collection:
        assert collection.search("word", mode="lexical").hits
        with pytest.raises(EncoderMismatch):
            collection.search("word")


def test_a_cross_encoder_orders_the_first_hits(tmp_path, text_model):
    reranker = Reranker.load(tiny_cross_encoder(tmp_path / "cross"))
    texts = [f"passage number {number}" for number in range(8)]
    with Collection.create(tmp_path / "c", encoder=Encoder.load(text_model), reranker=lambda: reranker) as collection:
        collection.upsert([Document(id=text, text=text, language="en") for text in texts])
        hits = collection.search("number three", rerank=True, k=8).hits
        scores = dict(zip(texts, reranker.score("number three", texts).tolist(), strict=True))
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert {hit.id: pytest.approx(hit.score, abs=1e-4) for hit in hits} == scores
        with pytest.raises(InvalidRequest, match="at most 50 with rerank"):
            collection.search("number three", rerank=True, k=60)


def test_a_german_question_finds_the_english_passage(tmp_path):
    with Collection.create(tmp_path / "c", encoder=Encoder.load("multilingual")) as collection:
        collection.upsert(
            [
                Document(id="tea", text="Let the water cool to 80 degrees before you pour it over green tea."),
                Document(id="dog", text="A dog needs a long walk every morning."),
                Document(id="car", text="Change the oil of the engine every year."),
            ]
        )
        assert collection.search("Wie heiß soll das Wasser für grünen Tee sein?").hits[0].id == "tea"
        assert collection.get("tea").language == "en"
        assert collection.get("tea").identified
