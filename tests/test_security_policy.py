"""SECURITY.md promises nothing that no test holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_every_test_that_the_security_policy_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) >= 12
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in defined, f"{file} has no {name}"


def test_every_line_of_the_security_policy_names_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("|")][2:]
    assert rows
    assert all("::test_" in row.rsplit("|", 2)[1] for row in rows)
