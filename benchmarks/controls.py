"""What a thousand matched control groups cost: moments, groups and their statistics, at the width of Pythia-410M's
MLP. Run by ``make bench``.
"""

import argparse
import resource
import time

import numpy as np

from raretok.stats.groups import group_statistics, matched_groups, moments, random_groups


def main(neurons: int, size: int, positions: int, draws: int) -> None:
    """Time each part and print it with the peak memory of the process."""
    rng = np.random.default_rng(0)
    activation = rng.gamma(1.0, 1.0, (positions, neurons)).astype(np.float32)
    features = rng.standard_normal((neurons, 4))
    group = rng.permutation(neurons)[:size]
    marks = [time.perf_counter()]
    found = moments(activation, np.ones(positions))
    marks.append(time.perf_counter())
    drawn = {
        "random": random_groups(neurons, size, draws, rng),
        "matched": matched_groups(features, group, draws, rng),
    }
    marks.append(time.perf_counter())
    for groups in drawn.values():
        group_statistics(found, groups)
    marks.append(time.perf_counter())
    names = (
        f"moments of {neurons:,} neurons at {positions:,} positions",
        f"{draws:,} groups of {size} of each kind",
        "statistics",
    )
    for name, seconds in zip(names, np.diff(marks), strict=True):
        print(f"{name:<50} {seconds:6.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'all':<50} {marks[-1] - marks[0]:6.1f} s, peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neurons", type=int, default=4096)
    parser.add_argument("--size", type=int, default=50)
    parser.add_argument("--positions", type=int, default=5000)
    parser.add_argument("--draws", type=int, default=1000)
    main(**vars(parser.parse_args()))
