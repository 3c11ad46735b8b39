"""What a study leaves for comparison with others – verdicts, rank curve, sizes, costs – and all that the studies in a store left."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from raretok.claims import RANK_CURVE
from raretok.errors import RaretokError
from raretok.reading import StudyConfig
from raretok.store import Store, code_digest, hash_of
from raretok.study import Study

KIND = "study"
PARTS = (
    *("data", "model", "ablation", "stats", "findings", "claims"),
    *("reading", "measurement", "neurons", "upstream", "experiments", "study", "summary"),
)
"""The parts of the package that a summary comes from."""
Scope = Literal["all", "rank-curve"]
"""Which claims are judged: all, or those about the rank curve alone, which need no further measurement."""


def identity(study: Study, scope: Scope = "all", weights: str | None = None) -> dict[str, Any]:
    """What tells a summary from any other, known without measuring; ``weights``: their digest, where they are not on this machine."""
    counts, entry, step = study.config.counts, study.entry, study.config.step
    if counts and not Path(counts).is_file():
        raise RaretokError(f"no counts file {counts}: give an existing .npy or .json file of counts")
    return {
        **study.config.model_dump(),
        "step": entry.steps[-1] if entry.local_run and step is None else step,
        "weights": weights or study.weights_digest,
        "checkpoints": study.checkpoints_digest,
        "corpus_digest": study.corpus.digest,
        "counts_digest": hash_of({"counts": Path(counts).read_bytes().hex()}) if counts else None,
        "scope": scope,
        "code": code_digest(*PARTS),
    }


def summarise(study: Study, scope: Scope = "all") -> Path:
    """Keep what a study says beside others, measured first if need be; the folder of the entry.

    Files: ``claims.parquet`` (``Study.claims``), ``curve.parquet`` (the observed rank curve of net effects on rare targets), ``study.json`` (``Study.sizes`` and more).
    """

    def build(folder: Path) -> None:
        claims = study.claims(RANK_CURVE if scope == "rank-curve" else None)
        curve = study.curves(nulls=False)
        rare = study.reliability().query("band == 'rare'")["reliability"]
        about = study.sizes() | {
            "name": study.entry.name,
            "source": study.entry.kind,
            "rare_targets": int(study.bands().query("band == 'rare'")["ablated"].sum()),
            "reliability": float(rare.mean()),
            "effects": hash_of(study.key),
        }
        claims.to_parquet(folder / "claims.parquet", index=False)
        curve[(curve["band"] == "rare") & (curve["measure"] == "net")].to_parquet(folder / "curve.parquet", index=False)
        (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")

    return study.store.entry(KIND, identity(study, scope), build)


@dataclass(frozen=True)
class Summaries:
    """All studies of a store, one below the other; each table has ``study``, a name that is unique among them, ``model`` and ``step``.

    ``studies``: a row each, with its settings, digests of weights, corpus and counts, ``Study.sizes``, ``rare_targets``, ``reliability``, ``seconds``, ``peak_mib``; ``claims``: verdicts; ``curves``: rank curves.
    """

    studies: pd.DataFrame
    claims: pd.DataFrame
    curves: pd.DataFrame

    def last(self) -> "Summaries":
        """Of studies that differ in the training step alone, the latest."""
        settings = [n for n in ("named", *StudyConfig.model_fields) if n not in ("model", "step")]
        step = self.studies["step"].astype(float).fillna(float("inf"))  # a model without steps is at its end
        latest = step.groupby([self.studies[n].map(str) for n in settings]).transform("max")
        studies = self.studies[step == latest].reset_index(drop=True)  # two of one step differ in more than that
        parts = (t[t["study"].isin(studies["study"])].reset_index(drop=True) for t in (self.claims, self.curves))
        return Summaries(studies, *parts)


def read_summaries(store: Store, needed: bool = False) -> Summaries:
    """Every study in the store that the package as it is has summarised; of one that was summarised twice, the wider scope.

    Damaged and outdated entries are left out: they are made again when next asked for.

    Raises:
        RaretokError: there are none, and some are ``needed``.
    """
    code, found = code_digest(*PARTS), {}
    for folder, manifest in store.manifests(KIND):
        inputs = manifest.get("inputs", {})
        if inputs.get("code") != code or not store.intact(KIND, inputs):
            continue
        key = hash_of({k: v for k, v in inputs.items() if k != "scope"})
        if key not in found or inputs["scope"] == "all":
            found[key] = (folder, inputs)
    all_costs = costs(store)
    rows, claims, curves = [], [], []
    for folder, inputs in found.values():
        about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        settings = {name: inputs[name] for name in StudyConfig.model_fields}
        named = {
            "model": about.pop("name"),
            "named": settings["model"],
            **{name: inputs[name] for name in ("weights", "corpus_digest", "counts_digest", "scope")},
        }
        rows.append(settings | about | all_costs.get(about["effects"], {}) | named)
        claims.append(pd.read_parquet(folder / "claims.parquet"))
        curves.append(pd.read_parquet(folder / "curve.parquet"))
    if needed and not rows:
        raise RaretokError(
            f"no studies in the results folder {store.root}: `raretok claims MODEL` or `raretok sweep` leaves some"
        )
    if not rows:
        names = [*StudyConfig.model_fields, "study", "named"]
        claim = pd.DataFrame(columns=["study", "model", "step", "id", "verdict"])
        return Summaries(pd.DataFrame(columns=names), claim, pd.DataFrame(columns=["study", "rank", "value"]))
    studies = pd.DataFrame(rows)
    studies["step"] = studies["step"].astype("Int64")
    studies.insert(0, "study", _names(studies))
    studies = studies.sort_values(["parameters", "model", "step", "study"], na_position="last", kind="stable")
    parts = [
        pd.concat([tables[k].assign(**studies.loc[k, ["study", "model", "step"]]) for k in studies.index])
        for tables in (claims, curves)
    ]
    return Summaries(*(table.reset_index(drop=True) for table in (studies, *parts)))


def _names(studies: pd.DataFrame) -> list[str]:
    """Model and step, and of the other settings those in which studies of one model and step differ.

    Where that is not enough – folders of one name, or one whose files have changed – so much more that no two are alike.
    """
    names = []
    for row in studies.to_dict("records"):
        twins = studies[(studies["model"] == row["model"]) & (studies["step"].eq(row["step"]) | studies["step"].isna())]
        settings = [n for n in StudyConfig.model_fields if n not in ("model", "step")]
        differ = [n for n in settings if twins[n].map(str).nunique() > 1]
        step = "" if pd.isna(row["step"]) else f" @ {row['step']}"
        names.append(
            f"{row['model']}{step}" + "".join(f", {n} {'none' if pd.isna(row[n]) else row[n]}" for n in differ)
        )
    for column, size in (("named", 0), ("weights", 8), ("corpus_digest", 8), ("counts_digest", 8)):
        rows = list(zip(names, studies[column].map(str), strict=True))
        alike = Counter(name for name, _ in set(rows))
        names = [f"{name}, {value[-size:]}" if alike[name] > 1 else name for name, value in rows]
    return names


def costs(store: Store) -> dict[str, dict[str, float]]:
    """By the key of a study's effects, seconds and peak memory in MiB of all that was computed from them, and of them."""
    latest: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for folder, manifest in store.manifests():
        kind, inputs = folder.parent.name, manifest.get("inputs", {})
        effects = folder.name if kind == "effects" else inputs.get("effects")
        if effects:
            same = hash_of({k: v for k, v in inputs.items() if k != "code"})
            latest[kind, same] = (effects, manifest)
    found: dict[str, dict[str, float]] = {}
    for effects, manifest in latest.values():
        cost = found.setdefault(effects, {"seconds": 0.0, "peak_mib": 0.0})
        cost["seconds"] += manifest.get("seconds", 0.0)
        cost["peak_mib"] = max(cost["peak_mib"], manifest.get("peak_mib", 0.0))
    return found
