"""The errors that the package raises and that no test met, from a report of `coverage json`; fails if there is one."""

import ast
import json
import sys
from pathlib import Path


def unmet(report: Path) -> list[str]:
    """File, line and statement of every ``raise`` that was not met."""
    found = []
    for name, about in json.loads(report.read_text(encoding="utf-8"))["files"].items():
        missing = set(about["missing_lines"])
        for node in ast.walk(ast.parse(Path(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.lineno in missing:
                found.append(f"{name}:{node.lineno}: {ast.unparse(node)[:120]}")
    return found


if __name__ == "__main__":
    left = unmet(Path(sys.argv[1]))
    sys.exit("no test meets\n" + "\n".join(left) if left else 0)
