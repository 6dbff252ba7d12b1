"""A run's folder: everything needed to understand, continue and repeat the run, written atomically."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mousev1.storage.atomic import replacing
from training.pretraining.checkpoint import load_checkpoint, save_checkpoint
from training.pretraining.config import PretrainConfig
from training.pretraining.data import PretrainScan
from training.provenance import commit, data_sha256, machine, now, versions, write_json

RUN_FILE = "run.json"
RESULT_FILE = "result.json"
METRICS_FILE = "metrics.csv"
LAST_FILE = "last.pt"
BEST_FILE = "best.pt"

State = dict[str, Any]


class RunFolder:
    """The files of one run.

    ``run.json`` holds the resolved config, the scans' checksums and every start of the run; ``last.pt``
    everything that the next epoch depends on; ``best.pt`` the weights of the best epoch; ``metrics.csv``
    and ``tensorboard/`` what happened; ``figures/``, ``core/`` and ``README.md`` are made at the end, and
    ``result.json`` last of all.

    Args:
        path: the folder; made by ``begin``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return (self.path / RESULT_FILE).is_file()

    def begin(self, config: PretrainConfig, scans: Sequence[PretrainScan], files: Sequence[Path]) -> None:
        """Start the folder, or check that it belongs to this config and these scans.

        Raises:
            FileExistsError: the folder is that of another run, or of something else; lists differences.
        """
        described = {"config": config.to_dict(), "scans": describe_scans(scans, files)}
        path = self.path / RUN_FILE
        if path.is_file() and (self.path / LAST_FILE).is_file():
            run = self._read()
            differences = list_differences({key: run[key] for key in described}, described)
            if differences:
                listed = "\n  ".join(differences)
                raise FileExistsError(
                    f"{self.path}: a run with other settings is there; choose another folder with --out, or "
                    f"remove that one. What differs:\n  {listed}"
                )
        elif self.path.is_dir() and {*self.path.iterdir()} - {*self._leftovers()} and not path.is_file():
            raise FileExistsError(
                f"{self.path}: expected a new folder or that of a run, found other files there"
            )
        else:
            # New, or stopped before its first epoch: then nothing depends on what was asked for.
            run = {**described, "sessions": []}
        for leftover in self._leftovers():
            shutil.rmtree(leftover, ignore_errors=True)
        if not self.finished:
            state = self.load()
            session = {
                "started": now(),
                "after_epoch": 0 if state is None else state["stopping"]["epoch"],
                "command": " ".join(["python", "-m", "training.pretraining", *sys.argv[1:]]),
                "commit": commit(),
                "versions": versions(),
                "machine": machine(),
            }
            run["sessions"].append(session)
            write_json(path, run)

    def _leftovers(self) -> list[Path]:
        """What kills in the middle of writing left behind, see ``mousev1.storage.atomic.replacing``."""
        names = (RUN_FILE, LAST_FILE, BEST_FILE, METRICS_FILE, RESULT_FILE, "README.md", "core")
        figures = self.path.glob("figures/.*.png.*")
        return [*figures, *(leftover for name in names for leftover in self.path.glob(f".{name}.*"))]

    def sessions(self) -> list[dict[str, Any]]:
        """Every start of the run, the first one first."""
        sessions: list[dict[str, Any]] = self._read()["sessions"]
        return sessions

    def load(self) -> State | None:
        """What the last finished epoch left behind; None before the first."""
        path = self.path / LAST_FILE
        if not path.is_file():
            return None
        state = load_checkpoint(path)
        if state.pop("run", None) != self._identity():
            raise ValueError(
                f"{path}: the checkpoint of another run. Put this run's back, or remove {self.path} to start the "
                "run from the beginning"
            )
        return state

    def save(self, state: State) -> None:
        """Keep an epoch's state and its metrics."""
        save_checkpoint(self.path / LAST_FILE, {**state, "run": self._identity()})
        self.write_metrics(state["history"])

    def save_best(self, model: Mapping[str, torch.Tensor]) -> None:
        """Keep the weights of the best epoch by themselves, for use outside of training."""
        save_checkpoint(self.path / BEST_FILE, dict(model))

    def load_best(self) -> State:
        """The weights of the best epoch."""
        return load_checkpoint(self.path / BEST_FILE)

    def write_metrics(self, history: Sequence[Mapping[str, float]]) -> None:
        """One row per epoch, as CSV."""
        text = io.StringIO()
        if history:
            writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        self.write_text(METRICS_FILE, text.getvalue())

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the folder, complete or not at all."""
        with replacing(self.path / name) as staging:
            staging.write_text(text, encoding="utf-8")

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        write_json(self.path / RESULT_FILE, result)

    def tensorboard(self, history: Sequence[Mapping[str, float]]) -> Callable[[Mapping[str, float]], None]:
        """What logs an epoch's metrics to ``tensorboard/``; events after the last of ``history`` are void."""
        from torch.utils.tensorboard import SummaryWriter

        purge = int(history[-1]["epoch"]) + 1 if history else None
        writer: Any = SummaryWriter(str(self.path / "tensorboard"), purge_step=purge)

        def log(metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(metrics["epoch"]))
            writer.flush()

        return log

    def _read(self) -> dict[str, Any]:
        path = self.path / RUN_FILE
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            run = None
        if not isinstance(run, dict) or not {"config", "scans", "sessions"} <= {*run}:
            raise ValueError(
                f"{path}: expected what a run writes; this file is truncated, altered, or another program's. Put "
                "a copy back, or choose another folder with --out"
            )
        return run

    def _identity(self) -> str:
        """What a checkpoint must agree with: a digest of the config and the scans."""
        run = self._read()
        text = json.dumps([run["config"], run["scans"]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def describe_scans(scans: Sequence[PretrainScan], files: Sequence[Path]) -> list[dict[str, Any]]:
    """Name, sizes and checksum of each scan, plain values for JSON."""
    return [
        {
            "name": scan.name,
            "file": file.name,
            "sha256": data_sha256(file),
            "units": scan.units,
            "train_trials": len(scan.train),
            "validation_trials": len(scan.validation),
        }
        for scan, file in zip(scans, files, strict=True)
    ]


def list_differences(there: Any, now: Any, at: str = "") -> list[str]:
    """Where two nests of plain values differ, one line per difference."""
    if isinstance(there, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted({*there, *now})
            for line in list_differences(there.get(key), now.get(key), f"{at}.{key}" if at else key)
        ]
    if isinstance(there, list) and isinstance(now, list) and len(there) == len(now):
        return [
            line
            for i, (old, new) in enumerate(zip(there, now, strict=True))
            for line in list_differences(old, new, f"{at}[{i}]")
        ]
    return [] if there == now else [f"{at}: {_short(there)} there, {_short(now)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
