import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from retriever import Encoder, backends, models
from retriever.batching import batches
from retriever.encoder import CHUNK, Parts
from retriever.errors import InvalidRequest, ModelUnavailable, UnsupportedModality
from retriever.towers import TorchTower
from tests.models import DIMENSION, MAX_TOKENS, tiny_text_model, two_tower_model

TEXTS = ["", "a", "hello world", "wie öffne ich eine datei", "日本語", "def f(x): return x", "one two " * 30]
needs_openvino = pytest.mark.skipif(
    not backends.available(), reason="openvino is not installed: the extra cpu brings it"
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of converted models that these tests share."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYSEEK_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_text_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tiny(folder):
    return Encoder.load(folder)


@pytest.fixture(scope="module")
def two_towers(tmp_path_factory):
    return two_tower_model(tmp_path_factory.mktemp("models") / "towers")


@pytest.fixture(scope="module")
def multilingual():
    return Encoder.load("multilingual")


@pytest.fixture(scope="module")
def english():
    return Encoder.load("english")


def on_torch(folder, **changes):
    """The model of a folder, and an encoder that runs it with torch."""
    model = models.locate(folder)
    how = replace(models.conventions(model), **changes)
    loaded = models.load(model, how, device="cpu")
    tower = TorchTower(loaded, how.prompts)
    return loaded, Encoder(model, how, Parts(models.traits(loaded), tower, lambda: loaded))


def changed_copy(folder, to, **config):
    shutil.copytree(folder, to)
    path = to / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return to


def cosines(a, b):
    return np.einsum("nd,nd->n", a, b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 2000), st.booleans(), st.integers(0, 2000))
def test_batches_hold_each_text_once_and_keep_to_the_budget(lengths, budget, padded, call):
    groups = batches(lengths, budget, padded=padded, call=call)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        sizes = [lengths[i] for i in group]
        assert len(group) == 1 or (len(group) * max(sizes) if padded else sum(sizes)) <= budget


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(1, 200), st.integers(0, 40))
def test_padded_batches_cost_least_of_all_ways_to_part_the_sorted_lengths(lengths, budget, call):
    def cost(groups):
        return sum(call + len(group) * max(group) for group in groups)

    ordered = sorted(lengths, reverse=True)
    ways = []
    for cuts in product([False, True], repeat=len(ordered) - 1):
        ends = [place + 1 for place, cut in enumerate(cuts) if cut]
        ways.append([ordered[a:b] for a, b in pairwise([0, *ends, len(ordered)])])
    allowed = [way for way in ways if all(len(group) == 1 or len(group) * max(group) <= budget for group in way)]
    made = [[lengths[i] for i in group] for group in batches(lengths, budget, padded=True, call=call)]
    assert cost(made) == min(map(cost, allowed))


