"""The training loop of pretraining: one step takes a batch of every scan."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mousev1.core.inference import fuse
from mousev1.fit.early_stopping import EarlyStopping, Verdict
from mousev1.fit.readout_training import FeatureTrials, readout_loss
from mousev1.metrics.intervals import mean_of_defined
from training.pretraining.config import PretrainConfig
from training.pretraining.data import PretrainScan, epoch_steps
from training.pretraining.distributed import BatchNormOrder, Processes
from training.pretraining.export import export
from training.pretraining.fast_convolutions import speed_up_training
from training.pretraining.model import PretrainModel, build_model
from training.pretraining.run_folder import RunFolder, State

EVALUATION_BATCH = 64


def train(
    config: PretrainConfig,
    scans: list[PretrainScan],
    folder: RunFolder,
    processes: Processes,
    *,
    figures: bool = True,
) -> None:
    """Train until the patience has run out in every round, or the epochs have, on from what the folder holds."""
    training = Training(config, scans, processes)
    saved = folder.load()
    if saved is not None:
        training.resume(saved)
        if processes.first:
            print(f"going on after epoch {training.stopping.epoch}", flush=True)
    log = folder.tensorboard(training.history) if processes.first and not training.stopping.finished else None

    while not training.stopping.finished:
        started = time.perf_counter()
        metrics = training.run_epoch()
        scores = validation_correlations(training.model, scans, processes)
        verdict = training.judge(scores, {**metrics, "seconds": time.perf_counter() - started})
        if log is None:
            continue
        if training.stopping.best_epoch == training.stopping.epoch:
            folder.save_best(training.best)
        folder.save(training.state())
        row = training.history[-1]
        log(row)
        print(
            f"epoch {row['epoch']:3d}  loss {row['train_loss']:.4f}  "
            f"validation {row['validation_correlation']:.4f}  {row['images_per_second']:.0f} images/s  "
            f"{verdict.value}",
            flush=True,
        )

    if processes.first:
        training.model.load_state_dict(training.best)
        model, history, stopping = training.model.eval(), training.history, training.stopping
        export(model, scans, folder, config, history, stopping, figures=figures)


class Training:
    """A model in training, with everything that its next epoch depends on."""

    def __init__(self, config: PretrainConfig, scans: list[PretrainScan], processes: Processes) -> None:
        self.config, self.scans, self.processes = config, scans, processes
        self.model = build_model(config, scans).to(processes.device)
        speed_up_training(self.model.core)
        if config.compute.compile:
            self.model.core.compile()
        self.norms = BatchNormOrder(self.model.core, len(scans), processes)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.optimisation.learning_rate)
        self.stopping = EarlyStopping()
        self.history: list[dict[str, Any]] = []
        self.best = copy.deepcopy(self.model.state_dict())

    def state(self) -> State:
        """What ``resume`` goes on from."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "stopping": dataclasses.asdict(self.stopping),
            "best_model": self.best,
            "history": self.history,
        }

    def resume(self, state: State) -> None:
        """Go on after the epoch of a state."""
        self.model.load_state_dict(state["model"])
        self.norms.reload()
        self.optimizer.load_state_dict(state["optimizer"])
        self.stopping = EarlyStopping(**state["stopping"])
        self.history, self.best = state["history"], state["best_model"]

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch; returns its number, learning rate, mean Poisson loss and images per second."""
        config, processes = self.config, self.processes
        epoch, rate = self.stopping.epoch + 1, self.stopping.learning_rate(config.optimisation)
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        # Poisson loss, its number of terms, images
        sums = torch.zeros(3, dtype=torch.float64)
        own = processes.own(len(self.scans))
        for step in epoch_steps(self.scans, config, epoch, processes.device, own=own):
            self.optimizer.zero_grad()
            for scan, (trials, generator) in zip(own, step, strict=True):
                loss, poisson = scan_loss(
                    self.model, self.scans, scan, trials, config=config, generator=generator
                )
                loss.backward()
                self.norms.record(scan)
                sums += torch.tensor([poisson, len(trials) * self.scans[scan].units, len(trials)])
            processes.sum_gradients(self.model)
            self.norms.apply()
            self.optimizer.step()
            for scan in range(len(self.scans)):
                self.model.readout(scan).project_()
        poisson_sum, terms, images = processes.sum(sums).tolist()
        return {
            "epoch": epoch,
            "learning_rate": rate,
            "train_loss": poisson_sum / terms,
            "smoothness": self.model.core.smoothness().item(),
            "images_per_second": images / (time.perf_counter() - started),
        }

    def judge(self, scores: list[NDArray[np.float64]], metrics: dict[str, Any]) -> Verdict:
        """Take in an epoch's validation correlations, (U,) per scan, and keep the metrics.

        Raises:
            FloatingPointError: training diverged.
        """
        everyone = np.concatenate(scores)
        score = mean_of_defined(everyone)
        verdict = self.stopping.judge(score, self.config.optimisation)
        self.history.append(
            {
                **metrics,
                "validation_correlation": score,
                "undefined_neurons": float(np.isnan(everyone).sum()),
                **{
                    f"validation_correlation/{scan.name}": mean_of_defined(own)
                    for scan, own in zip(self.scans, scores, strict=True)
                },
            }
        )
        if self.stopping.best_epoch == self.stopping.epoch:
            self.best = copy.deepcopy(self.model.state_dict())
        if verdict in (Verdict.ROUND_OVER, Verdict.FINISHED):
            self.model.load_state_dict(self.best)
            self.norms.reload()
        return verdict


def scan_loss(
    model: PretrainModel,
    scans: list[PretrainScan],
    scan: int,
    trials: Tensor,
    *,
    config: PretrainConfig,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """What a batch (N,) of one scan's training trials adds to a step's objective, and its summed Poisson loss."""
    device, recipe = generator.device, config.optimisation
    images, responses = scans[scan].train.batch(trials, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.compute.mixed_precision):
        features = model.core(images)
    readout = model.readout(scan)
    rates = readout(features.float(), generator=generator)
    poisson, loss = readout_loss(
        readout, rates, responses, settings=recipe, loss_trials=len(scans[scan].train)
    )
    return loss + recipe.smoothness * model.core.smoothness(), poisson.item()


@torch.no_grad()
def validation_correlations(
    model: PretrainModel, scans: list[PretrainScan], processes: Processes
) -> list[NDArray[np.float64]]:
    """Correlation of predictions with single validation trials, (U,) per scan, NaN where undefined."""
    model.eval()
    run = fuse(model.core)
    own = processes.own(len(scans))
    scores = []
    for number, scan in enumerate(scans):
        found = torch.zeros(scan.units, dtype=torch.float64)
        if number in own:
            tier = scan.validation

            def features(chosen: Tensor, images: Tensor = tier.images) -> Tensor:
                out: Tensor = run(images[chosen].to(processes.device, torch.float32))
                return out

            trials = FeatureTrials(features, tier.shown, tier.responses)
            found.copy_(torch.from_numpy(trials.correlation(model.readout(number), EVALUATION_BATCH)))
        scores.append(processes.sum(found).numpy())
    return scores
