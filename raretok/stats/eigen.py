"""Eigenvalues of many small symmetric matrices, shared out over the cores."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float
from numpy import ndarray

WORTH_THREADS = 10**7
"""Number of matrices × rows³ above which threads save time."""


def eigenvalues(matrices: Float[ndarray, "x n n"]) -> Float[ndarray, "x n"]:
    """Eigenvalues in ascending order of every matrix, the same whatever the number of threads.

    The library solves one matrix after the other, so the matrices are divided among as many threads as there are cores,
    or as ``OMP_NUM_THREADS`` allows.
    """
    count, size = matrices.shape[:2]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(count, cores, int(allowed) if allowed.isdecimal() else cores)
    if threads < 2 or count * size**3 < WORTH_THREADS:
        return np.linalg.eigvalsh(matrices)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(np.linalg.eigvalsh, np.array_split(matrices, threads))))
