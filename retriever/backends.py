"""The fast backend for transformer encoders on the CPU: OpenVINO in float32, agreed with torch before it is used.

A model is converted once, with its tokenizer, into a folder of the cache; later starts need neither torch nor
sentence-transformers (5 seconds of imports). At every start the converted model encodes a probe whose vectors torch
made, and it is used only if they agree. Why OpenVINO: docs/decisions/0001-cpu-backend.md.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.models import Conventions, Model, Traits, cache_folder, quiet_transformers, traits
from retriever.towers import CALL, Prepared, Role, TorchTower, cores, text_features

logger = logging.getLogger(__name__)

# Raised when what is written to the cache changes.
FORMAT = 1
AGREEMENT = 0.9999
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# So many of them are compared at every start, which takes 3 ms with MiniLM.
PROBE_AT_START = 3
# Tokens, padding included, of a batch that all cores share: a query or a few.
SHORT = 128
# Lengths and scripts that take different ways through a model: from nothing to more than the maximum.
PROBE = (
    "",
    "retrieval",
    "How do I read a file line by line?",
    "Wie öffne ich eine Datei? 如何打开文件？ كيف أفتح ملفًا؟",
    "def area(radius: float) -> float:\n    return math.pi * radius**2",
    "one two three four five six seven " * 80,
)


class OpenVinoTower:
    """A converted text encoder."""

    backend = "openvino"
    padded = True
    call = CALL
    # Documents/s of MiniLM on 2 cores with 256 / 512 / 1,024 / 2,048 / 4,096 tokens: 66, 66, 61, 60, 44 (torch: 42).
    budget = 512

    def __init__(self, folder: Path, prompts: Mapping[Role, str]) -> None:
        import openvino
        from tokenizers import Tokenizer

        facts = json.loads((folder / "facts.json").read_text("utf-8"))
        self.traits = Traits(**facts["traits"] | {"modalities": frozenset(facts["traits"]["modalities"])})
        self.workers = cores()
        self._prompts, self._pad = prompts, facts["pad"]
        self._tokenizer, self._counter = (Tokenizer.from_file(str(folder / "tokenizer.json")) for _ in range(2))
        for tokenizer in (self._tokenizer, self._counter):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        self.special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if self.traits.max_tokens is not None:
            self._tokenizer.enable_truncation(self.traits.max_tokens)
        self._model = openvino.Core().read_model(folder / "model.xml")
        self._inputs = [port.any_name for port in self._model.inputs]

    @cached_property
    def _short(self) -> "_Compiled":
        """All cores on one batch: one query of MiniLM took 2.5 ms on 2 cores, 4.8 ms on one of them."""
        return _Compiled(self._model, streams=1, threads=self.workers)

    @cached_property
    def _long(self) -> "_Compiled":
        """One core a batch, batches side by side: nothing waits for the slower half of a batch."""
        return _Compiled(self._model, streams=self.workers, threads=self.workers)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        return [len(e.ids) for e in self._counter.encode_batch_fast(list(texts), add_special_tokens=False)]

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        """Tokenise, with the role's prompt, and cut."""
        encoded = self._tokenizer.encode_batch_fast([self._prompts[role] + text for text in texts])
        return [Prepared((e.ids, e.type_ids), len(e.ids), bool(e.overflowing)) for e in encoded]

    def forward(self, batch: Sequence[Prepared], role: Role) -> NDArray[np.float32]:
        """Vectors (N, D) as the model gives them."""
        arrays = self._padded(batch)
        compiled = self._short if arrays["input_ids"].size <= SHORT else self._long
        vectors = compiled.infer({name: arrays[name] for name in self._inputs})
        return np.array(vectors[: len(batch)], np.float32)

    def _padded(self, batch: Sequence[Prepared]) -> dict[str, NDArray[np.int64]]:
        """Inputs of a shape from a small set, since each new one costs 5 ms at its first use, and memory."""
        width = round_up(max(text.length for text in batch))
        # Full batches have one number of rows at each width.
        rows = min(round_up(len(batch), 1), max(len(batch), self.budget // width))
        arrays = {name: np.zeros((rows, width), np.int64) for name in INPUTS}
        arrays["input_ids"][:] = self._pad
        arrays["attention_mask"][len(batch) :, 0] = 1  # a row of padding alone would divide by zero
        for row, text in enumerate(batch):
            ids, types = text.payload
            arrays["input_ids"][row, : len(ids)] = ids
            arrays["token_type_ids"][row, : len(ids)] = types
            arrays["attention_mask"][row, : len(ids)] = 1
        return arrays


class _Compiled:
    """A model compiled for so many batches side by side on so many threads in all. `infer` is thread-safe."""

    def __init__(self, model: Any, *, streams: int, threads: int) -> None:  # noqa: ANN401 - an openvino.Model
        import openvino

        options = {
            # The default is bfloat16 where the processor has it: slower here, and less exact.
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(threads),
            # Pinned threads of two processes would share the first cores and leave the others idle.
            "ENABLE_CPU_PINNING": False,
        }
        self._model = openvino.Core().compile_model(model, "CPU", options)
        self._of_thread = local()

    def infer(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """The model's output; an InferRequest serves one thread at a time, so each has its own."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._model.create_infer_request()
        vectors: NDArray[np.float32] = self._of_thread.request.infer(inputs)[0]
        return vectors


def round_up(length: int, least: int = 4) -> int:
    """The length that a batch is padded to: eight steps in each doubling, at least `least` apart."""
    step = max(least, 1 << max(0, length.bit_length() - 4))
    return -(-length // step) * step


def available() -> bool:
    """Whether OpenVINO is installed (the extra `cpu` brings it)."""
    return find_spec("openvino") is not None


def open_converted(model: Model, how: Conventions) -> OpenVinoTower | None:
    """The converted model of the cache, if it is there and agrees with its probe; a damaged one is removed."""
    folder = _folder(model, how)
    if not folder.is_dir():
        return None
    try:
        tower = OpenVinoTower(folder, how.prompts)
        agreement = _agreement(tower, np.load(folder / "probe.npy")[:PROBE_AT_START])
        if agreement >= AGREEMENT:
            return tower
        problem = f"its vectors agree with its probe to {agreement:.6f} only"
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        problem = str(error)
    logger.warning("the converted model in %s is made anew: %s", folder, problem)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def convert(loaded: Any, model: Model, how: Conventions) -> OpenVinoTower | None:  # noqa: ANN401 - SentenceTransformer
    """Convert a model and keep it in the cache; None where torch must encode instead, with a warning if it ought not.

    Two processes may do this at once: each writes a folder of its own, and the first to rename it into place wins.
    """
    if not _convertible(loaded, how):
        return None
    folder = _folder(model, how)
    reference = TorchTower(loaded, how.prompts)
    probe = np.concatenate([reference.forward(reference.prepare([text], "query"), "query") for text in PROBE])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-", ignore_cleanup_errors=True) as name:
            temporary = Path(name, "model")
            temporary.mkdir()
            _write(loaded, temporary, probe)
            tower = OpenVinoTower(temporary, how.prompts)
            agreement = _agreement(tower, probe)
            if not agreement >= AGREEMENT:
                logger.warning("OpenVINO agrees with torch on %s to %.6f only: torch is used", model.name, agreement)
                return None
            with contextlib.suppress(OSError):  # another process was first
                temporary.rename(folder)
            return tower  # its files are mapped, so it doesn't mind where they are now
    except Exception as error:  # whatever a converter meets in a model's code, torch can still encode
        logger.warning("OpenVINO can't convert %s, torch is used: %s", model.name, error)
        return None


def _folder(model: Model, how: Conventions) -> Path:
    facts = [FORMAT, version("openvino"), sorted(model.digests.items()), how.prompts, how.pooling]
    return cache_folder() / "openvino" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _convertible(loaded: Any, how: Conventions) -> bool:  # noqa: ANN401 - a SentenceTransformer
    """Whether texts go one way through the model, from ids and masks alone, padded on the right."""
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import Pooling

    tokenizer = loaded.tokenizer
    if getattr(tokenizer, "backend_tokenizer", None) is None or tokenizer.padding_side != "right":
        return False
    if isinstance(loaded[0], Router) and {"query", "document"} & set(loaded[0].sub_modules):
        return False
    if any(how.prompts.values()) and any(isinstance(m, Pooling) and not m.include_prompt for m in loaded.modules()):
        return False
    features = text_features(loaded, ["probe"], "", "query")
    return {name for name, value in features.items() if hasattr(value, "shape")} <= set(INPUTS)


def _write(loaded: Any, folder: Path, probe: NDArray[np.float32]) -> None:  # noqa: ANN401 - a SentenceTransformer
    """Write model.xml, model.bin, tokenizer.json, facts.json and probe.npy."""
    import openvino
    import torch

    features = text_features(loaded, ["one two", "three"], "", "query")
    example = {name: features[name] for name in INPUTS if name in features}

    class Graph(torch.nn.Module):
        """The model as a function of its tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.model = loaded

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            features = dict(zip(example, tensors, strict=True)) | {"modality": "text"}
            vectors: torch.Tensor = self.model(features)["sentence_embedding"]
            return vectors

    with torch.inference_mode(), warnings.catch_warnings(), quiet_transformers():
        # Tracing warns of each branch on a shape; whether one mattered is what the probe finds out.
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(Graph().eval(), example_input=tuple(example.values()))
    for port, name in zip(converted.inputs, example, strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)
    loaded.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    np.save(folder / "probe.npy", probe)
    found = traits(loaded)
    facts = {
        "traits": asdict(found) | {"modalities": sorted(found.modalities)},
        "pad": loaded.tokenizer.pad_token_id or 0,
    }
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")


def _agreement(tower: OpenVinoTower, probe: NDArray[np.float32]) -> float:
    """The least cosine between the tower's vectors of the probe and torch's, or the least ratio of their lengths."""
    vectors = tower.forward(tower.prepare(PROBE[: len(probe)], "query"), "query")
    lengths, expected = np.linalg.norm(vectors, axis=1), np.linalg.norm(probe, axis=1)
    cosines = np.einsum("nd,nd->n", vectors, probe) / (lengths * expected)
    ratios = np.minimum(lengths, expected) / np.maximum(lengths, expected)
    return float(min(cosines.min(), ratios.min()))
