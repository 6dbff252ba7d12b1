"""Compare frozen cores on a scan that none of them was trained on: ``python -m training.transfer CONFIG.toml``.

Every core gets a new readout, fitted by ``mousev1.fit_readout`` to the same training images; a core
trained end to end on those images alone is the baseline. All are scored on the test tier. Each score is
kept as soon as it is known: run again, only what is missing is computed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import mousev1
from mousev1.core.network import Core
from mousev1.core.representation import FrozenCore, Representation
from mousev1.errors import listing
from mousev1.metrics.unit_scores import oracle_correlation
from training.networks.representations import load_representation
from training.pretraining.config import find_scans
from training.pretraining.end_to_end import train_direct
from training.pretraining.run_folder import git_commit
from training.provenance import data_sha256, machine, now, versions, write_json
from training.transfer_benchmark.protocol import training_subset
from training.transfer_benchmark.scoring import Truth, mean_defined, read_truth, score_tests
from training.transfer_config import DIRECT, CoreEntry, TransferConfig, read_transfer_config
from training.transfer_report import figure, markdown

Array = npt.NDArray[Any]
Results = dict[str, Any]

DIRECT_REFIT = "direct, readout fitted anew"


@dataclass(frozen=True)
class Task:
    """What every core is given and judged on.

    Attributes:
        config: of the comparison.
        scan: with the chosen neurons.
        sha256: of the scan's file.
        truth: None for real recordings.
        work: folder for trainings of the direct condition.
    """

    config: TransferConfig
    scan: mousev1.Scan
    sha256: str
    truth: Truth | None
    work: Path


@dataclass(frozen=True)
class Fitted:
    """A model, the seconds it took, and more about it."""

    model: mousev1.ResponseModel
    seconds: float
    details: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One entry of the table.

    Attributes:
        row: what identifies it: label, group, identity of core or recipe, images, seed.
        fit: what has to be done.
    """

    row: dict[str, Any]
    fit: Callable[[], Fitted]

    @property
    def key(self) -> str:
        """Equal for cells that mean the same computation."""
        return hashlib.sha256(json.dumps(self.row, sort_keys=True).encode()).hexdigest()[:16]


def make_task(config: TransferConfig, config_folder: Path, work: Path) -> Task:
    """Read scan and truth, and draw the neurons.

    Raises:
        FileNotFoundError: no such scan or truth.
        ValueError: more neurons or images than there are, or nothing to test on.
    """
    file = find_scans((config.scan,), config_folder)[0]
    scan = mousev1.read_scan(file)
    drawn = np.arange(scan.n_units)
    if config.units is not None:
        if config.units > scan.n_units:
            raise ValueError(f"units: expected at most {scan.n_units}, as {file} has, got {config.units}")
        drawn = np.sort(np.random.default_rng(config.unit_seed).permutation(scan.n_units)[: config.units])
    truth = None
    if config.truth is not None:
        truth = read_truth(find_scans((config.truth,), config_folder)[0]).select_units(drawn)
    scan = scan.select_units(drawn)
    available = len(np.unique(scan.trials("train").image_ids))
    if max((*config.images, *config.direct_images)) > available:
        raise ValueError(f"images: expected at most {available}, as {file} has for training")
    if not len(scan.trials("test")):
        raise ValueError(f"scan: expected trials of tier 'test' to score on, {file} has none")
    return Task(config, scan, data_sha256(file), truth, work)


