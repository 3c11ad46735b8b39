"""How often each rule says *supported* on data in which its claim is untrue, and on data in which it is true.

Writes ``raretok/claims/calibration.csv``. Run it by ``make calibration``; about three quarters of an hour on two cores.
"""

import argparse
from pathlib import Path

import pandas as pd

from raretok import Study
from raretok.claims.calibration import RESULTS, calibrate, in_order, simulations


def main(rooms: list[str], sets: int, plants: int, out: Path) -> None:
    """Measure room by room and write the table after each; rules that are not measured keep their rows."""
    study = Study()
    for room in rooms or dict.fromkeys(room for room, _ in simulations()):
        result = calibrate(study, [room], sets, plants)
        if out.is_file():
            before = pd.read_csv(out)
            result = in_order(pd.concat([before[~before["id"].isin(result["id"])], result]))
        result.to_csv(out, index=False, float_format="%.4f")
        print(result.pivot(index="id", columns="data", values="supported").to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "rooms", nargs="*", help=f"by default all: {', '.join(dict.fromkeys(r for r, _ in simulations()))}"
    )
    parser.add_argument("--sets", type=int, default=500, help="data sets of each kind without an answer")
    parser.add_argument("--plants", type=int, default=200, help="data sets of each kind with a planted answer")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    main(given.rooms, given.sets, given.plants, given.out)
