"""What is asked of a reader besides a folder: splits, languages and pairs of them."""

from collections.abc import Sequence

from retriever.errors import InvalidRequest
from retriever.languages import canonical


def wanted_splits(split: str | None, default: str) -> list[str]:
    """The splits of `a,b`, each once."""
    return list(dict.fromkeys((split or default).split(",")))


def wanted_languages(wanted: Sequence[str] | None, there: Sequence[str], dataset: str) -> list[str]:
    """Those of the languages that are there which are wanted, in their order; None: all.

    wanted: tags in any form. there: what the dataset calls them. Raises InvalidRequest for one that isn't there.
    """
    if wanted is None:
        return list(there)
    if not there:
        raise InvalidRequest(f"{dataset} has no languages to choose from", hint="leave out the languages")
    kept = {name for tag in wanted for name in _named(tag, there, dataset)}
    return [name for name in there if name in kept]


def wanted_pairs(
    wanted: Sequence[str], queries: Sequence[str], documents: Sequence[str], dataset: str
) -> list[tuple[str, str]]:
    """(language of the queries, of the documents) of pairs such as `de-en` or `zh-Hant-en`.

    queries, documents: what the dataset calls those that it has. Raises InvalidRequest.
    """
    return list(dict.fromkeys(_pair(pair, queries, documents, dataset) for pair in wanted))


def _pair(pair: str, queries: Sequence[str], documents: Sequence[str], dataset: str) -> tuple[str, str]:
    parts = pair.split("-")
    for cut in range(1, len(parts)):
        left = _found("-".join(parts[:cut]), queries)
        right = _found("-".join(parts[cut:]), documents)
        if left and right:
            return left[0], right[0]
    known = f"{', '.join(queries)}" + ("" if queries == documents else f" to {', '.join(documents)}")
    raise InvalidRequest(f"{dataset} has no pair {pair}", hint=f"a pair is written de-en; the languages are {known}")


def _named(tag: str, there: Sequence[str], dataset: str) -> list[str]:
    found = _found(tag, there)
    if not found:
        raise InvalidRequest(f"{dataset} has no language {tag}", hint=f"it has {', '.join(there)}")
    return found


def _found(tag: str, there: Sequence[str]) -> list[str]:
    """By its own name, else by the language that it means."""
    return [tag] if tag in there else [name for name in there if _same(tag, name)]


def _same(one: str, other: str) -> bool:
    try:
        return canonical(one) == canonical(other)
    except ValueError:
        return False
