"""Every test of this folder runs on two devices: FAISS on the CPU in place of a GPU, and the GPU where there is one."""

import faiss
import pytest

from retriever import gpu, owner, residence, upkeep, view

DEVICES = ["host", pytest.param("cuda", marks=pytest.mark.gpu)]


class Host:
    """FAISS's exact index on the CPU behind the interface of a device, with a memory of given size."""

    def __init__(self, memory=1 << 40):
        self.memory = memory
        self.made = []
        self.closed = False

    def free(self):
        return self.memory - sum(gpu.resident_bytes(index.ntotal, index.d) for index in self.made)

    def matrix(self, dimension):
        self.made.append(faiss.IndexFlatIP(dimension))
        return self.made[-1]

    def close(self):
        self.closed = True


@pytest.fixture(params=DEVICES)
def device(request):
    """A factory of devices."""
    if request.param == "host":
        return Host
    if not gpu.gpus():
        pytest.skip("no GPU: FAISS's GPU build (the extra gpu) finds none")
    return gpu.Cuda


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
