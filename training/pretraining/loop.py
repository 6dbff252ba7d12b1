"""The training loop of pretraining: one step takes a batch of every scan."""

from __future__ import annotations

import copy
import dataclasses
import math
import time

import numpy as np
import torch
from torch import Tensor

from mousev1.core.inference import fuse
from mousev1.metrics.unit_scores import correlation
from training.pretraining.config import PretrainConfig
from training.pretraining.data import (
    PretrainScan,
    generator_for,
    steps_per_epoch,
    trial_batches,
)
from training.pretraining.distributed import (
    BatchNormOrder,
    GradientSum,
    Processes,
)
from training.pretraining.early_stopping import EarlyStopping, Verdict
from training.pretraining.export import export
from training.pretraining.fast_convolutions import speed_up_training
from training.pretraining.model import ORDER_STREAM, POSITION_STREAM, PretrainModel, build_model
from training.pretraining.run_folder import RunFolder

LOG_OFFSET = 1e-12


EVALUATION_BATCH = 64


def scan_loss(
    model: PretrainModel,
    scans: list[PretrainScan],
    scan: int,
    trials: Tensor,
    *,
    config: PretrainConfig,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """What one batch of one scan adds to the objective of a step, and its summed Poisson loss.

    Args:
        model: in training mode.
        scans: all scans.
        scan: which of them.
        trials: (N,) which of its training trials.
        config: weights of the parts.
        generator: source of the sampled positions.
    """
    device = generator.device
    images, responses = scans[scan].train.batch(trials, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.compute.mixed_precision):
        features = model.core(images)
    readout = model.readout(scan)
    rates = readout(features.float(), generator=generator)
    poisson = (rates - responses * torch.log(rates + LOG_OFFSET)).sum()
    # The square root makes up for the size of the scan: the data speak louder than the penalties where
    # there are more of them, and batches of any size speak equally loud.
    loss = math.sqrt(len(scans[scan].train) / len(trials)) * poisson
    loss = loss + config.optimisation.feature_l1 * readout.feature_l1()
    loss = loss + config.optimisation.smoothness * model.core.smoothness()
    return loss, poisson.item()


@torch.no_grad()
def validation_correlations(
    model: PretrainModel, scans: list[PretrainScan], processes: Processes
) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Correlation of predictions with single validation trials, (U,) per scan, NaN where undefined."""
    model.eval()
    run = fuse(model.core)
    own = processes.own(len(scans))
    scores = []
    for number, scan in enumerate(scans):
        found = torch.zeros(scan.units, dtype=torch.float64)
        if number in own:
            tier = scan.validation
            images, trial_row = torch.unique(tier.shown, return_inverse=True)
            rates = [
                model.readout(number)(run(tier.images[chunk].to(processes.device, torch.float32))).cpu()
                for chunk in images.split(EVALUATION_BATCH)
            ]
            found.copy_(torch.from_numpy(correlation(torch.cat(rates)[trial_row], tier.responses)))
        scores.append(processes.sum(found).numpy())
    return scores


def train(
    config: PretrainConfig,
    scans: list[PretrainScan],
    folder: RunFolder,
    processes: Processes,
    *,
    figures: bool = True,
) -> None:
    """Train until the patience has run out in every round, or the epochs have; see the module's text.

    Args:
        config: of the run.
        scans: to train on.
        folder: of the run.
        processes: that share the work.
        figures: draw figures at the end.
    """
    recipe, device = config.optimisation, processes.device
    model = build_model(config, scans).to(device)
    speed_up_training(model.core)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    stopping, history = EarlyStopping(), list[dict[str, float]]()
    best_model = copy.deepcopy(model.state_dict())

    state = folder.load()
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        stopping, history, best_model = (
            EarlyStopping(**state["stopping"]),
            state["history"],
            state["best_model"],
        )
        if processes.first:
            print(f"going on after epoch {stopping.epoch}", flush=True)

    if config.compute.compile:
        model.core.compile()
    gradients = GradientSum(model, processes)
    norms = BatchNormOrder(model.core, len(scans), processes)
    log = folder.tensorboard(history) if processes.first and not stopping.finished else None
    steps = steps_per_epoch(scans, recipe.batch_size)
    own = processes.own(len(scans))

    while not stopping.finished:
        epoch, started = stopping.epoch + 1, time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = stopping.learning_rate(recipe)
        batches = {
            scan: trial_batches(
                len(scans[scan].train), recipe.batch_size, steps, (config.seed, ORDER_STREAM, epoch, scan)
            )
            for scan in own
        }
        model.train()
        # Poisson loss, its number of terms, images
        sums = torch.zeros(3, dtype=torch.float64)
        for step in range(steps):
            optimizer.zero_grad()
            for scan in own:
                trials = next(batches[scan])
                key = (config.seed, POSITION_STREAM, epoch, scan, step)
                loss, poisson = scan_loss(
                    model, scans, scan, trials, config=config, generator=generator_for(key, device)
                )
                loss.backward()
                norms.record(scan)
                sums += torch.tensor([poisson, len(trials) * scans[scan].units, len(trials)])
            gradients.reduce()
            norms.apply()
            optimizer.step()
            for scan in range(len(scans)):
                model.readout(scan).project_()
        poisson_sum, terms, images = processes.sum(sums).tolist()
        trained = time.perf_counter() - started

        scores = validation_correlations(model, scans, processes)
        everyone = np.concatenate(scores)
        score = float(np.nanmean(everyone)) if np.isfinite(everyone).any() else math.nan
        if not math.isfinite(score):
            raise FloatingPointError(
                f"epoch {epoch}: the validation correlation is undefined for every neuron: training has "
                "diverged; try a smaller optimisation.learning_rate"
            )
        rate = stopping.learning_rate(recipe)
        verdict = stopping.judge(score, recipe)
        history.append(
            {
                "epoch": epoch,
                "learning_rate": rate,
                "train_loss": poisson_sum / terms,
                "smoothness": model.core.smoothness().item(),
                "validation_correlation": score,
                "undefined_neurons": float(np.isnan(everyone).sum()),
                "seconds": time.perf_counter() - started,
                "images_per_second": images / trained,
                **{
                    f"validation_correlation/{scan.name}": float(np.nanmean(own_scores))
                    if np.isfinite(own_scores).any()
                    else math.nan
                    for scan, own_scores in zip(scans, scores, strict=True)
                },
            }
        )
        if stopping.best_epoch == epoch:
            best_model = copy.deepcopy(model.state_dict())
            if processes.first:
                folder.save_best(best_model)
        if verdict in (Verdict.ROUND_OVER, Verdict.FINISHED):
            model.load_state_dict(best_model)
            norms.reload()
        if processes.first:
            folder.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "stopping": dataclasses.asdict(stopping),
                    "best_model": best_model,
                    "history": history,
                }
            )
            assert log is not None
            log(history[-1])
            print(
                f"epoch {epoch:3d}  loss {history[-1]['train_loss']:.4f}  validation {score:.4f}  "
                f"{images / trained:.0f} images/s  {verdict.value}",
                flush=True,
            )
    if processes.first:
        model.load_state_dict(best_model)
        export(model.eval(), scans, folder, config, history, stopping, figures=figures)