@pytest.mark.parametrize("name", ["tiny", "english", "multilingual"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_texts_vector_does_not_depend_on_its_batch_mates(name, request, data):
    encoder = request.getfixturevalue(name)
    texts = data.draw(st.lists(st.sampled_from(TEXTS) | st.text(max_size=30), min_size=1, max_size=12))
    together = encoder.encode_documents(texts).vectors
    alone = np.concatenate([encoder.encode_documents([text]).vectors for text in texts])
    assert cosines(together, alone).min() >= 0.99999


@pytest.mark.parametrize("name", ["tiny", "english", "multilingual"])
def test_vectors_are_float32_in_c_order_and_of_unit_length(name, request):
    encoder = request.getfixturevalue(name)
    vectors = encoder.encode_queries(TEXTS).vectors
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.shape == (len(TEXTS), encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_texts_give_no_vectors(tiny):
    assert tiny.encode_documents([]).vectors.shape == (0, DIMENSION)
    assert tiny.encode_documents([]).truncated.shape == (0,)
    assert tiny.count_tokens([]) == []


def test_more_texts_than_a_chunk_keep_their_order(tiny):
    texts = [f"text {i % 97}" for i in range(CHUNK + 500)]
    vectors = tiny.encode_documents(texts).vectors
    expected = tiny.encode_documents(texts[:97]).vectors
    assert cosines(vectors, expected[np.arange(len(texts)) % 97]).min() >= 0.99999


def test_threads_that_encode_at_once_get_the_vectors_of_one(tiny, multilingual, folder):
    texts = [TEXTS[i:] + TEXTS[:i] for i in range(len(TEXTS))]
    for encoder in (tiny, multilingual, on_torch(folder)[1]):
        expected = [encoder.encode_documents(group).vectors for group in texts]
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda group, e=encoder: e.encode_documents(group).vectors, texts * 4))
        for vectors, single in zip(made, expected * 4, strict=True):
            np.testing.assert_allclose(vectors, single, atol=1e-5)


def test_a_text_is_truncated_from_one_token_above_the_maximum(tiny, folder):
    room = MAX_TOKENS - 2
    texts = ["a " * room, "a " * (room + 1)]
    assert tiny.count_tokens(texts) == [room, room + 1]
    assert tiny.passage_tokens == room
    for encoder in (tiny, on_torch(folder)[1]):
        assert encoder.encode_documents(texts).truncated.tolist() == [False, True]


def test_the_prompt_takes_room_of_the_passage(folder, tmp_path):
    prompted = on_torch(changed_copy(folder, tmp_path / "p", prompts={"document": "abc: "}))[1]
    assert prompted.passage_tokens == MAX_TOKENS - 2 - 4
    texts = ["a " * prompted.passage_tokens, "a " * (prompted.passage_tokens + 1)]
    assert prompted.encode_documents(texts).truncated.tolist() == [False, True]
    assert prompted.encode_queries(texts).truncated.tolist() == [False, False]


def test_multilingual_has_passages_of_120_tokens_and_cuts_at_4096(multilingual):
    assert multilingual.passage_tokens == 120
    encoded = multilingual.encode_documents(["word " * 4094, "word " * 4095])
    assert encoded.truncated.tolist() == [False, True]
    assert cosines(encoded.vectors[:1], encoded.vectors[1:]) == pytest.approx(1, abs=1e-5)


def test_english_has_passages_within_its_256_tokens(english):
    assert (english.max_tokens, english.passage_tokens, english.dimension) == (256, 254, 384)
    assert english.languages == ("en",)


def test_prompts_of_the_config_go_before_queries_and_documents(folder, tmp_path, tiny):
    changed = changed_copy(folder, tmp_path / "prompted", prompts={"query": "q: ", "passage": "p: "})
    for prompted in (Encoder.load(changed), on_torch(changed)[1]):
        assert (prompted.query_prompt, prompted.document_prompt) == ("q: ", "p: ")
        for made, text in (
            (prompted.encode_queries(["abc"]), "q: abc"),
            (prompted.encode_documents(["abc"]), "p: abc"),
        ):
            assert cosines(made.vectors, tiny.encode_documents([text]).vectors) >= 0.99999


def test_fingerprints_differ_by_weights_prompts_similarity_and_dimension(folder, tmp_path, tiny):
    variants = [
        on_torch(tiny_text_model(tmp_path / "seed", seed=1))[1],
        on_torch(changed_copy(folder, tmp_path / "prompt", prompts={"query": "q: "}))[1],
        on_torch(changed_copy(folder, tmp_path / "dot", similarity_fn_name="dot"))[1],
        on_torch(folder, truncate_dim=8)[1],
    ]
    assert len({tiny.fingerprint, *(encoder.fingerprint for encoder in variants)}) == 5


def test_the_backend_and_the_place_of_a_model_leave_its_fingerprint(folder, tmp_path, tiny):
    assert on_torch(folder)[1].fingerprint == tiny.fingerprint
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "README.md").write_text("# About")
    assert on_torch(copy)[1].fingerprint == tiny.fingerprint


def test_truncated_dimensions_are_the_first_ones_scaled_to_unit_length(folder, tiny):
    short = Encoder.load(folder, truncate_dim=8)
    assert short.dimension == 8
    whole = tiny.encode_documents(TEXTS).vectors[:, :8]
    vectors = short.encode_documents(TEXTS).vectors
    np.testing.assert_allclose(vectors, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-5)


