"""What a fit makes of recordings of every kind: the convex fit and the published recipe on two simulated animals.

    python -m training.measurements.regimes WEIGHTS PATCHES.npz --seed 0 --out FILE.json

WEIGHTS is a folder with ``lurz_11s_core.pt`` and the published models of ``twins``; PATCHES.npz holds photographs,
``patches`` (N, 36, 64). Two published models play the animal, the 11-S core is fitted to what they respond
(``regime_conditions``), and predictions for other images are held against the true mean responses. Both methods get
the same trials; the recipe holds out a tenth of them to stop on. Each row (animal, regime, method) is written as soon
as it is there and not repeated, so that an interrupted run continues where it stopped.

Rates of healthy neurons and of bad ones are scored apart. In regimes with a bad neuron or trial, everything else is
as in the regime ``gamma``, so that the difference is what the bad ones do to the others.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mousev1
from mousev1 import metrics
from mousev1.core.network import Core
from mousev1.model.response_model import ResponseModel
from training import provenance
from training.measurements import script
from training.measurements.regime_conditions import CLEAN, REGIMES, Regime
from training.measurements.task import read_core
from training.measurements.twins import Twin, read_twins

Array = npt.NDArray[Any]

METHODS = ("convex", "sgd")
TEST_IMAGES = 300
LEVEL = 1.96  # standard deviations of a 95% interval
LEAD, LOSS = 0.005, 0.01  # of the recipe, and by bad neurons and trials: more is reported


@dataclass(frozen=True)
class Recording:
    """A simulated scan and its truth.

    Attributes:
        images: (N, 36, 64) training images.
        responses: (N, U) float32.
        positions: (U, 2), or None.
        test_images: (M, 36, 64) others.
        truth: (M, U) mean responses to them.
        bad: (U,) neurons that were spoilt.
        exact: whether the truth has the responses' units.
    """

    images: Array
    responses: Array = field(repr=False)
    positions: Array | None
    test_images: Array
    truth: Array
    bad: Array
    exact: bool


def simulate(regime: Regime, twin: Twin, photographs: Array, seed: int) -> Recording:
    """A recording of a regime. Neurons, images and noise of one seed are the same where regimes do not differ."""
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(photographs))
    test, train = photographs[order[:TEST_IMAGES]], photographs[order[TEST_IMAGES:][: regime.images]]
    neurons = rng.permutation(twin.model.n_units)[: regime.neurons].repeat(regime.copies)
    rates = twin.rates(np.concatenate([test, train]), neurons)
    responses = regime.record(rates[TEST_IMAGES:], np.random.default_rng([seed, 2]))
    bad = np.zeros(len(neurons), dtype=bool)
    if regime.spoil is not None:
        bad[regime.spoil(responses, np.random.default_rng([seed, 3]))] = True
    return Recording(
        images=train,
        responses=responses.astype(np.float32),
        positions=regime.positions(twin.cortex[neurons], np.random.default_rng([seed, 4])),
        test_images=test,
        truth=regime.expect(rates[:TEST_IMAGES]),
        bad=bad,
        exact=regime.exact,
    )


def run(recording: Recording, core: Core, method: str, seed: int) -> dict[str, Any]:
    """Fit and score; an error of the fit is a result, too."""
    started = time.perf_counter()
    try:
        model = mousev1.fit_readout(
            recording.images,
            recording.responses,
            recording.positions,
            core=core,
            method=method,
            constant_units="mean",
            seed=seed,
            progress=False,
        )
    except (ArithmeticError, RuntimeError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"[:300]}
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), **scores(recording, model), "notes": list(model.record.notes)}


def scores(recording: Recording, model: ResponseModel) -> dict[str, float | None]:
    """Mean true-rate correlation of healthy and of bad neurons, and coverage of 95% intervals of healthy rates.

    A prediction that is constant or not finite counts as a correlation of zero.
    """
    has_intervals = model.posterior is not None and recording.exact
    predicted = model.predict(recording.test_images)
    finite = np.where(np.isfinite(predicted), predicted, 0.0)
    correlation = np.nan_to_num(metrics.correlation(finite, recording.truth))
    correlation[~np.isfinite(predicted).all(axis=0)] = 0.0
    found = {"healthy": _mean(correlation[~recording.bad]), "bad": _mean(correlation[recording.bad])}
    if has_intervals:
        rates, sd = model.predict(recording.test_images, return_std=True)
        away = np.abs(rates - recording.truth)[:, ~recording.bad]
        found["coverage"] = float(np.mean(away <= LEVEL * sd[:, ~recording.bad]))
        found["z_rms"] = float(np.sqrt(np.mean((away / np.maximum(sd[:, ~recording.bad], 1e-12)) ** 2)))
    return {
        name: None if value is None or not np.isfinite(value) else round(value, 4)
        for name, value in found.items()
    }


def findings(rows: dict[str, Any], twins: Sequence[str]) -> list[str]:
    """Where the recipe leads, where bad neurons or trials harm the others, and where intervals do not hold."""
    lines = []
    for regime in REGIMES:
        for twin in twins:
            convex, recipe = (rows.get(f"{twin}/{regime.name}/{method}") for method in METHODS)
            where = f"{regime.name} ({twin})"
            if convex is None:
                continue
            if "error" in convex:
                lines.append(f"{where}: the convex fit fails: {convex['error']}")
                continue
            if recipe is not None and recipe.get("healthy", -1.0) - convex["healthy"] > LEAD:
                lines.append(f"{where}: the recipe leads by {recipe['healthy'] - convex['healthy']:.3f}")
            clean = rows.get(f"{twin}/{CLEAN.name}/convex")
            if regime.spoil is not None and clean is not None and clean["healthy"] - convex["healthy"] > LOSS:
                lines.append(f"{where}: {clean['healthy'] - convex['healthy']:.3f} below the clean recording")
            if convex.get("coverage") is not None and not 0.88 <= convex["coverage"] <= 0.985:
                lines.append(f"{where}: 95% intervals hold {convex['coverage']:.2f}")
    return lines


def table(rows: dict[str, Any], twins: Sequence[str], before: dict[str, Any] | None = None) -> str:
    """Markdown, one line per regime; with the rows of an earlier run, its convex fit beside the present one."""
    columns = [
        f"{twin}: {what}"
        for twin in twins
        for what in (
            *(("convex before",) if before else ()),
            "convex / recipe",
            "bad neurons",
            "95% intervals hold",
            "seconds",
        )
    ]
    lines = [f"| group | regime | {' | '.join(columns)} |", "|---|---" + "|---" * len(columns) + "|"]
    for regime in REGIMES:
        entries = []
        for twin in twins:
            fits = [rows.get(f"{twin}/{regime.name}/{method}", {}) for method in METHODS]
            if before:
                entries.append(_shown(before.get(f"{twin}/{regime.name}/convex", {}), "healthy"))
            entries.append(" / ".join(_shown(fit, "healthy") for fit in fits))
            entries.append(" / ".join(_shown(fit, "bad") for fit in fits))
            entries.append(_shown(fits[0], "coverage"))
            entries.append(
                " / ".join("-" if "seconds" not in fit else f"{fit['seconds']:.0f}" for fit in fits)
            )
        lines.append(f"| {regime.group} | {regime.name} | {' | '.join(entries)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that the result file lacks, then write the table beside it."""
    options = _parser().options(arguments)
    core = read_core(options.weights / "lurz_11s_core.pt")
    with np.load(options.patches) as arrays:
        photographs = arrays["patches"]
    twins = read_twins(options.weights)
    header = {
        "what": "true-rate correlation in many regimes of simulated responses; 200 neurons and 400 images unless said",
        "photographs_sha256": provenance.data_sha256(options.patches),
        "seed": options.seed,
        "core": core.name,
        "core_hash": core.content_hash(),
    }
    results = script.resume(options, header, "rows")
    for regime in REGIMES:
        if options.regimes and regime.name not in options.regimes:
            continue
        for twin in twins:
            keys = {method: f"{twin.name}/{regime.name}/{method}" for method in options.methods}
            missing = [m for m, key in keys.items() if key not in results["rows"] or m in options.rerun]
            if not missing:
                continue
            recording = simulate(regime, twin, photographs, options.seed)
            for method in missing:
                row = run(recording, core, method, options.seed)
                results["rows"][keys[method]] = {**row, **_circumstances()}
                provenance.write_json(options.out, results)
                shown = {name: value for name, value in row.items() if name != "notes"}
                print(f"{keys[method]}: {shown}", file=sys.stderr, flush=True)
    names = [twin.name for twin in twins]
    before = None if options.before is None else json.loads(options.before.read_text("utf-8"))["rows"]
    listed = "\n".join(f"- {line}" for line in findings(results["rows"], names)) or "- nothing"
    text = (
        f"Regimes, simulated from two published models, core {core.name}, seed {options.seed}: mean correlation of "
        f"healthy neurons' predictions with their true rates, convex fit / recipe, with `{results['command']}`\n\n"
        f"{table(results['rows'], names, before)}\n\nBeyond what is aimed at (recipe ahead by {LEAD:g}, others "
        f"harmed by {LOSS:g}, intervals outside .88 to .985):\n\n{listed}\n"
    )
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def _circumstances() -> dict[str, Any]:
    found = provenance.circumstances()
    return {name: found[name] for name in ("date", "commit")}


def _mean(values: Array) -> float | None:
    return float(values.mean()) if values.size else None


def _shown(row: dict[str, Any], name: str) -> str:
    if "error" in row:
        return "fails"
    value = row.get(name)
    return "-" if value is None else f"{value:.3f}"


def _parser() -> script.Parser:
    parser = script.Parser(
        prog="python -m training.measurements.regimes",
        description="The convex fit and the published recipe in many regimes of simulated responses.",
    )
    parser.add_argument("weights", type=Path, help="folder with the 11-S core and the published models")
    parser.add_argument("patches", type=Path, help="photographs (.npz)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: convex sgd")
    parser.add_argument(
        "--rerun", nargs="+", choices=METHODS, default=[], help="repeat rows of these methods"
    )
    parser.add_argument("--regimes", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--before", type=Path, help="an earlier result file, to show its convex fit beside")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="result file (.json); a table goes beside it")
    return parser


if __name__ == "__main__":
    main()
