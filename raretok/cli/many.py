"""Commands about many studies, and a command that executes chapters for one study."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raretok.cli.options import Json, StoreFolder, print_rows, with_study_options

app = typer.Typer()


@app.command()
def sweep(
    path: Annotated[Path, typer.Argument(help="what to measure", metavar="SWEEP")] = Path("sweep.yml"),
    out: Annotated[Path, typer.Option(help="where notebooks, pages, tables and logs go")] = Path("sweep"),
    profile: Annotated[str, typer.Option(help="local, slurm, or the folder of a Snakemake profile")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Measure many studies and execute chapters for them, here or on a cluster; the same command goes on after an
    interruption."""
    from raretok.sweep.workflow import run_sweep

    rows, failed = run_sweep(path, out, profile, dry_run)
    if dry_run:
        return
    print_rows(rows, False)
    if not failed:
        typer.echo(f"\nThe comparison and all chapters: {out / 'book' / 'index.html'}")
        return
    for log in failed:
        typer.echo(f"failed: see {log}", err=True)
    raise typer.Exit(1)


@app.command(hidden=True)
def job(
    task: str,
    name: Annotated[str, typer.Argument()] = "",
    part: Annotated[str, typer.Argument()] = "",
    path: Annotated[Path, typer.Option("--sweep")] = Path("sweep.yml"),
    out: Annotated[Path, typer.Option()] = Path("sweep"),
) -> None:
    """One job of a sweep, as Snakemake starts it."""
    from raretok.sweep.jobs import run_job
    from raretok.sweep.spec import load_sweep

    run_job(task, load_sweep(path), out, name, part)


def _chapters_for(study: Any) -> list[str]:
    """Return the chapters that apply to a model; the one on training applies to models with checkpoints."""
    from raretok.book.report import chapter_names

    other = {"index", "training"} | (set() if len(study.inputs.entry.steps) > 1 else {"emergence"})
    return [name for name in chapter_names() if name not in other]


@app.command()
@with_study_options
def report(
    study: Any,
    chapters: Annotated[
        str, typer.Option(help="which, with commas between; by default all that apply to the model")
    ] = "",
    out: Annotated[Path, typer.Option(help="folder for the notebooks and, in html/, the pages")] = Path("report"),
) -> None:
    """Execute the book's chapters for a model and make pages of them; measures first if need be."""
    from raretok.book.report import check_chapters, execute, render

    names = [n.strip() for n in chapters.split(",")] if chapters else _chapters_for(study)
    check_chapters(names)
    for number, name in enumerate(names):
        typer.echo(f"{name} ({number + 1} of {len(names)})", err=True)
        if reason := execute(name, study.settings, out / f"{name}.ipynb", study.store):
            typer.echo(f"{name} does not apply: {reason}", err=True)
    made = [out / f"{name}.ipynb" for name in names]
    page = render(
        f"Rare-token neurons of {study.inputs.entry.name}",
        made[0],
        {"Chapters": made[1:]} if made[1:] else {},
        out / "html",
    )
    typer.echo(f"{page}")


@app.command()
@with_study_options
def replicate(
    study: Any,
    sets: Annotated[int, typer.Option(help="how many disjoint sets of documents", min=2)] = 5,
    only: Annotated[str, typer.Option(help="ids of claims with commas between, such as C1,C13; by default all")] = "",
    as_json: Json = False,
) -> None:
    """Judge the claims on disjoint sets of documents: how far verdicts depend on the documents they were tried on.

    Each set is a study of its own, which is kept, so that the same command goes on after an interruption.
    """
    from raretok.claims import replication

    wanted = tuple(n.strip() for n in only.split(",") if n.strip()) or None
    verdicts = replication.replicate(study, sets, wanted)
    rows = replication.summary(verdicts).rename(columns={"next_low": "a new set: low", "next_high": "a new set: high"})
    print_rows((verdicts if as_json else rows.drop(columns="claim")).to_dict("records"), as_json)


@app.command()
def compare(
    store: StoreFolder = None,
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="a table of the last checkpoints, as in the README")
    ] = False,
) -> None:
    """Print the verdicts of every study in the results folder side by side."""
    from raretok.claims.wording import SIGNS, sign_table, verdicts_in_markdown
    from raretok.store import Store
    from raretok.sweep.summary import read_summaries

    summaries = read_summaries(Store(store), needed=True)
    if markdown:
        return typer.echo(verdicts_in_markdown(summaries.last().claims))
    claims = summaries.claims
    print_rows((claims if as_json else sign_table(claims)).to_dict("records"), as_json)
    if not as_json:
        typer.echo("\n" + "; ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items()))
