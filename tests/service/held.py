"""A real encoder that can be told to wait, and what the tests of batches ask of the metrics."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from retriever.encoder import Encoder
from retriever.towers import Prepared, Role


class Held(Encoder):
    """An encoder whose passes wait while it is held. passes: how many texts each took, in the order of their start."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.held: Role | None = None
        self.entered = threading.Semaphore(0)
        self.passes: list[int] = []
        self.tokenised: list[str] = []
        self._open = threading.Event()

    def hold(self, role: Role = "query") -> None:
        """From now on passes of this role wait; `entered` is released when one does."""
        self._open.clear()
        self.held = role

    def release(self) -> None:
        """Let them go on."""
        self.held = None
        self._open.set()

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        self.tokenised += texts
        return super().prepare(texts, role)

    def encode_prepared(self, prepared: Sequence[Prepared], role: Role) -> NDArray[np.float32]:
        self.passes.append(len(prepared))
        if self.held == role:
            self.entered.release()
            assert self._open.wait(60)
        return super().encode_prepared(prepared, role)


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    """A sample of /metrics, 0 where there is none."""
    wanted = "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}" if labels else ""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"polyseek_{name}{wanted} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    for _ in range(4000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never held")
