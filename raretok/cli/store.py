"""Commands about the results folder: one lists what it holds, and one deletes results that no code needs any more."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from raretok.cli.options import Json, StoreFolder, print_rows

app = typer.Typer(help="What the results folder holds, and how to make it smaller.", no_args_is_help=True)


@dataclass(frozen=True)
class Kept:
    """An entry of the store: its folder, its size in bytes, its description, and the reason why it is stale, if any."""

    folder: Path
    size: int
    about: dict[str, Any]
    stale: str


@app.command("ls")
def list_entries(store: StoreFolder = None, as_json: Json = False) -> None:
    """List what is kept, a line for each model and text: how many results, how large, how many of them stale."""
    from raretok.store import Store

    rows: dict[str, dict[str, Any]] = {}
    for entry in entries(Store(store)):
        words = {k: v for k, v in entry.about.items() if k not in ("study", "model", "step", "corpus", "tokenizer")}
        of = {
            "model": entry.about.get("model") or entry.about.get("tokenizer", "–"),
            "step": entry.about.get("step", "–"),
        }
        of |= {
            "corpus": entry.about.get("corpus", "default"),
            "settings": ", ".join(f"{k} {v}" for k, v in words.items()),
        }
        row = rows.setdefault(str(of), of | {"results": 0, "MiB": 0.0, "stale": 0, "stale MiB": 0.0})
        row["results"] += 1
        row["MiB"] += entry.size / 2**20
        row["stale"] += bool(entry.stale)
        row["stale MiB"] += entry.size / 2**20 * bool(entry.stale)
    print_rows(list(rows.values()), as_json)


@app.command()
def gc(
    store: StoreFolder = None,
    yes: Annotated[bool, typer.Option("--yes", help="delete without asking")] = False,
) -> None:
    """Delete results of code that has changed since, and what killed processes left; asks first."""
    from raretok.store import Store

    results = Store(store)
    old = [entry for entry in entries(results) if entry.stale]
    drafts = [p for p in results.root.glob("*/.draft-*") if p.is_dir()]
    if not old and not drafts:
        typer.echo(f"{results.root} holds nothing that is stale")
        return
    size = sum(entry.size for entry in old) + sum(map(_size, drafts))
    for reason in sorted({entry.stale for entry in old}):
        count = sum(entry.stale == reason for entry in old)
        typer.echo(f"{count} result{'s' * (count != 1)}: {reason}")
    if drafts:
        typer.echo(f"{len(drafts)} unfinished: left by a killed process, or being written now")
    typer.echo(f"together {size / 2**20:.1f} MiB in {results.root}")
    if not yes and not typer.confirm("Delete them?", default=False):
        typer.echo("nothing deleted")
        return
    for folder in [*(entry.folder for entry in old), *drafts]:
        shutil.rmtree(folder, ignore_errors=True)
    typer.echo("deleted")


def entries(store: Any) -> Iterator[Kept]:
    """Yield every readable entry of a store."""
    codes = current_codes()
    for folder, manifest in store.manifests():
        kind, code = folder.parent.name, manifest["inputs"].get("code")
        stale = ""
        if kind not in codes:
            stale = "raretok declares no computation of that name: it was removed, or a module of your own declares it"
        elif codes[kind] != code:
            stale = "the code that made them has changed since"
        yield Kept(folder, _size(folder), manifest.get("about", {}), stale)


def current_codes() -> dict[str, str]:
    """Return the current digest of the code of every kind of entry."""
    from raretok.claims import all_claims
    from raretok.code import digest_of
    from raretok.graph import NODES
    from raretok.measure.effects import effects
    from raretok.measure.text import RANKING, TOKENISING
    from raretok.model.load import merge, unpack
    from raretok.shipped.trajectory import baseline_code
    from raretok.sweep.shards import KIND as SHARD
    from raretok.sweep.summary import KIND, code_of_everything

    codes = {claim.table.name: claim.table.code for claim in all_claims()}
    codes |= {name: node.code for name, node in NODES.items()}
    codes |= {"tokens": digest_of(*TOKENISING), "words": digest_of(*RANKING), "baselines": baseline_code()}
    codes |= {"model": digest_of(unpack), "merged": digest_of(merge)}
    return codes | {KIND: code_of_everything(), SHARD: NODES[effects.node.name].code}  # type: ignore[attr-defined]


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
