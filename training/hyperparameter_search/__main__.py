"""Bayesian search of hyperparameters: ``python -m training.hyperparameter_search CONFIG.toml``.

Lurz et al. 2021, section 3, tried 100 sets of values per model with a Gaussian process. The study is a file;
start the command on as many machines as share it, and they join in. Stopped and started again, a study goes
on; what a killed process was trying is tried by nobody else, and another trial takes its place. Afterwards
``--fine-tune`` searches the weight of the readout's regulariser alone for each number of training images.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

import mousev1
from mousev1.data.scan import Scan
from training.hyperparameter_search.config import FROZEN, SPANS, SearchConfig, Span
from training.networks.representations import load_representation
from training.pretraining.config import PretrainConfig, find_scans
from training.pretraining.data import prepare_scan
from training.pretraining.end_to_end import train_end_to_end, write_scans
from training.pretraining.frozen_core import train_readouts
from training.pretraining.run_folder import list_differences
from training.provenance import commit, data_sha256, machine, now, versions, write_json
from training.transfer_benchmark.protocol import draw_images

STUDY_FILE = "study.log"
LOG_FILE = "log.txt"
BEST_FILE = "best.json"
FINE_TUNE_FILE = "feature_l1.json"
REGULARISER = "feature_l1"


@dataclass(frozen=True)
class Search:
    """A config with its scans and its folder.

    Attributes:
        config: of the search.
        scans: with all training images.
        out: folder that all processes of the study share.
    """

    config: SearchConfig
    scans: list[Scan]
    out: Path

    def scans_with(self, images: int) -> list[Scan]:
        """The scans with so many training images; 0 for all."""
        return draw_images(self.scans, images, self.config.partition) if images else self.scans


def objective(search: Search, recipe: PretrainConfig, images: int) -> float:
    """Validation correlation of the model that a recipe gives; the test tier is not looked at.

    Raises:
        FloatingPointError: training diverged.
    """
    scans = search.scans_with(images)
    with (search.out / LOG_FILE).open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        return _train(search, scans, recipe)


def _train(search: Search, scans: list[Scan], recipe: PretrainConfig) -> float:
    if search.config.train == FROZEN:
        assert search.config.core_source is not None
        core = load_representation(search.config.core_source, seed=search.config.seed)
        prepared = [prepare_scan(scan, core.config) for scan in scans]  # type: ignore[arg-type]
        return train_readouts(core, prepared, recipe).validation_correlation
    with tempfile.TemporaryDirectory(dir=search.out) as folder:
        files = write_scans(scans, Path(folder) / "scans")
        trained = train_end_to_end(files, recipe, Path(folder), figures=False)
    return float(trained.details["validation_correlation"])


class Study:
    """Trials of one search, in a file that several processes share.

    Args:
        name: of the study within the file.
        folder: of the file.
        spans: what is searched.
        seed: of the suggestions.
        random_trials: trials before the Gaussian process has a say.
    """

    def __init__(
        self, name: str, folder: Path, spans: Mapping[str, Span], *, seed: int, random_trials: int
    ) -> None:
        self._optuna = _optuna()
        storages = importlib.import_module("optuna.storages")
        journal = importlib.import_module("optuna.storages.journal")
        storage = storages.JournalStorage(journal.JournalFileBackend(str(folder / STUDY_FILE)))
        self._lock = FileLock(folder / f"{STUDY_FILE}.suggest")
        self._spans, self._seed, self._random_trials = spans, seed, random_trials
        with self._lock:
            self._study: Any = self._optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True
            )

    def finished(self) -> int:
        """Number of trials that came to an end; those of killed processes did not."""
        states = self._optuna.trial.TrialState
        return len(self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.FAIL)))

    def suggest(self) -> tuple[Any, dict[str, float]]:
        """A trial and the values to try; one process at a time, so that no two get the same."""
        with self._lock:
            # The sampler is new for every trial: suggestions depend on what is in the file alone.
            taken = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = self._optuna.samplers.GPSampler(
                seed=1000 * self._seed + taken, n_startup_trials=self._random_trials
            )
            trial = self._study.ask()
            values = {
                name: trial.suggest_float(name, span.low, span.high, log=True)
                for name, span in self._spans.items()
            }
        return trial, values

    def tell(self, trial: Any, score: float) -> None:
        """Keep the score of a trial; NaN if there is none."""
        if math.isfinite(score):
            self._study.tell(trial, score)
        else:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def best(self) -> tuple[dict[str, float], float]:
        """Values and score of the best trial.

        Raises:
            ValueError: no trial has a score.
        """
        try:
            return dict(self._study.best_params), float(self._study.best_value)
        except ValueError:
            raise ValueError(
                "no trial of this study gave a score: every training diverged; lower the learning rates in "
                "spans.learning_rate"
            ) from None


def run_study(search: Search, study: Study, *, trials: int, images: int, fixed: Mapping[str, float]) -> None:
    """Try values until there are enough trials, counting those of all processes."""
    while study.finished() < trials:
        trial, values = study.suggest()
        recipe = search.config.recipe_with({**fixed, **values}, seed=trial.number)
        try:
            score = objective(search, recipe, images)
        except FloatingPointError as error:
            print(f"trial {trial.number}: {error}", file=sys.stderr)
            score = math.nan
        study.tell(trial, score)
        shown = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        print(f"trial {trial.number}: {score:.4f} with {shown}", flush=True)


def open_search(config_path: Path, out: Path | None) -> Search:
    """Read config and scans; the folder must be new, or that of the same search.

    Raises:
        FileExistsError: the folder is of another search.
    """
    config = SearchConfig.read(config_path)
    files = find_scans(config.scan, config_path.parent)
    folder = out or Path("runs") / config.name
    folder.mkdir(parents=True, exist_ok=True)
    described = json.loads(
        json.dumps({"config": config.to_dict(), "scans": [data_sha256(file) for file in files]})
    )
    del described["config"]["trials"]  # may be raised later
    path = folder / "search.json"
    with FileLock(folder / "search.lock"):
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8"))
            if differences := list_differences({key: there[key] for key in described}, described):
                listed = "\n  ".join(differences)
                raise FileExistsError(
                    f"{folder}: a search with other settings is there; choose another folder with --out. What "
                    f"differs:\n  {listed}"
                )
        else:
            origin = {"commit": commit(), "started": now(), "machine": machine(), "versions": versions()}
            write_json(path, {**described, **origin})
    return Search(config, [mousev1.read_scan(file) for file in files], folder)


def search_all(search: Search) -> dict[str, Any]:
    """The paper's search over all hyperparameters together; returns and writes what was found."""
    config = search.config
    study = Study(config.name, search.out, config.spans, seed=config.seed, random_trials=config.random_trials)
    run_study(search, study, trials=config.trials, images=config.images, fixed={})
    values, score = study.best()
    best = {"values": values, "validation_correlation": score, "trials": study.finished()}
    write_json(search.out / BEST_FILE, best)
    return best


