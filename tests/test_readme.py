"""Everything the README shows runs: its Python and its commands, in order, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    """Code blocks of a language, without those that CI runs itself (set-up, after a marker)."""
    found = re.findall(rf"(<!-- ci: \w+ -->\n)?```{language}\n(.*?)```", README.read_text(), flags=re.S)
    return [code for marker, code in found if not marker]


def test_the_readme_runs_from_top_to_bottom(tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "simulated" in run("mousev1", "demo", "--quiet")
    assert blocks("python")
    assert blocks("bash")
    for code in blocks("python"):
        run(sys.executable, "-W", "error", "-c", code)
    for code in blocks("bash"):
        run("bash", "-euo", "pipefail", "-c", code)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"demo-output", "my-scan", "my-model", "scores.csv", "rates.csv"} <= written
