"""Statistics of a group of neurons, computed from one matrix of moments, and control groups to compare it with.

Control groups are drawn at random, or **matched**: every member is replaced by one of its nearest neighbours in
features such as the activation's mean and variance, so that the controls share whatever follows from those features
alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from raretok.stats.eigen import eigenvalues

NEIGHBOURS = 5
"""Number of nearest neighbours outside the group from which the replacement of each member is drawn."""
CALIPER = 1.0
"""Largest distance in standardised features at which a neighbour counts as a match of a member."""
EXPLAINED = 0.95
STATISTICS = ("within_r", "rest_r", "within_cosine", "rest_cosine", "participation", "components", "information")
"""Names of the statistics that ``group_statistics`` returns."""
_CHUNK = 1 << 23
"""Largest total number of entries in the matrices that are held at once."""


@dataclass(frozen=True)
class Moments:
    """Weighted moments of activations: ``mean``, ``raw`` = E[a aᵀ], and the effective number of rows (Σw)²/Σw²."""

    mean: Float[ndarray, " neuron"]
    raw: Float[ndarray, "neuron neuron"]
    rows: float

    @cached_property
    def correlation(self) -> Float[ndarray, "neuron neuron"]:
        """Pearson's r of every pair, which is the cosine of the centred activations; 0 for constant neurons."""
        return _cosine(self.raw - np.outer(self.mean, self.mean), np.diag(self.raw))

    @cached_property
    def cosine(self) -> Float[ndarray, "neuron neuron"]:
        """Cosine of the uncentred activations, which is positive for pairs with large means of the same sign."""
        return _cosine(self.raw, np.diag(self.raw))


def _inverse_size(square: Float[ndarray, "*any"], scale: Float[ndarray, "*any"]) -> Float[ndarray, "*any"]:
    """1/√square, and 0 where ``square`` is so small relative to ``scale`` that only rounding errors remain."""
    there = square > 1e-12 * scale
    return np.divide(1, np.sqrt(np.where(there, square, 1.0)), out=np.zeros_like(square), where=there)


def _cosine(second: Float[ndarray, "n n"], scale: Float[ndarray, " n"]) -> Float[ndarray, "n n"]:
    inverse = _inverse_size(np.diag(second), scale)
    cosines = second * inverse[:, None] * inverse
    np.fill_diagonal(cosines, 1.0)
    return cosines


def moments(activation: Float[ndarray, "row neuron"], weight: Float[ndarray, " row"]) -> Moments:
    """Weighted moments over the rows, summed in float64.

    The mean is in the activation's unit and ``raw`` in its square. At least one weight must be above 0.

    Args:
        activation: Activation of every neuron at every position.
        weight: Weight of each position; positions of weight 0 are left out.
    """
    kept = weight > 0
    share = weight[kept] / weight[kept].sum()
    a = activation[kept].astype(np.float64)
    return Moments(share @ a, a.T @ (a * share[:, None]), float(1 / (share**2).sum()))


def group_statistics(data: Moments, groups: Int[ndarray, "group size"]) -> dict[str, Float[ndarray, " group"]]:
    """Statistics of groups of one size, by name (``STATISTICS``).

    ``within_r`` and ``rest_r`` are the mean Pearson r between members, and between members and all other neurons;
    ``within_cosine`` and ``rest_cosine`` are the same means for the cosine of uncentred activations. ``participation``
    is (Σλ)²/Σλ² of the correlation matrix divided by the group's size, 1 for independent members; the upward bias of
    Σλ² that comes from the finite number of rows is subtracted. ``components`` is the share of the principal components
    that is needed to explain 95% of the variance, and ``information`` the Gaussian multi-information −½ ln det R in
    nats.
    """
    matrices = data.correlation, data.cosine
    totals = [m.sum(1) for m in matrices]
    parts = []
    for part in _parts(groups):
        inside = [m[part[:, :, None], part[:, None, :]] for m in matrices]
        reach = [t[part].sum(1) for t in totals]
        parts.append(_summaries(inside, reach, len(data.mean), data.rows))
    return {name: np.concatenate([p[name] for p in parts]) for name in STATISTICS}