def fine_tune(search: Search) -> dict[int, float]:
    """The weight of the readout's regulariser for each number of images; returns and writes it.

    Raises:
        FileNotFoundError: the search over all hyperparameters has not come to its end.
    """
    config, path = search.config, search.out / BEST_FILE
    if not path.is_file():
        raise FileNotFoundError(f"--fine-tune: no {path}; run the search without --fine-tune first")
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["values"]
    fixed = {name: value for name, value in found.items() if name != REGULARISER}
    span = {REGULARISER: config.spans.get(REGULARISER, SPANS[REGULARISER])}
    weights = {}
    for images in config.fine_tune_images:
        study = Study(
            f"{config.name}, {images} images",
            search.out,
            span,
            seed=config.seed,
            random_trials=max(2, config.fine_tune_trials // 3),
        )
        print(f"{images:,} images", flush=True)
        run_study(search, study, trials=config.fine_tune_trials, images=images, fixed=fixed)
        weights[images] = study.best()[0][REGULARISER]
    write_json(search.out / FINE_TUNE_FILE, {str(images): weight for images, weight in weights.items()})
    return weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, or 1 after a message about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.hyperparameter_search",
        description="Search hyperparameters for the best validation correlation. Start it several times with "
        "the same folder, and the processes share the work.",
    )
    parser.add_argument("config", type=Path, help="TOML file; see training/configs/search-tiny.toml")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the study; default runs/<name>")
    parser.add_argument(
        "--fine-tune", action="store_true", help="search the readout's regulariser per number of images"
    )
    options = parser.parse_args(arguments)
    try:
        search = open_search(options.config, options.out)
        torch.set_num_threads(search.config.recipe_with({}).compute.threads or 1)
        if options.fine_tune:
            weights = fine_tune(search)
            print(f"[feature_l1.{search.config.readout}]")
            for images, weight in weights.items():
                print(f"{images} = {weight:.4g}")
            return 0
        best = search_all(search)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"best of {best['trials']} trials: validation correlation {best['validation_correlation']:.4f}")
    for name, value in best["values"].items():
        print(f"{name} = {value:.4g}")
    return 0


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ImportError(
            "training.hyperparameter_search needs Optuna: pip install 'mousev1[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


if __name__ == "__main__":
    sys.exit(main())