def test_vectors_are_cut_where_the_models_config_says_that_they_may_be(folder, tmp_path, tiny):
    copy = Path(shutil.copytree(folder, tmp_path / "matryoshka"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "matryoshka_dimensions": [8, 16]}))
    encoder = Encoder.load(copy)
    vectors = encoder.encode_documents(TEXTS).vectors
    expected = Encoder.load(folder, truncate_dim=8).encode_documents(TEXTS).vectors
    np.testing.assert_allclose(encoder.shortened(vectors, 8), expected, atol=1e-5)
    with pytest.raises(InvalidRequest, match="no vectors of 12 dimensions"):
        encoder.shortened(vectors, 12)
    with pytest.raises(InvalidRequest, match="no vectors of 8 dimensions"):
        tiny.shortened(vectors, 8)


@pytest.mark.parametrize("dimensions", [-1, 0, DIMENSION + 1])
def test_dimensions_that_the_model_does_not_have_are_refused_naming_both(folder, dimensions):
    with pytest.raises(ModelUnavailable, match=f"has {DIMENSION} dimensions, truncate_dim asks for {dimensions}"):
        Encoder.load(folder, truncate_dim=dimensions)


def test_a_models_own_dot_product_keeps_its_lengths(tmp_path):
    folder = tiny_text_model(tmp_path / "dot", similarity="dot", normalize=False)
    loaded, encoder = on_torch(folder)
    assert encoder.similarity == "dot"
    vectors = encoder.encode_documents(TEXTS[:4]).vectors
    np.testing.assert_allclose(vectors, loaded.encode(TEXTS[:4]), atol=1e-5)
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=0.01)


def test_vectors_are_those_of_sentence_transformers(folder, tiny):
    loaded, encoder = on_torch(folder)
    expected = loaded.encode(TEXTS, normalize_embeddings=True)
    assert cosines(encoder.encode_documents(TEXTS).vectors, expected).min() >= 0.99999
    assert cosines(tiny.encode_documents(TEXTS).vectors, expected).min() >= 0.9999


def test_a_lone_surrogate_is_refused_naming_its_place(tiny):
    with pytest.raises(InvalidRequest, match="text 1 holds a lone surrogate at character 2"):
        tiny.encode_queries(["fine", "no\ud800"])


