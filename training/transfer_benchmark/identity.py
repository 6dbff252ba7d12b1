"""A key for each run: a digest of everything that decides its result.

That is what is asked for, the recipes, and the content of scans and cores. Equal keys mean the same computation,
so that a result once there need not be computed again. The names in the digested values are those of the filed
results, whose keys and commands stay valid as long as these do not change.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from training.networks.representations import REPRESENTATIONS
from training.transfer_benchmark.conditions_grid import Run
from training.transfer_benchmark.config import SGD, CoreEntry
from training.transfer_benchmark.cores import (
    contents,
    digest,
    frozen_recipe,
    given,
    load_core,
    needed_training,
    training_identity,
)
from training.transfer_benchmark.plan import Plan


class Identities:
    """Everything that decides the row of a run; given cores are loaded once, to hash them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._hashes: dict[str, str | None] = {}

    def key(self, run: Run) -> str:
        """Name of a run's file, equal for runs that mean the same computation."""
        return digest(self.of(run))

    def of(self, run: Run) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plan, target = self._plan, self._plan.config.target(run.target)
        values: dict[str, Any] = {
            "benchmark": plan.config.name,
            "cell": asdict(run),
            "target": {
                "scope": target.scope,
                "scans": contents(plan, plan.files.scans[run.target]),
                "truth": contents(plan, plan.files.truth[run.target]),
                "core_units": target.core_units,
                **given("image_seed", target.image_seed),
            },
        }
        training = needed_training(plan, run)
        if training is not None:
            values["training"] = training_identity(plan, training)
        else:
            values["core"] = self._core(plan.config.entry(run.core), run.seed)
        if run.method == SGD:
            recipe = frozen_recipe(plan, run).to_dict()
            values["recipe"] = {key: recipe[key] for key in ("seed", "readout", "optimisation", "compute")}
        return values

    def _core(self, entry: CoreEntry, seed: int) -> dict[str, Any]:
        if entry.random:
            return {"random": self._plan.config.core.to_dict(), "seed": seed}
        if entry.source in REPRESENTATIONS:
            return {"source": entry.source, "seed": seed}
        if entry.label not in self._hashes:
            try:
                self._hashes[entry.label] = load_core(self._plan, entry, 0).content_hash()
            except (OSError, ValueError, ImportError):
                # Its runs say why when they are computed.
                self._hashes[entry.label] = None
        return {"source": entry.source, "content_hash": self._hashes[entry.label]}
