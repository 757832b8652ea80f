"""The two long parts of building an inverted file, on a GPU: k-means, and which list each row belongs to.

What is made is an index of the CPU, of any kind, and searched there. Where the device fails, the CPU does the work.

Axes: N rows, D dimensions, L lists.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.dense import load_faiss
from retriever.gpu import Device, GpuFailed
from retriever.owner import Owner

Vectors = NDArray[np.float32]

log = logging.getLogger(__name__)


def train(index: Any, sample: Vectors, owner: Owner | None) -> None:  # noqa: ANN401 - FAISS has no types
    """Train an index on a sample (N, D), its lists on the device."""
    faiss = load_faiss()
    ivf, threads = faiss.try_extract_index_ivf(index), faiss.omp_get_max_threads()
    if owner is not None and ivf is not None and _has_centroids(ivf):
        try:
            owner.do(lambda device: _train(device, index, ivf, sample, threads))
        except GpuFailed as error:
            log.warning("the CPU trains the index, not the GPU: %s", error)
        else:
            return
    index.train(sample)


@contextlib.contextmanager
def filling(index: Any, owner: Owner | None) -> Iterator[Callable[[Vectors], None]]:  # noqa: ANN401
    """What adds vectors (N, D) to a trained index, in lists that the device finds where the kind takes them."""
    faiss = load_faiss()
    # Of other kinds `add_core` is another kind's, which would write codes of the wrong form.
    takes_lists = (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ, faiss.IndexIVFRaBitQ)
    ivf = faiss.downcast_index(index)
    if owner is None or type(ivf) not in takes_lists or not _has_centroids(ivf):
        yield index.add
        return
    try:
        centroids = owner.load(ivf.quantizer.reconstruct_n(0, ivf.nlist), limit=None)
    except GpuFailed as error:
        log.warning("the CPU fills the index, not the GPU: %s", error)
        yield index.add
        return

    def add(vectors: Vectors) -> None:
        lists = owner.search(centroids, ivf.nlist, vectors, 1)
        if lists is None:
            index.add(vectors)
            return
        vectors, lists = np.ascontiguousarray(vectors), np.ascontiguousarray(lists)
        ivf.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(lists))

    try:
        yield add
    finally:
        owner.release(centroids)


def _has_centroids(ivf: Any) -> bool:  # noqa: ANN401
    """Whether a list is where its centroid has the largest inner product, however the CPU finds that."""
    faiss = load_faiss()
    quantizer = faiss.downcast_index(ivf.quantizer)
    return isinstance(quantizer, (faiss.IndexFlat, faiss.IndexHNSW)) and ivf.metric_type == faiss.METRIC_INNER_PRODUCT


def _train(device: Device, index: Any, ivf: Any, sample: Vectors, threads: int) -> None:  # noqa: ANN401
    # What was set counts for the thread that set it; the CPU's part of the work is done in this one.
    load_faiss().omp_set_num_threads(threads)
    assigner = device.matrix(ivf.d)
    ivf.clustering_index = assigner
    try:
        index.train(sample)
    finally:
        # FAISS doesn't own it, and it must be freed in this thread.
        ivf.clustering_index = None
