"""Community structure of a network: modularity of signed weights, its best partition, and a shuffled null model.

Positive and negative weights each have their own expectation and count by their share of the total weight (Gómez,
Jensen and Arenas, Physical Review E 80, 016114). Partitions are optimised by the Louvain method, which is implemented
here because the maintained libraries support non-negative weights only.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

SEEDS = 3


def modularity_matrix(weight: Float[ndarray, "node node"], resolution: float = 1.0) -> Float[ndarray, "node node"]:
    """The matrix B with Q = Σ B over all pairs in the same community.

    ``weight`` is symmetric and may have entries of either sign; its diagonal is ignored.
    """
    off = weight - np.diag(np.diag(weight))
    total = np.abs(off).sum()
    if total == 0:
        return np.zeros_like(off)
    matrix = np.zeros_like(off)
    for sign in (1.0, -1.0):
        part = np.maximum(sign * off, 0)
        if part.any():
            strength = part.sum(1)
            matrix += sign * (part - resolution * np.outer(strength, strength) / strength.sum())
    return matrix / total


def modularity(weight: Float[ndarray, "node node"], community: Int[ndarray, " node"], resolution: float = 1.0) -> float:
    """Signed modularity Q of a partition (Gómez, Jensen and Arenas 2009), in −1…1; 0 for a network without links."""
    return _within(modularity_matrix(weight, resolution), community)


def _within(matrix: Float[ndarray, "node node"], community: Int[ndarray, " node"]) -> float:
    return float(matrix[community[:, None] == community].sum())


def partition(
    weight: Float[ndarray, "node node"], rng: np.random.Generator, resolution: float = 1.0, seeds: int = SEEDS
) -> tuple[float, Int[ndarray, " node"]]:
    """Modularity and communities, numbered by size, of the best of ``seeds`` runs of the Louvain method."""
    matrix = modularity_matrix(weight, resolution)
    best, community = -np.inf, np.zeros(len(weight), dtype=np.int64)
    for _ in range(seeds):
        candidate = _louvain(matrix, rng)
        q = _within(matrix, candidate)
        if q > best + 1e-12:
            best, community = q, candidate
    sizes = np.bincount(community)
    return best, np.argsort(np.argsort(-sizes, kind="stable"))[community]


def _louvain(matrix: Float[ndarray, "node node"], rng: np.random.Generator) -> Int[ndarray, " node"]:
    """Move single nodes, then whole communities, as long as the modularity increases."""
    community = np.arange(len(matrix))
    level = matrix
    while True:
        label = _moved(level, rng)
        _, label = np.unique(label, return_inverse=True)
        community = label[community]
        count = label.max() + 1
        if count == len(level):
            return community
        member = np.zeros((len(level), count))
        member[np.arange(len(level)), label] = 1.0
        level = member.T @ level @ member


def _moved(matrix: Float[ndarray, "node node"], rng: np.random.Generator) -> Int[ndarray, " node"]:
    nodes = len(matrix)
    label = np.arange(nodes)
    gain = matrix - np.diag(np.diag(matrix))  # gain[i, c] is the sum of row i over community c
    moved = True
    while moved:
        moved = False
        for i in rng.permutation(nodes):
            here = label[i]
            best = int(gain[i].argmax())
            if gain[i, best] > gain[i, here] + 1e-12:
                row = matrix[:, i].copy()
                row[i] = 0.0
                gain[:, here] -= row
                gain[:, best] += row
                label[i] = best
                moved = True
    return label


def shuffled(weight: Float[ndarray, "node node"], rng: np.random.Generator) -> Float[ndarray, "node node"]:
    """A null model that keeps only the distribution of the weights: they are permuted over all pairs of nodes."""
    upper = np.triu_indices(len(weight), 1)
    permuted = np.zeros_like(weight)
    permuted[upper] = rng.permutation(weight[upper])
    return permuted + permuted.T
