"""Named random streams: streams with different names are independent, except for three of ``KEPT`` that coincide."""

import hashlib

import numpy as np

KEPT: dict[tuple[str | int, ...], tuple[int, ...]] = {
    ("documents drawn", ""): (),
    ("halves of documents",): (),
    **{
        ("regimes.nulls", band, measure): (i, k)
        for i, band in enumerate(("rare", "matched", "common"))
        for k, measure in enumerate(("net", "activity"))
    },
}
"""Streams that are seeded by numbers rather than by a hash of their name.

Results in ``models/results`` were computed with these streams and cannot be computed again, because their checkpoints
are not shipped. At one seed the first two, and that of the nulls of the net curve at rare targets, are the same
numbers, because zeros at the end of a seed do not count.
"""


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """A separate generator for each seed and name; the name states what is drawn, such as ``coactivation.clusters``."""
    if name in KEPT:
        return np.random.default_rng([seed, *KEPT[name]])
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])
