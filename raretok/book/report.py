"""Execution of chapters for one model after the other, and books made of the executed notebooks."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml

from raretok.book.papermill_io import chapter_parameters, run_chapter
from raretok.errors import NotApplicable, RaretokError
from raretok.measure.settings import StudySettings
from raretok.model.registry import find_model
from raretok.repository import CHAPTERS, ROOT
from raretok.store import Store, replacing


def chapter_names() -> list[str]:
    """Return the names of the chapters that can be executed for a model.

    Raises:
        RaretokError: the package is installed without the book.
    """
    names = [p.stem for p in sorted(CHAPTERS.glob("*.md")) if "model" in chapter_parameters(p)]
    if not names:
        raise RaretokError(f"there are no chapters in {CHAPTERS}: install from a clone, `pip install -e .`")
    return names


def check_chapters(chapters: Sequence[str]) -> None:
    """Check that all of these chapters can be executed for a model.

    Raises:
        RaretokError: a chapter cannot be executed; the message lists those that can.
    """
    if unknown := [c for c in chapters if c not in chapter_names()]:
        raise RaretokError(f"no chapter {', '.join(unknown)}: choose from {', '.join(chapter_names())}")


def execute(chapter: str, settings: StudySettings | None, output: Path, store: Store) -> str | None:
    """Execute a chapter for one study and write the notebook, which appears whole or not at all.

    The notebook of a chapter that does not apply to the model or the text says why, and so does what is returned.

    ``settings`` is None for a chapter about all studies of the store. Models that a chapter compares with are left out,
    and a chapter that follows a model over training follows the study's own.

    Raises:
        RaretokError: there is no such chapter, or one of its cells fails; the notebook up to that cell is then kept
            beside ``output``, as ``.failed.ipynb``.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if settings:
        check_chapters([chapter])
    known = chapter_parameters(CHAPTERS / f"{chapter}.md")
    given = settings.model_dump() if settings else {}
    parameters: dict[str, Any] = {name: value for name, value in given.items() if name in known}
    parameters |= {name: None for name in ("compare", "other_corpus") if name in known}
    if settings and "trained" in known:
        run = find_model(settings.model).local_run
        parameters |= {"trained": settings.model if run else None, "trained_corpus": settings.corpus}
        parameters |= {"trained_windows": settings.windows}
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.stem}.{os.getpid()}.ipynb")
    before = os.environ.get("RARETOK_STORE")
    os.environ["RARETOK_STORE"] = str(store.root.resolve())  # The chapter's kernel inherits it.
    try:
        run_chapter(CHAPTERS / f"{chapter}.md", draft, **parameters)
        os.replace(draft, output)
    except DeadKernelError:
        raise RaretokError(
            f"the kernel of {chapter} died, most likely for lack of memory: use fewer windows or a larger machine"
        ) from None
    except PapermillExecutionError as error:
        if error.ename == NotApplicable.__name__:
            _write_reason(chapter, error.evalue, output)
            return str(error.evalue)
        failed = output.with_suffix(".failed.ipynb")
        os.replace(draft, failed)
        raise RaretokError(f"{chapter} failed with {error.ename}: {error.evalue}\nsee {failed}") from None
    finally:
        draft.unlink(missing_ok=True)
        os.environ.pop("RARETOK_STORE")
        if before is not None:
            os.environ["RARETOK_STORE"] = before
    return None


def _write_reason(chapter: str, reason: str, output: Path) -> None:
    """Write a notebook that says why a chapter does not apply."""
    first: Any = jupytext.read(CHAPTERS / f"{chapter}.md").cells[0]
    title = first.source.partition("\n")[0]
    cell = nbformat.v4.new_markdown_cell(f"{title}\n\nThis chapter does not apply: {reason}.")
    with replacing(output) as draft:
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), draft)


def render(title: str, root: Path, parts: Mapping[str, Sequence[Path]], out: Path) -> Path:
    """Make a book of executed notebooks and return its first page.

    Args:
        title: the title of the book.
        root: the notebook that comes first.
        parts: further notebooks by caption.
        out: the folder of the pages, which is made anew.

    Raises:
        RaretokError: the book's tools are not installed, or they fail; the message then holds their output.
    """
    tool = Path(sys.executable).with_name("jupyter-book")
    if not tool.is_file():
        raise RaretokError("jupyter-book is not installed: pip install -e '.[book]'")
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    settings |= {"title": title, "execute": {"execute_notebooks": "off", "stderr_output": "remove"}}
    settings["sphinx"]["local_extensions"] = {name: str(ROOT / "_ext") for name in ("offline", "finish")}
    settings["logo"] = settings["html"]["favicon"] = str(ROOT / settings["logo"])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "book"
        source.mkdir()
        shutil.copy(ROOT / "references.bib", source)
        _place(root, source / "index.ipynb", ())
        listed = []
        for number, (caption, paths) in enumerate(parts.items()):
            for path in paths:
                _place(path, source / str(number) / path.name, {p.stem for p in paths})
            listed.append({"caption": caption, "chapters": [{"file": f"{number}/{p.stem}"} for p in paths]})
        toc = {"format": "jb-book", "root": "index", **({"parts": listed} if listed else {})}
        for name, content in (("_config.yml", settings), ("_toc.yml", toc)):
            (source / name).write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        done = subprocess.run([tool, "build", source, "--quiet"], capture_output=True, text=True, check=False)
        pages = source / "_build" / "html"
        if done.returncode or not (pages / "index.html").is_file():
            raise RaretokError(f"jupyter-book could not make the book:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        shutil.copytree(pages, draft, dirs_exist_ok=True)
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)
    out.chmod(0o755)
    return out / "index.html"


def _place(notebook: Path, target: Path, beside: Iterable[str]) -> None:
    """Copy a notebook to the place where it is built; links to chapters outside its part become their names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    content: Any = nbformat.read(notebook, as_version=4)
    here = set(beside)

    def link(match: re.Match[str]) -> str:
        text, name = match[1], match[2]
        return f"[{text}]({name}.ipynb)" if name in here else text or f"*{name}*"

    for cell in content.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\[([^\]]*)\]\((\w+)\.md\)", link, cell.source)
        elif "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"].append("hide-input")
    nbformat.write(content, target)
