"""Bayesian search of hyperparameters: ``python -m training.hyperparameter_search CONFIG.toml``.

Lurz et al. 2021, section 3, tried 100 sets of values per model with a Gaussian process. The study is a file;
start the command on as many machines as share it, and they join in. Stopped and started again, a study goes
on; what a killed process was trying does not count, and another trial is made instead. Afterwards
``--fine-tune`` searches the weight of the readout's regulariser alone for each number of training images.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
    """A config with its scans, all training images in them, and the folder that all processes of the study share."""

    config: SearchConfig
    scans: list[Scan]
    out: Path


def objective(search: Search, recipe: PretrainConfig, images: int) -> float:
    """Validation correlation of the model that a recipe gives on so many images (0: all), tier test aside.

    Raises:
        FloatingPointError: training diverged.
    """
    scans = draw_images(search.scans, images, search.config.partition) if images else search.scans
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


def open_study(name: str, folder: Path, *, seed: int, random_trials: int) -> Any:
    """An Optuna study in the file of a folder that several processes share.

    ``random_trials`` have random values, before the Gaussian process suggests them.
    """
    optuna = _optuna()
    storages = importlib.import_module("optuna.storages")
    journal = importlib.import_module("optuna.storages.journal")
    storage = storages.JournalStorage(journal.JournalFileBackend(str(folder / STUDY_FILE)))
    with FileLock(folder / f"{STUDY_FILE}.join"):
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        # Every process that joins has a seed of its own: no two try the same values.
        joined = study.user_attrs.get("joined", 0)
        study.set_user_attr("joined", joined + 1)
    study.sampler = optuna.samplers.GPSampler(seed=1000 * seed + joined, n_startup_trials=random_trials)
    return study


def run_study(
    study: Any,
    spans: Mapping[str, Span],
    score: Callable[[dict[str, float], int], float],
    *,
    trials: int,
) -> tuple[dict[str, float], float]:
    """Try values until enough trials have ended, counting those of all processes; values and score of the best.

    ``score`` gets values and the number of the trial. Trials of killed processes do not count as ended.

    Raises:
        ValueError: no trial has a score.
    """

    def attempt(trial: Any) -> float:
        values = {
            name: trial.suggest_float(name, span.low, span.high, log=True) for name, span in spans.items()
        }
        try:
            reached = score(values, trial.number)
        except FloatingPointError as error:
            print(f"trial {trial.number}: {error}", file=sys.stderr)
            raise
        shown = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        print(f"trial {trial.number}: {reached:.4f} with {shown}", flush=True)
        return reached

    optuna = _optuna()
    if ended_trials(study) < trials:
        limit = optuna.study.MaxTrialsCallback(trials, states=_ended())
        study.optimize(attempt, callbacks=[limit], catch=(FloatingPointError,))
    if not study.get_trials(deepcopy=False, states=_ended()[:1]):
        raise ValueError(
            "no trial of this study gave a score: every training diverged; lower the learning rates in "
            "spans.learning_rate"
        )
    return dict(study.best_params), float(study.best_value)


def ended_trials(study: Any) -> int:
    """Number of trials that came to an end; those of killed processes did not."""
    return len(study.get_trials(deepcopy=False, states=_ended()))


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
    """The paper's search over all hyperparameters together; returns and writes the best of them."""
    config = search.config
    study = open_study(config.name, search.out, seed=config.seed, random_trials=config.random_trials)

    def score(values: dict[str, float], trial: int) -> float:
        return objective(search, config.recipe_with(values, seed=trial), config.images)

    values, reached = run_study(study, config.spans, score, trials=config.trials)
    best = {"values": values, "validation_correlation": reached, "trials": ended_trials(study)}
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
        study = open_study(
            f"{config.name}, {images} images",
            search.out,
            seed=config.seed,
            random_trials=max(2, config.fine_tune_trials // 3),
        )

        def score(values: dict[str, float], trial: int, images: int = images) -> float:
            return objective(search, config.recipe_with({**fixed, **values}, seed=trial), images)

        print(f"{images:,} images", flush=True)
        values, _ = run_study(study, span, score, trials=config.fine_tune_trials)
        weights[images] = values[REGULARISER]
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


def _ended() -> tuple[Any, Any]:
    states = _optuna().trial.TrialState
    return states.COMPLETE, states.FAIL


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ImportError(
            "training.hyperparameter_search needs Optuna: pip install 'mousev1[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # failed trials are printed here
    return optuna


if __name__ == "__main__":
    sys.exit(main())