class Opened:
    """Files opened and connections made while it is switched on: an audit hook can't be taken away again."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.on and event in ("open", "socket.connect", "socket.getaddrinfo"):
            self.seen.append((event, str(arguments[0])))


def test_a_text_that_is_a_pictures_path_or_url_is_encoded_as_text_and_opens_nothing(two_towers, tmp_path):
    picture = tmp_path / "cat.png"
    Image.new("RGB", (8, 8)).save(picture)
    looks = [str(picture), "https://example.com/cat.png", "data:image/png;base64,iVBORw0KGgo=", picture.as_uri()]
    opened = Opened()
    for encoder in (Encoder.load(two_towers), on_torch(two_towers)[1]):
        encoder.encode_queries(["warm up"])
        opened.on = True
        vectors = encoder.encode_queries(looks).vectors
        documents = encoder.encode_documents(looks).vectors
        opened.on = False
        # The text tower lower-cases nothing and knows no spaces: joined letters are the same tokens, and no path.
        plain = encoder.encode_queries([f"{text} " for text in looks]).vectors
        assert cosines(vectors, plain).min() >= 0.99999
        assert cosines(documents, plain).min() >= 0.99999
    assert opened.seen == []


def test_a_two_tower_model_encodes_texts_and_pictures(two_towers):
    encoder = Encoder.load(two_towers)
    assert encoder.modalities == {"text", "image"}
    pictures = [Image.new("RGB", (20 + i, 30), (10 * i, 0, 200)) for i in range(5)]
    vectors = encoder.encode_images(pictures)
    assert vectors.shape == (5, DIMENSION)
    assert vectors.dtype == np.float32
    expected = models.load(models.locate(two_towers), models.conventions(models.locate(two_towers))).encode(pictures)
    assert cosines(vectors, expected).min() >= 0.99999
    assert encoder.encode_images([]).shape == (0, DIMENSION)
    assert encoder.encode_queries(["abc"]).vectors.shape == (1, DIMENSION)


def test_pictures_need_a_tower(tiny):
    with pytest.raises(UnsupportedModality, match="has no tower for pictures"):
        tiny.encode_images([Image.new("RGB", (8, 8))])


def test_out_of_memory_halves_the_budget_and_goes_on(folder, tiny, caplog):
    import torch

    loaded, encoder = on_torch(folder)
    rows = []

    def fits_three(module, arguments):
        rows.append(len(arguments[0]["input_ids"]))
        if rows[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    loaded.register_forward_pre_hook(fits_three)
    texts = [f"text {i}" for i in range(200)]
    vectors = encoder.encode_documents(texts).vectors
    assert cosines(vectors, tiny.encode_documents(texts).vectors).min() >= 0.9999
    assert "ran out of memory" in caplog.text
    first, rows[:] = max(rows), []
    encoder.encode_documents(texts)
    assert max(rows) < first / 4  # what it learned stays


def test_a_text_that_does_not_fit_into_memory_alone_says_so(folder):
    loaded, encoder = on_torch(folder)

    def fits_nothing(module, arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    loaded.register_forward_pre_hook(fits_nothing)
    with pytest.raises(ModelUnavailable, match="not even one text or picture fits into memory"):
        encoder.encode_documents(["a", "b"])


def test_a_vector_that_is_not_finite_is_refused(folder):
    loaded, encoder = on_torch(folder)
    loaded.register_forward_hook(
        lambda module, _, output: output | {"sentence_embedding": output["sentence_embedding"] / 0}
    )
    with pytest.raises(ModelUnavailable, match="not finite"):
        encoder.encode_documents(["a"])


@needs_openvino
def test_the_fast_backend_agrees_with_torch(english):
    assert english.backend == "openvino"
    model = models.locate("english")
    loaded = models.load(model, models.conventions(model), device="cpu")
    texts = [*TEXTS, *(f"{text} and so on" for text in TEXTS), "return the sorted list of names in a folder"]
    expected = loaded.encode(texts, normalize_embeddings=True)
    assert cosines(english.encode_documents(texts).vectors, expected).min() >= 0.9999


@needs_openvino
def test_a_converted_model_starts_without_torch(english, multilingual, cache):
    code = (
        "import sys; from retriever import Encoder\n"
        "for name in ('english', 'multilingual'): Encoder.load(name).encode_queries(['hello'])\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"POLYSEEK_CACHE": str(cache)})


@needs_openvino
@pytest.mark.parametrize("damage", ["weights", "facts"])
def test_a_damaged_converted_model_is_made_anew(folder, tiny, tmp_path, monkeypatch, cache, caplog, damage):
    monkeypatch.setenv("POLYSEEK_CACHE", str(tmp_path))
    shutil.copytree(cache / "openvino", tmp_path / "openvino")
    for converted in (tmp_path / "openvino").iterdir():
        if damage == "weights":
            size = (converted / "model.bin").stat().st_size
            (converted / "model.bin").write_bytes(bytes(size))
        else:
            (converted / "facts.json").write_text("{")
    again = Encoder.load(folder)
    assert "is made anew" in caplog.text
    assert again.backend == "openvino"
    assert cosines(again.encode_queries(TEXTS).vectors, tiny.encode_queries(TEXTS).vectors).min() >= 0.99999


@needs_openvino
def test_a_backend_that_disagrees_with_torch_is_not_used(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("POLYSEEK_CACHE", str(tmp_path))
    monkeypatch.setattr(backends, "AGREEMENT", 1.5)
    assert Encoder.load(folder).backend == "torch"
    assert "torch is used" in caplog.text
    assert list((tmp_path / "openvino").iterdir()) == []


@needs_openvino
def test_who_converts_a_model_second_leaves_what_is_there(folder, tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("POLYSEEK_CACHE", str(tmp_path))
    model = models.locate(folder)
    how = models.conventions(model)
    loaded = models.load(model, how, device="cpu")
    towers = [backends.convert(loaded, model, how) for _ in range(2)]
    (kept,) = (tmp_path / "openvino").iterdir()
    assert (kept / "facts.json").is_file()
    expected = tiny.encode_queries(TEXTS).vectors
    for tower in towers:
        assert cosines(tower.forward(tower.prepare(TEXTS, "query"), "query"), expected).min() >= 0.99999


@needs_openvino
@pytest.mark.soak
def test_two_processes_may_convert_a_model_at_once(folder, tmp_path):
    code = f"from retriever import Encoder; print(Encoder.load({str(folder)!r}).backend)"
    environment = os.environ | {"POLYSEEK_CACHE": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in started] == ["openvino", "openvino"]
    assert len(list((tmp_path / "openvino").iterdir())) == 1
