"""Evaluation of encoders and collections."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.evaluation import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> object:
    if name != "evaluate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from eval.evaluation import evaluate

    return evaluate
