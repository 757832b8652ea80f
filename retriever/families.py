"""How the models of well-known families want to be used, where their files don't say it.

A model's own config_sentence_transformers.json comes first; what it leaves open is taken from here by the model's name.
"""

import re
from dataclasses import dataclass
from typing import Literal

Similarity = Literal["cosine", "dot"]


@dataclass(frozen=True, slots=True)
class Family:
    """What models of one family need and often don't carry.

    prompts: (query, document). pooling: of a folder without modules.json, which would be pooled by mean.
    """

    name: re.Pattern[str]
    prompts: tuple[str, str] = ("", "")
    similarity: Similarity = "cosine"
    pooling: Literal["mean", "cls"] = "mean"


# The first whose pattern the last part of the hub id, of the folder or of the config's `_name_or_path` begins with.
FAMILIES = (
    # Wang et al. 2022 (arXiv 2212.03533), section 4.1, and the model cards; the instruct models want a task sentence.
    Family(
        re.compile(r"(multilingual-)?e5-[\w-]*instruct"),
        ("Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ", ""),
    ),
    Family(re.compile(r"(multilingual-)?e5-(small|base|large)"), ("query: ", "passage: ")),
    # Xiao et al. 2023 (arXiv 2309.07597) and the model cards: an instruction for queries alone, the [CLS] vector.
    Family(
        re.compile(r"bge-(small|base|large)-en"),
        ("Represent this sentence for searching relevant passages: ", ""),
        pooling="cls",
    ),
    Family(re.compile(r"bge-(small|base|large)-zh"), ("为这个句子生成表示以用于检索相关文章：", ""), pooling="cls"),
    # Izacard et al. 2022 (arXiv 2112.09118), section 3.1: the mean over tokens, unnormalised, by inner product.
    Family(re.compile(r"m?contriever"), similarity="dot"),
)


def family_of(*names: str) -> Family:
    """The first family that one of a model's names belongs to, else one that needs nothing."""
    lasts = [name.lower().rsplit("/", 1)[-1] for name in names]
    return next((family for family in FAMILIES if any(map(family.name.match, lasts))), Family(re.compile("")))
