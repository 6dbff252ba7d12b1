"""The house: where things are, which way imports point, which words are used; see CONTRIBUTING."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("mousev1", "training") for path in (ROOT / folder).rglob("*.py"))

# Public functions whose options a user names one by one, and the solver behind fit_readout.
MANY_ARGUMENTS = {
    "export_experiment",
    "fit_convex",
    "fit_matched_scans",
    "fit_readout",
    "gabors",
    "gratings",
    "plaids",
    "push_model",
    "read_session",
    "transfer_curve",
}


def contract(root: str) -> list[str]:
    """The layers of a package from the top down, as the import contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (found,) = (each for each in contracts if each.get("containers") == [root])
    return found["layers"]


@pytest.mark.parametrize("root", ["mousev1", "training"])
def test_the_picture_in_contributing_is_the_import_contract(root: str):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = re.search(rf"<!-- layers: {root} -->\n```\n(.*?)```", text, re.DOTALL)
    assert picture is not None
    assert [line.split()[0] for line in picture[1].splitlines()] == contract(root)


@pytest.mark.parametrize("root", ["mousev1", "training"])
def test_every_folder_has_a_layer(root: str):
    folders = {path.parent.name for path in (ROOT / root).glob("*/__init__.py")}
    files = {path.stem for path in (ROOT / root).glob("*.py")} - {"__init__", "__main__"}
    assert folders | files == set(contract(root))


def test_at_most_three_files_stand_outside_a_folder():
    assert len(list((ROOT / "mousev1").glob("*.py"))) <= 3


@pytest.mark.parametrize(
    "name", ["Cell", "CoreEntry", "Task", "Fitted", "Truth", "SCORES", "DIRECT", "COLOURS"]
)
def test_a_name_is_defined_once(name: str):
    definition = re.compile(rf"^(class {name}\b|{name} ?[:=])", re.MULTILINE)
    assert len([path for path in SOURCES if definition.search(path.read_text(encoding="utf-8"))]) <= 1


def test_only_public_functions_with_many_options_are_excused_from_the_limit_of_arguments():
    excused = set()
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        excused |= {
            node.name
            for node in ast.walk(ast.parse("\n".join(lines)))
            if isinstance(node, ast.FunctionDef) and "noqa: PLR0913" in lines[node.lineno - 1]
        }
    assert excused == MANY_ARGUMENTS


def lines_without_docstring(function: ast.FunctionDef) -> int:
    assert function.end_lineno is not None
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_a_function_fits_on_a_screen():
    long = {
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and lines_without_docstring(node) > 60
    }
    assert not long


@pytest.mark.parametrize(
    ("word", "allowed"),
    [("survey", 0), ("told", 0), ("misfit", 0), ("misfits", 0), ("place", 20), ("places", 20)],
)
def test_retired_words_are_gone(word: str, allowed: int):
    # as whole words; a verb or plain English may stay where some are allowed
    paths = [
        "mousev1",
        "training",
        "tests",
        "README.md",
        "CONTRIBUTING.md",
        "model_cards",
        ":!tests/test_house.py",
    ]
    found = subprocess.run(
        ["git", "grep", "-n", "-i", "-w", "-I", word, "--", *paths, ":!training/results"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    assert len(found) <= allowed, found
