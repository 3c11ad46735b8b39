"""Summaries of studies for comparison – verdicts, rank curve, sizes, costs – and functions to read all of a store's."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from raretok.claims import all_claims, rank_curve_claims
from raretok.code import digest_of
from raretok.errors import RaretokError
from raretok.graph import NODES
from raretok.measure.settings import StudySettings
from raretok.model.load import model_digest
from raretok.store import Store, hash_of
from raretok.study import Study

KIND = "study"
Scope = Literal["all", "rank-curve"]
"""Which claims are judged: all, or only those about the rank curve, which need no further measurement."""


@cache
def code_of_everything() -> str:
    """Digest of all code on which a summary depends: every declared computation and every rule of a claim."""
    codes = {claim.table.name: claim.table.code for claim in all_claims()}
    codes |= {name: node.code for name, node in NODES.items()}
    return hash_of(codes | {"summary": digest_of(summarise)})


def identity(
    study: Study, scope: Scope = "all", weights: str | None = None, corpus: str | None = None
) -> dict[str, Any]:
    """The inputs that identify a summary, which are known without measuring.

    ``weights`` and ``corpus`` are digests, to be given if they are known or the data is not on this machine.
    """
    settings, entry = study.settings, study.inputs.entry
    counts, step = settings.counts, settings.step
    if counts and not Path(counts).is_file():
        raise RaretokError(f"no counts file {counts}: give an existing .npy or .json file of counts")
    return {
        **settings.model_dump(),
        "step": entry.steps[-1] if entry.local_run and step is None else step,
        "weights": weights or study.inputs.weights,
        "checkpoints": hash_of({str(k): model_digest(entry, k) for k in entry.steps}) if entry.local_run else None,
        "corpus_digest": corpus or study.inputs.text.corpus.digest,
        "counts_digest": hash_of({"counts": Path(counts).read_bytes().hex()}) if counts else None,
        "scope": scope,
        "code": code_of_everything(),
    }


def summarise(study: Study, scope: Scope = "all") -> Path:
    """Store the summary of a study, measured first if necessary, and return the folder of the entry.

    Files: ``claims.parquet`` (``Study.claims``), ``curve.parquet`` (the observed rank curve of net effects on rare
    targets), ``study.json`` (``effects.sizes`` and more).
    """

    def build(folder: Path) -> None:
        claims = study.claims(rank_curve_claims() if scope == "rank-curve" else None)
        curve = study.table("regimes.curves", nulls=())
        rare = study.table("identification.reliability").query("band == 'rare'")["reliability"]
        about = study.get("effects.sizes") | {
            "name": study.inputs.entry.name,
            "source": study.inputs.entry.kind,
            "rare_targets": int(study.table("effects.bands").query("band == 'rare'")["ablated"].sum()),
            "reliability": float(rare.mean()),
            "results": study.about["study"],
        }
        claims.to_parquet(folder / "claims.parquet", index=False)
        curve[(curve["band"] == "rare") & (curve["measure"] == "net")].to_parquet(folder / "curve.parquet", index=False)
        (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")

    return study.store.entry(KIND, identity(study, scope), build, study.about)


@dataclass(frozen=True)
class Summaries:
    """The summaries of all studies of a store, concatenated.

    Each table has the columns ``study`` (a unique name), ``model`` and ``step``. ``studies`` has one row per study with
    its settings, digests of weights, corpus and counts, ``effects.sizes``, ``rare_targets``, ``reliability``,
    ``seconds`` and ``peak_mib``; ``claims`` holds the verdicts, and ``curves`` the rank curves.
    """

    studies: pd.DataFrame
    claims: pd.DataFrame
    curves: pd.DataFrame

    def last(self) -> "Summaries":
        """The summaries of the latest step only, among studies that differ in nothing but the training step."""
        settings = [n for n in ("named", *StudySettings.model_fields) if n not in ("model", "step")]
        step = self.studies["step"].astype(float).fillna(float("inf"))  # a model without steps is fully trained
        latest = step.groupby([self.studies[n].map(str) for n in settings]).transform("max")
        studies = self.studies[step == latest].reset_index(drop=True)  # studies of the same step are all kept
        parts = (t[t["study"].isin(studies["study"])].reset_index(drop=True) for t in (self.claims, self.curves))
        return Summaries(studies, *parts)


def read_summaries(store: Store, needed: bool = False) -> Summaries:
    """Read every study in the store that the current code has summarised.

    If a study was summarised with both scopes, the wider one is read. Damaged and outdated entries are left out; they
    are recomputed when next requested.

    Raises:
        RaretokError: if there are none, and ``needed`` is true.
    """
    code, entries = code_of_everything(), {}
    for folder, manifest in store.manifests(KIND):
        inputs = manifest.get("inputs", {})
        if inputs.get("code") != code or not store.intact(KIND, inputs):
            continue
        key = hash_of({k: v for k, v in inputs.items() if k != "scope"})
        if key not in entries or inputs["scope"] == "all":
            entries[key] = (folder, inputs)
    all_costs = costs(store)
    rows, claims, curves = [], [], []
    for folder, inputs in entries.values():
        about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        settings = {name: inputs[name] for name in StudySettings.model_fields}
        named = {
            "model": about.pop("name"),
            "named": settings["model"],
            **{name: inputs[name] for name in ("weights", "corpus_digest", "counts_digest", "scope")},
        }
        rows.append(settings | about | all_costs.get(about["results"], {}) | named)
        claims.append(pd.read_parquet(folder / "claims.parquet"))
        curves.append(pd.read_parquet(folder / "curve.parquet"))
    if needed and not rows:
        raise RaretokError(
            f"no studies in the results folder {store.root}: `raretok claims MODEL` or `raretok sweep` leaves some"
        )
    if not rows:
        names = [*StudySettings.model_fields, "study", "named"]
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
    """Unique names of studies: model, step, and those settings in which studies of the same model and step differ.

    Where that does not suffice – for folders with the same name, or a folder whose files have changed – the model as
    given and digests are appended as needed to make the names unique.
    """
    names = []
    for row in studies.to_dict("records"):
        twins = studies[(studies["model"] == row["model"]) & (studies["step"].eq(row["step"]) | studies["step"].isna())]
        settings = [n for n in StudySettings.model_fields if n not in ("model", "step")]
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
    """Seconds and peak memory in MiB of computing each study, by the digest its results share (``Study.about``).

    For a result that was computed repeatedly, only the last computation counts.
    """
    latest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for folder, manifest in store.manifests():
        kind, study = folder.parent.name, manifest.get("about", {}).get("study")
        if study and kind != KIND:
            given = hash_of({"given": manifest["inputs"].get("given"), "shard": manifest["inputs"].get("shard")})
            latest[study, kind, given] = manifest
    totals: dict[str, dict[str, float]] = {}
    for (study, _, _), manifest in latest.items():
        cost = totals.setdefault(study, {"seconds": 0.0, "peak_mib": 0.0})
        cost["seconds"] += manifest.get("seconds", 0.0)
        cost["peak_mib"] = max(cost["peak_mib"], manifest.get("peak_mib", 0.0))
    return totals
