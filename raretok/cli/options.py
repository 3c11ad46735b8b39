"""Options for every setting of a study, and tables printed as text or JSON, as shared by the commands."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import typer

from raretok.measure.settings import StudySettings

Json = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="results folder; else $RARETOK_STORE or .raretok")]


def with_study_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``MODEL`` and an option for every other field of ``StudySettings``, and call it with a study."""
    fields = StudySettings.model_fields
    own = list(inspect.signature(command).parameters.values())[1:]

    @wraps(command)
    def run(**values: Any) -> None:
        from raretok.study import Study

        rest = {p.name: values.pop(p.name) for p in own}
        study = Study(device=values.pop("device"), store=values.pop("store"), **values)
        command(study, **rest)

    def parameter(name: str, kind: Any, default: Any, declaration: Any) -> inspect.Parameter:
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declaration]
        )

    parameters = [parameter("model", str, fields["model"].default, typer.Argument(help=fields["model"].description))]
    for name, field in list(fields.items())[1:]:
        kind = str if get_origin(field.annotation) is Literal else field.annotation
        parameters.append(parameter(name, kind, field.default, typer.Option(help=field.description)))
    device = typer.Option(help="auto, cpu, cuda … (changes no number beyond its bound)")
    store = typer.Option(help="results folder; else $RARETOK_STORE or .raretok")
    parameters += [parameter("device", str, "auto", device), parameter("store", Path | None, None, store)]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    arguments, options = ([p for p in keyword if _is_argument(p) == wanted] for wanted in (True, False))
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameters[0], *arguments, *parameters[1:], *options]
    )
    return run


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(m, typer.models.ArgumentInfo) for m in getattr(parameter.annotation, "__metadata__", ()))


def print_rows(rows: Sequence[Mapping[Any, Any]], as_json: bool) -> None:
    """Print rows as a table, or as JSON in which missing numbers are null."""
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
    from raretok.claims.wording import number

    return number(value) if isinstance(value, float) else str(value)
