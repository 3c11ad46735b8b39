"""What commands share: options for every setting of a study, and tables printed as text or JSON."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]


def with_study_options(command: Callable[..., None]) -> Callable[..., None]:
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


def print_rows(rows: Sequence[Mapping[Any, Any]], as_json: bool) -> None:
    """Rows as a table, or as JSON in which missing numbers are null."""
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
