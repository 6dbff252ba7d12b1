"""Arguments of the in-silico commands; nothing here imports torch, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path

Commands = argparse._SubParsersAction  # argparse has no public name for it


def add_insilico(commands: Commands[argparse.ArgumentParser]) -> None:
    """``mousev1 insilico``."""
    parser = commands.add_parser(
        "insilico",
        help="find out what drives the neurons of a model: optimal images, receptive fields, tuning",
        description="Most exciting and inhibiting images, the best of a gallery, receptive fields and tuning of "
        "neurons, as tables (CSV), images and figures in a folder.",
    )
    _add_ascent(parser)
    parser.add_argument("--title", help="begins the title of every figure")
    parser.add_argument("--no-figures", action="store_true", help="tables only; needs no matplotlib")
    parser.add_argument("--parquet", action="store_true", help="tables as Parquet too; needs pyarrow")
    _add_last(parser)


def add_export(commands: Commands[argparse.ArgumentParser]) -> None:
    """``mousev1 export``."""
    parser = commands.add_parser(
        "export",
        help="make stimuli for an experiment with a model",
        description="Write 8-bit images that a model says drive its neurons, with controls, all of one contrast, and "
        "a manifest of the responses it predicts. Record them, then: mousev1 score MODEL SCAN --manifest ...",
    )
    _add_ascent(parser)
    parser.add_argument(
        "--random-images",
        type=int,
        default=0,
        metavar="N",
        help="add N natural images at random (default: %(default)s)",
    )
    parser.add_argument("--mask", action="store_true", help="confine images to what drives their neuron")
    parser.add_argument(
        "--gamma",
        type=float,
        default=1.0,
        help="of the monitor, corrected for in the files; 1 for a linear one (default: %(default)s)",
    )
    parser.add_argument(
        "--magnify",
        type=int,
        default=1,
        metavar="N",
        help="pixels of a file per pixel of the core's frame (default: %(default)s)",
    )
    _add_last(parser)


def _add_ascent(parser: argparse.ArgumentParser) -> None:
    """What the in-silico commands share: model, neurons, natural images, optimisation."""
    parser.add_argument("model", help="a model folder, or owner/repo on the Hub")
    parser.add_argument(
        "--units", type=int, nargs="+", metavar="ID", help="ids of neurons (default: the best predicted)"
    )
    parser.add_argument(
        "--best",
        type=int,
        default=24,
        metavar="N",
        help="how many of the best predicted neurons, by the scan's scores if there is one, else by how strongly "
        "natural images modulate them (default: %(default)s)",
    )
    parser.add_argument("--scan", type=Path, help="the scan of the model: scores, cortex, natural images")
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        help="natural images of the core's frame: pictures, folders or .npy (default: those of the scan)",
    )
    parser.add_argument(
        "--contrast", type=float, default=0.1, help="RMS contrast of all images (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=100, help="of the ascent (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="random starts (default: %(default)s)")


def _add_last(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
