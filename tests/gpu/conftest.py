"""Every test of this folder runs on two devices: FAISS on the CPU in place of a GPU, and the GPU where there is one."""

import pytest

from retriever import gpu, owner, residence, upkeep, view
from tests.gpu.host import Host


def named(name):
    """What makes devices of a name; skips the test where there is none."""
    if name == "host":
        return Host
    if not gpu.gpus():
        pytest.skip("no GPU: FAISS's GPU build (the extra gpu) finds none")
    return gpu.Cuda


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    return named(request.param)


@pytest.fixture
def gpu_owner(device, monkeypatch):
    """The owner that collections use, and rows on the device however few they are."""
    made = owner.Owner(device())
    monkeypatch.setattr(upkeep, "shared", lambda: made)
    monkeypatch.setattr(residence, "LEAST", 1)
    monkeypatch.setattr(residence, "BEHIND", 200)
    monkeypatch.setattr(view, "EXACT_BELOW", 2)
    yield made
    made.close()