def _parts(groups: Int[ndarray, "group size"]) -> Iterator[Int[ndarray, "part size"]]:
    step = max(1, _CHUNK // groups.shape[1] ** 2)
    return (groups[k : k + step] for k in range(0, len(groups), step))


def _summaries(
    matrices: list[Float[ndarray, "x n n"]], reach: list[Float[ndarray, " x"]], neurons: int, rows: float
) -> dict[str, Float[ndarray, " x"]]:
    """``STATISTICS`` of groups.

    ``matrices`` are the correlations and the cosines between the members, and ``reach`` the sums of each over all pairs
    of a member and any neuron, the member itself included.
    """
    r = matrices[0]
    size = r.shape[-1]
    pairs, others = size * (size - 1), size * (neurons - size)
    result = {}
    for name, matrix, total in zip(("r", "cosine"), matrices, reach, strict=True):
        inside = matrix.sum((1, 2))
        result[f"within_{name}"] = (inside - size) / pairs
        result[f"rest_{name}"] = (total - inside) / others
    squared = r**2
    unbiased = squared - (1 - squared) ** 2 / max(rows - 1, 1)
    off_diagonal = unbiased.sum((1, 2)) - np.trace(unbiased, axis1=1, axis2=2)
    result["participation"] = size / np.maximum(size + off_diagonal, 1.0)
    values = np.maximum(eigenvalues(r), 1e-12)[:, ::-1]
    held = np.cumsum(values, 1) / values.sum(1, keepdims=True)
    result["components"] = ((held < EXPLAINED).sum(1) + 1) / size
    result["information"] = -0.5 * np.log(values).sum(1)
    return result


def resampled_statistics(
    activation: Float[ndarray, "row neuron"],
    weight: Float[ndarray, " row"],
    document: Int[ndarray, " row"],
    group: Int[ndarray, " size"],
    counts: Float[ndarray, "resample document"],
) -> dict[str, Float[ndarray, " resample"]]:
    """``STATISTICS`` of one group in every resample of the documents, by name.

    A statistic is NaN in resamples that draw no document of positive weight.

    Args:
        activation: Activation of every neuron at every position.
        weight: Weight of each position.
        document: Index of each position's document, that is, of a column of ``counts``.
        group: Neuron ids.
        counts: How often each document counts in each resample, or in each exchange of two kinds of positions.
    """
    kept = np.flatnonzero(weight > 0)
    kept = kept[np.argsort(document[kept], kind="stable")]
    a, w = activation[kept].astype(np.float64), weight[kept]
    there, start = np.unique(document[kept], return_index=True)
    total = counts[:, there] @ np.add.reduceat(w, start)
    drawn = total > 0
    counts, total = counts[np.ix_(drawn, there)], total[drawn]
    mean, square = (counts @ np.add.reduceat(w[:, None] * x, start) / total[:, None] for x in (a, a**2))
    scale_r, scale_cosine = _inverse_size(square - mean**2, square), _inverse_size(square, square)
    size, neurons, draws = len(group), a.shape[1], len(counts)
    inside = [np.empty((draws, size, size)) for _ in range(2)]
    reach = [np.zeros(draws) for _ in range(2)]
    step = max(1, _CHUNK // (neurons * max(draws, len(there))))
    for k in range(0, size, step):
        members = group[k : k + step]
        left = w[:, None] * a[:, members]
        ends = np.append(start, len(a))[1:]
        cross = np.stack([left[b:e].T @ a[b:e] for b, e in zip(start, ends, strict=True)])
        second = (counts @ cross.reshape(len(there), -1)).reshape(draws, len(members), neurons) / total[:, None, None]
        centred = second - mean[:, members, None] * mean[:, None, :]
        for n, (matrix, scale) in enumerate(((centred, scale_r), (second, scale_cosine))):
            matrix *= scale[:, members, None] * scale[:, None, :]
            matrix[:, np.arange(len(members)), members] = 1.0
            inside[n][:, k : k + step] = matrix[:, :, group]
            reach[n] += matrix.sum((1, 2))
    share = w / w.sum()
    statistics = {}
    for name, values in _summaries(inside, reach, neurons, float(1 / (share**2).sum())).items():
        statistics[name] = np.full(len(drawn), np.nan)
        statistics[name][drawn] = values
    return statistics


def between(
    matrix: Float[ndarray, "neuron neuron"], a: Int[ndarray, "group x"], b: Int[ndarray, "group y"]
) -> Float[ndarray, " group"]:
    """Mean matrix entry between the members of two groups, for many pairs of groups, which must be disjoint."""
    return matrix[a[:, :, None], b[:, None, :]].mean((1, 2))


def random_groups(neurons: int, size: int, count: int, rng: np.random.Generator) -> Int[ndarray, "group size"]:
    """Groups drawn without replacement from all neurons. Raises ``ValueError`` if a group is larger than the layer."""
    return np.argpartition(rng.random((count, neurons)), size - 1, axis=1)[:, :size]


def matchable(
    features: Float[ndarray, "neuron feature"], group: Int[ndarray, " size"], neighbours: int = NEIGHBOURS
) -> Bool[ndarray, " size"]:
    """Which members have at least ``neighbours`` neurons outside the group within ``CALIPER``: those can be matched."""
    distance, _ = _distances(features, group, group)
    return np.asarray((distance <= CALIPER).sum(1) >= neighbours)


def matched_groups(
    features: Float[ndarray, "neuron feature"],
    group: Int[ndarray, " size"],
    count: int,
    rng: np.random.Generator,
    barred: Int[ndarray, " kin"] | None = None,
    neighbours: int = NEIGHBOURS,
) -> Int[ndarray, "draw size"]:
    """Groups in which every member is replaced by one of its nearest neighbours outside the group.

    No neuron is used twice in a group, and the replacements are in the order of the members.

    Args:
        features: Features of every neuron; they are standardised before distances are computed.
        group: Neuron ids.
        count: Number of groups to draw.
        rng: Random generator for the draws.
        barred: Ids of other neurons that may not replace a member.
        neighbours: Number of nearest neighbours to draw from; farther ones are used when these are exhausted.

    Raises:
        ValueError: if there are fewer neurons to draw from than members of the group.
    """
    distance, outside = _distances(features, group, group if barred is None else np.union1d(group, barred))
    if len(outside) < len(group):
        raise ValueError(f"{len(outside)} neurons outside a group of {len(group)} cannot replace it")
    near = outside[np.argsort(distance, axis=1)[:, : neighbours + len(group)]]
    used = np.zeros((count, len(features)), dtype=bool)
    drawn = np.empty((count, len(group)), dtype=np.int64)
    rows = np.arange(count)
    for k in rng.permutation(len(group)):
        place = np.cumsum(~used[:, near[k]], axis=1)
        wanted = rng.integers(1, np.minimum(neighbours, place[:, -1]) + 1)
        pick = near[k][(place >= wanted[:, None]).argmax(1)]
        drawn[:, k] = pick
        used[rows, pick] = True
    return drawn


def _distances(
    features: Float[ndarray, "neuron feature"], group: Int[ndarray, " size"], barred: Int[ndarray, " kin"]
) -> tuple[Float[ndarray, "size outside"], Int[ndarray, " outside"]]:
    """Distances of the members to all neurons that are not barred, and the ids of those neurons."""
    outside = np.setdiff1d(np.arange(len(features)), barred)
    z = features / _spread(features)
    return np.sqrt(((z[group][:, None] - z[outside]) ** 2).sum(-1)), outside


def _spread(features: Float[ndarray, "neuron feature"]) -> Float[ndarray, " feature"]:
    spread = features.std(0)
    return np.where(spread > 0, spread, 1.0)


def balance(
    features: pd.DataFrame, group: Int[ndarray, " size"], drawn: dict[str, Int[ndarray, "draw size"]]
) -> pd.DataFrame:
    """How similar the controls are to a group, with one row per feature.

    Columns: ``feature``, ``group`` (mean of the group), and for each kind of controls the difference of their mean from
    that of the group, in standard deviations over all neurons.
    """
    values = features.to_numpy(dtype=float)
    mean, spread = values[group].mean(0), _spread(values)
    gaps = {kind: (values[g].mean((0, 1)) - mean) / spread for kind, g in drawn.items()}
    return pd.DataFrame({"feature": list(features.columns), "group": mean} | gaps)