def fit_convex(task: Task, core: FrozenCore, images: int, seed: int) -> Fitted:
    """A new readout on a frozen core; the validation tier is not looked at."""
    train = training_subset(task.scan, images, seed).trials("train")
    started = time.perf_counter()
    model = mousev1.fit_readout(
        train.images,
        train.responses,
        task.scan.positions,
        core=core,
        method="convex",
        image_ids=train.image_ids,
        unit_ids=task.scan.unit_ids,
        constant_units="mean",
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    notes = {"notes": list(model.record.notes)} if model.record.notes else {}
    return Fitted(model, time.perf_counter() - started, notes)


def fit_direct(task: Task, images: int, seed: int, *, refit: bool) -> Fitted:
    """Core and readout trained on these images alone; with ``refit`` its readout is fitted anew."""
    subset, recipe = training_subset(task.scan, images, seed), task.config.recipe(seed)
    chosen = json.dumps([task.sha256, task.config.units, task.config.unit_seed, recipe.to_dict()])
    digest = hashlib.sha256(chosen.encode()).hexdigest()[:8]
    direct = train_direct(subset, recipe, task.work / f"{DIRECT}-{images}-{seed}-{digest}")
    if not refit:
        return Fitted(direct.model, direct.seconds, direct.details)
    fitted = fit_convex(task, direct.model.core, images, seed)
    return Fitted(fitted.model, direct.seconds + fitted.seconds, {**direct.details, **fitted.details})


def score(task: Task, model: mousev1.ResponseModel) -> dict[str, float | int | None]:
    """Mean test scores; the correlation with true rates only where these are known."""
    scores = asdict(score_tests([task.scan], [model], [task.truth]))
    if task.truth is None:
        del scores["true_rate_correlation"]
    return scores


# ---------------------------------------------------------------- cells


def load_cores(entry: CoreEntry, shape: Any) -> Iterator[tuple[str, Core | Representation]]:
    """Label and core of everything that an entry stands for."""
    if entry.source is None:
        for seed in entry.random_seeds:
            yield f"{entry.label}-{seed}", Core.random(shape, seed=seed)
    else:
        yield entry.label, load_representation(entry.source)


def core_cells(task: Task, label: str, group: str, core: FrozenCore) -> Iterator[Cell]:
    """All cells of one core."""
    prior = None
    if core.readout_prior is not None:
        tensors = [tensor.numpy().tobytes() for _, tensor in sorted(core.readout_prior.items())]
        prior = hashlib.sha256(b"".join(tensors)).hexdigest()
    for seed in task.config.seeds:
        for images in task.config.images:
            row = {
                "label": label,
                "group": group,
                "identity": {"content_hash": core.content_hash(), "prior_sha256": prior},
                "images": images,
                "seed": seed,
            }

            def fit(images: int = images, seed: int = seed) -> Fitted:
                return fit_convex(task, core, images, seed)

            yield Cell(row, fit)


def direct_cells(task: Task) -> Iterator[Cell]:
    """Training on the scan alone, scored with its own readout and with one fitted anew."""
    recipe = {key: value for key, value in task.config.recipe(0).to_dict().items() if key != "seed"}
    for seed in task.config.seeds:
        for images in task.config.direct_images:
            for label in (DIRECT, DIRECT_REFIT):
                row = {
                    "label": label,
                    "group": label,
                    "identity": {"recipe": recipe},
                    "images": images,
                    "seed": seed,
                }

                def fit(images: int = images, seed: int = seed, refit: bool = label != DIRECT) -> Fitted:
                    return fit_direct(task, images, seed, refit=refit)

                yield Cell(row, fit)


def cells(task: Task, only: Sequence[str], complain: Callable[[str], None]) -> Iterator[Cell]:
    """Every cell of the config; a core that cannot be had is complained of, and left out."""
    for entry in task.config.cores:
        if only and entry.label not in only:
            continue
        try:
            for label, core in load_cores(entry, task.config.core):
                yield from core_cells(task, label, entry.label, core)
        except (OSError, ValueError, ImportError) as error:
            complain(f"core '{entry.label}': {error}")
    if not only or DIRECT in only:
        yield from direct_cells(task)


# ---------------------------------------------------------------- results


def open_results(path: Path, task: Task) -> Results:
    """The results so far.

    Raises:
        FileExistsError: the file is of another scan or other neurons.
    """
    scan, config = task.scan, task.config
    test = scan.trials("test")
    header = {
        "name": config.name,
        "title": config.title,
        "scan": {
            "name": scan.name,
            "sha256": task.sha256,
            "units": scan.n_units,
            "unit_seed": None if config.units is None else config.unit_seed,
            "test_images": len(np.unique(test.image_ids)),
            "test_trials": len(test),
            "oracle_correlation": mean_defined(oracle_correlation(test.responses, test.image_ids)),
        },
    }
    if not path.exists():
        return {**header, "rows": []}
    found: Results = json.loads(path.read_text(encoding="utf-8"))
    if found["scan"] != header["scan"]:
        raise FileExistsError(
            f"{path}: holds results of {found['scan']}, now it is {header['scan']}; choose another folder "
            "with --out, or remove that file"
        )
    return {**header, "rows": found["rows"]}


def add_row(path: Path, task: Task, row: dict[str, Any]) -> None:
    """Keep a row at once; rows of an earlier core, prior or recipe of the same label give way to it."""
    # Read again: another process may have added rows of other cores meanwhile.
    results = open_results(path, task)

    def stays(other: dict[str, Any]) -> bool:
        one, new = other["cell"], row["cell"]
        outdated = one["label"] == new["label"] and one["identity"] != new["identity"]
        return other["key"] != row["key"] and not outdated

    results["rows"] = [other for other in results["rows"] if stays(other)] + [row]
    write_json(path, results)


def run(config_path: Path, out: Path, work: Path | None, only: Sequence[str]) -> list[str]:
    """Compute the cells that are missing and write the report; returns what went wrong."""
    config = read_transfer_config(config_path)
    known = [entry.label for entry in config.cores] + [DIRECT]
    unknown = [label for label in only if label not in known]
    if unknown:
        raise ValueError(f"--only: expected some of {listing(known)}, got {listing(unknown)}")
    task = make_task(config, config_path.parent, work or Path("runs") / config.name)
    path = out / f"{config.name}.json"
    open_results(path, task)  # refuses those of another scan before any work
    # What gives these rows again, whichever part of them a process was asked for.
    command = shlex.join(
        ["python", "-m", "training.transfer", config_path.as_posix(), "--out", out.as_posix()]
    )
    commit = git_commit()  # of the code that runs, whatever happens to the checkout meanwhile
    wrong: list[str] = []

    def complain(message: str) -> None:
        wrong.append(message)
        print(f"error: {message}", file=sys.stderr, flush=True)

    for cell in cells(task, only, complain):
        name = f"{cell.row['label']}, {cell.row['images']:,} images, seed {cell.row['seed']}"
        if cell.key in {row["key"] for row in open_results(path, task)["rows"]}:
            print(f"{name}: done already", flush=True)
            continue
        try:
            fitted = cell.fit()
            row = {
                "key": cell.key,
                "cell": cell.row,
                "content_hash": fitted.model.core.content_hash(),
                "units": task.scan.n_units,
                "scores": score(task, fitted.model),
                "seconds": round(fitted.seconds, 2),
                **fitted.details,
                "date": now(),
                "command": command,
                "commit": commit,
                "machine": machine(),
                "versions": versions(),
            }
        except (ValueError, OSError, ArithmeticError) as error:
            complain(f"{name}: {error}")
            continue
        add_row(path, task, row)
        found = row["scores"]["single_trial_correlation"]
        shown = "undefined" if found is None else f"{found:.4f}"
        print(f"{name}: {shown} in {fitted.seconds:.0f} s", flush=True)

    results = open_results(path, task)
    if results["rows"]:
        text = markdown(results, [entry.label for entry in config.cores])
        path.with_suffix(".md").write_text(text, encoding="utf-8")
        figure(results, [entry.label for entry in config.cores]).savefig(path.with_suffix(".png"), dpi=150)
        print(text)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, or 1 after a message about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.transfer",
        description="Compare frozen cores on a scan that none of them was trained on. Run again, only what "
        "is missing is computed.",
    )
    parser.add_argument("config", type=Path, help="TOML file; see training/configs/transfer-*.toml")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/transfer"), metavar="DIR", help="of the results"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="of direct trainings; default runs/<name>")
    parser.add_argument("--only", nargs="+", default=[], metavar="LABEL", help="these cores, or 'direct'")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    words = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        return 1 if run(options.config, options.out, options.work, options.only) else 0
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
