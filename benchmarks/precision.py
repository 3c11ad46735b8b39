"""What a forward pass in bfloat16 does to every headline: ``raretok/measure/precision.csv``. Run by ``make precision``.

The default study is judged in both precisions, each from its own results; the seconds are those of the effects.
"""

import pandas as pd

from raretok import Study
from raretok.measure.precision import RESULTS
from raretok.store import replacing

EFFECTS = "effects.effects"


def judged(dtype: str) -> pd.DataFrame:
    """The verdicts in one precision, with the seconds that the effects took."""
    study = Study(dtype=dtype)
    claims = study.claims()
    place = study.store.path(EFFECTS, study.key(EFFECTS))
    [seconds] = [m["seconds"] for folder, m in study.store.manifests(EFFECTS) if folder == place]
    return claims[["id", "controlled", "low", "high", "verdict"]].assign(seconds=seconds)


def main() -> None:
    """Judge the study twice and write the table."""
    both = judged("float32").merge(judged("bfloat16"), on="id", suffixes=(" float32", " bfloat16"))
    with replacing(RESULTS) as draft:
        both.to_csv(draft, index=False, float_format="%.6g")
    print(both.to_string())


if __name__ == "__main__":
    main()
