"""Commands about one study: one model on one text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raretok.cli.options import Json, print_rows, with_study_options
from raretok.errors import RaretokError

app = typer.Typer()


def _names(text: str) -> tuple[str, ...] | None:
    """Split names that are separated by commas; None if there are none."""
    return tuple(n.strip() for n in text.split(",") if n.strip()) or None


def _warn_of_first_token(study: Any) -> None:
    """Say so if the loss of a few windows is much lower the other way."""
    from raretok.errors import NotApplicable

    try:
        loss = study.table("checks.first_token").iloc[0]
    except NotApplicable:  # There is no such token, or the windows are given.
        return
    if loss["other_is_better"]:
        has, other = ("with", "no") if loss["used"] else ("without", "yes")
        typer.echo(
            f"warning: this study's windows are {has} a first token; the mean loss of a few of them is "
            f"{loss['with_it']:.2f} nats with it and {loss['without_it']:.2f} without: try --bos {other}",
            err=True,
        )


@app.command()
@with_study_options
def measure(study: Any) -> None:
    """Ablate every neuron of a model on a text and keep the results; does nothing if they are there."""
    from raretok.errors import NotApplicable

    _warn_of_first_token(study)
    bands = study.table("effects.bands").set_index("band")
    typer.echo(
        f"{study.settings.model} on {study.settings.corpus}: {study.get('effects.sizes')['neurons']} neurons, "
        f"{int(bands.loc['rare', 'ablated'])} rare targets; results in {study.store.root}"
    )
    try:
        chosen = study.table("identification.rare_token_neurons")["controlled"]
        typer.echo(f"{int(chosen.sum())} rare-token neurons")
    except NotApplicable as error:
        typer.echo(f"no rare-token neurons named: {error}")


@app.command()
@with_study_options
def doctor(study: Any) -> None:
    """Say what would be measured, by which form of the model, at what cost, and what is missing; measures nothing."""
    from raretok.measure.doctor import examine

    wrong = 0
    for finding in examine(study.inputs, lambda: study.table("checks.first_token")):
        wrong += bool(finding.wrong)
        typer.echo(f"{'PROBLEM' if finding.wrong else 'ok':8} {finding.what}: {finding.wrong or finding.found}")
    if wrong:
        raise typer.Exit(1)


@app.command()
@with_study_options
def table(
    study: Any,
    name: Annotated[str, typer.Argument(help="such as regimes.curves; an unknown name lists those that there are")],
    csv: Annotated[bool, typer.Option("--csv", help="print comma-separated values instead of a table")] = False,
    as_json: Json = False,
) -> None:
    """Print a table of a finding, computed if it is not kept yet."""
    result = study.table(name)
    if csv:
        typer.echo(result.to_csv(index=False, float_format="%.9g"), nl=False)
    else:
        print_rows(result.to_dict("records"), as_json)


@app.command()
@with_study_options
def neurons(
    study: Any,
    top: Annotated[int, typer.Option(help="how many to print", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Print the rare-token neurons of a model: chosen on half A, the largest effect there first; reported on half B."""
    all_neurons = study.table("identification.rare_token_neurons")
    chosen = all_neurons[all_neurons["controlled"]].sort_values("s_a", key=abs, ascending=False).head(top)
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
    from raretok.cli.export import check_target, write_neurons

    check_target(out)
    neuron_table, settings, inputs = study.table("neuron_cards.neuron_table"), study.settings, study.inputs
    about = {"model": inputs.entry.name, "weights": inputs.weights, "corpus": settings.corpus, "unit": "nats"}
    about |= {} if settings.step is None else {"step": str(settings.step)}
    write_neurons(neuron_table, out, about)
    typer.echo(
        f"{len(neuron_table)} neurons, {int(neuron_table['controlled'].sum())} of them rare-token neurons: {out}"
    )


@app.command()
@with_study_options
def claims(
    study: Any,
    only: Annotated[str, typer.Option(help="ids of claims with commas between, such as C1,C13; by default all")] = "",
    as_json: Json = False,
) -> None:
    """Print the verdict on every claim: as reported, as published, with controls, and why; measures first if need
    be."""
    from raretok.sweep.summary import summarise

    verdicts = study.claims(_names(only))
    if not only:
        summarise(study)
    if as_json:
        print_rows(verdicts.to_dict("records"), as_json)
        return
    ends = zip(verdicts["low"], verdicts["high"], strict=True)
    verdicts["95% interval"] = [f"{low:.3g} … {high:.3g}" if low == low else "–" for low, high in ends]
    columns = ["id", "reported", "published", "published_says", "controlled", "95% interval", "n", "null", "verdict"]
    print_rows(verdicts[columns].to_dict("records"), as_json)
    typer.echo("")
    for row in verdicts.to_dict("records"):
        typer.echo(f"{row['id']}  {row['claim']} – {row['verdict']}: {row['why']}")


@app.command()
@with_study_options
def explain(study: Any, claim: Annotated[str, typer.Argument(help="id of a claim, such as C13")]) -> None:
    """Show where a verdict comes from: its rule, the tables that it reads, their code, and the model and text below
    them."""
    from raretok.claims import all_claims
    from raretok.cli.explain import explain_claim

    known = {c.id: c for c in all_claims()}
    if claim not in known:
        raise RaretokError(f"no claim {claim}: choose from {', '.join(known)}")
    for line in explain_claim(study, known[claim]):
        typer.echo(line)


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
    """Print when each statistic of the rank curve leaves its nulls in training; measures every checkpoint first if need
    be."""
    if out:
        from raretok.shipped.trajectory import write_results

        write_results(study, training_seed, out)
    print_rows(study.table("emergence.departures").to_dict("records"), as_json)
