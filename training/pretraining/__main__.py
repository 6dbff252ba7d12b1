"""Train a core and the readouts of many scans end to end: ``python -m training.pretraining CONFIG.toml``.

The recipe of Lurz et al. 2021, section 3, with which the published 11-S core was made. Stopped at any
instant and started again with the same command, a run goes on after its last finished epoch. Several
processes: ``torchrun --nproc_per_node 2 -m training.pretraining CONFIG.toml``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from mousev1.numerics.process_settings import GIBI, tune_process
from training.pretraining.config import PretrainConfig, find_scans
from training.pretraining.data import check_names, load_scan
from training.pretraining.distributed import start_processes, stop_processes
from training.pretraining.loop import train
from training.pretraining.run_folder import RunFolder


def run(config_path: Path, out: Path | None) -> None:
    """Everything a run is: read config and scans, train or go on training, write the results."""
    config = PretrainConfig.read(config_path)
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)
    tune_process(largest=GIBI, kept=2 * GIBI - 1)
    processes = start_processes(config.compute.device)
    try:
        files = find_scans(config.scans, config_path.parent)
        scans = [load_scan(file, config.core) for file in files]
        check_names(scans)
        folder = RunFolder(out or Path("runs") / config.name)
        if processes.first:
            folder.begin(config, scans, files)
            units, trials = sum(scan.units for scan in scans), sum(len(scan.train) for scan in scans)
            print(
                f"{folder.path}: {len(scans)} scans, {units:,} neurons, {trials:,} training trials",
                flush=True,
            )
        processes.wait()
        if folder.finished:
            if processes.first:
                print("finished already; nothing to do", flush=True)
        else:
            train(config, scans, folder, processes)
    finally:
        stop_processes(processes)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0, or 1 after a message about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pretraining",
        description="Pretrain a core on many scans. Run again after an interruption, it goes on where it "
        "stopped.",
    )
    parser.add_argument("config", type=Path, help="TOML file; see training/configs/")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run; default runs/<name>")
    options = parser.parse_args(arguments)
    try:
        run(options.config, options.out)
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
