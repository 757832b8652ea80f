"""FAISS on the CPU in place of a GPU."""

import faiss

from retriever import gpu


class Host:
    """FAISS's exact index on the CPU behind the interface of a device, with a memory of a given size."""

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
