"""What a chapter glues, its facts have: every name in the text has a number."""

import ast
import re

import jupytext
import pytest
from conftest import ROOT

CHAPTERS = sorted((ROOT / "chapters").glob("*.md"))
FACTS = sorted((ROOT / "raretok" / "book" / "facts").glob("[a-z]*.py"))


def names_of(path) -> set[str]:
    """Patterns of the names that a facts module can give: its string constants, and strings with computed parts.

    Those of the facts modules that it imports are among them.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raretok.book.facts."):
            found |= names_of(path.with_name(f"{str(node.module).rpartition('.')[2]}.py"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(re.escape(node.value))
        elif isinstance(node, ast.JoinedStr):
            if not any(isinstance(p, ast.Constant) and re.search("[A-Za-z]", p.value) for p in node.values):
                continue  # This formats a number; a name has a fixed part.
            parts = (re.escape(p.value) if isinstance(p, ast.Constant) else r"\w+" for p in node.values)
            found.add("".join(parts))
    return found | {r"C\d+[ab]?_(verdict|why|published|says|controlled|null|reported)"}


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if "{glue:" in c.read_text()], ids=lambda p: p.stem)
def test_every_number_in_the_text_is_a_fact(chapter):
    path = ROOT / "raretok" / "book" / "facts" / f"{chapter.stem}.py"
    assert path.is_file()
    known = names_of(path)
    assert not any(re.fullmatch(k, "no_such_fact") for k in known)
    glued = set(re.findall(r"{glue:\w+}`([^`]+)`", chapter.read_text(encoding="utf-8")))
    assert [n for n in sorted(glued) if not any(re.fullmatch(k, n) for k in known)] == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_glues_nothing_by_itself_and_its_cells_are_short(chapter):
    for cell in jupytext.read(chapter).cells:
        if cell.cell_type == "code":
            assert not re.search(r"(?<!\w)glue\(", cell.source)
            assert len(cell.source.splitlines()) <= 30, cell.source[:200]
