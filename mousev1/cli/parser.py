"""The command line: arguments in, one function of ``mousev1.cli`` called, an exit code out.

Torch is imported only once a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from os.path import expanduser
from pathlib import Path
from typing import TextIO

from mousev1.cli.ingest_arguments import add_ingest
from mousev1.cli.messages import for_the_command_line
from mousev1.cli.options import READING, add_options, path
from mousev1.errors import printable
from mousev1.numerics.process_settings import tune_process

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Commands = argparse._SubParsersAction  # argparse has no public name for it


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mousev1`` with all its commands."""
    parser = argparse.ArgumentParser(
        prog="mousev1",
        description="Models of mouse V1: fit a readout to the neurons of a two-photon scan on top of a frozen, "
        "pretrained core, and predict their responses to any image.",
        epilog="Example: mousev1 fit static20457-5-9-preproc0.zip --out my-scan, "
        "then: mousev1 predict my-scan pictures/ --out rates.csv",
    )
    parser.add_argument("--version", action="version", version=f"mousev1 {version('mousev1')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_ingest(commands)
    _add_fit(commands)
    _add_predict(commands)
    _add_score(commands)
    _add_compare(commands)
    _add_insilico(commands)
    _add_export(commands)
    _add_import(commands)
    _add_info(commands)
    _add_demo(commands)
    return parser


def _add_fit(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fit",
        help="fit a readout to a scan and save the model",
        description="Fit a readout to the training trials of a scan, score it on the test trials, and write a "
        "model folder.",
    )
    add_options(parser, "scan", *READING, "--core", "--out")
    parser.add_argument(
        "--method",
        choices=["convex", "sgd"],
        default="convex",
        help="convex: the fast solver; sgd: the published recipe (default: %(default)s)",
    )
    parser.add_argument("--units", type=int, metavar="N", help="fit only the first N neurons")
    add_options(parser, "--no-cortex", "--pixels-per-degree")
    parser.add_argument(
        "--constant-units",
        choices=["error", "mean"],
        default="error",
        help="neurons that never respond: stop, or predict their mean (default: %(default)s)",
    )
    parser.add_argument(
        "--outlier-trials",
        choices=["drop", "keep"],
        default="drop",
        help="trials in which all neurons respond as in no other: leave them out, or keep them (default: %(default)s)",
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GB",
        help="most gigabytes that the convex fit may hold: features that do not fit go to disk (default: no limit)",
    )
    parser.add_argument("--include-core", action="store_true", help="put the core's weights into the model")
    add_options(parser, "--seed", "--device", "--overwrite", "--quiet")


def _add_predict(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "predict",
        help="predict responses to images",
        description="Predict the response of every neuron of a fitted model to images.",
    )
    add_options(parser, "model")
    parser.add_argument(
        "images",
        nargs="+",
        type=path,
        help="pictures, folders of pictures, or .npy arrays (N, H, W) of gray values 0 to 255",
    )
    add_options(parser, "--out", help="file to write: .h5 or .csv")
    add_options(parser, "--pixels-per-degree")
    parser.add_argument(
        "--std",
        action="store_true",
        help="also write how well each mean response is known, as a standard deviation: the dataset std of an .h5, "
        "the columns unit_<id>_std of a .csv, after those of all neurons",
    )
    parser.add_argument(
        "--to-frame",
        action="store_true",
        help="cut pictures larger than the model's frame and surround smaller ones with gray",
    )
    parser.add_argument(
        "--no-extrapolation",
        action="store_true",
        help="do not report which images are unlike the training images, which takes as long as predicting",
    )
    add_options(parser, "--device", "--overwrite", "--quiet")


def _add_score(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "score",
        help="score a model on a scan",
        description="Compare predicted with recorded responses, one row per neuron.",
    )
    add_options(parser, "model", "scan", *READING)
    parser.add_argument(
        "--tier",
        choices=["train", "validation", "test"],
        default="test",
        help="which trials (default: %(default)s)",
    )
    parser.add_argument(
        "--manifest",
        type=path,
        help="of `mousev1 export`: compare its predictions with the recorded responses to its images, per class",
    )
    add_options(parser, "--out", required=False, help="also write the table to this .csv")
    add_options(parser, "--overwrite", "--quiet")


def _add_compare(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare cores on a scan, over the number of training images",
        description="Fit readouts on each core to growing numbers of a scan's training images, score them on "
        "its test images, and write table, figure and every score into a folder; with baselines: a random core "
        "of the first core's shape, a linear-nonlinear model of every neuron, and the mean response.",
    )
    add_options(parser, "scan", *READING)
    parser.add_argument(
        "--core",
        action="append",
        type=expanduser,
        dest="cores",
        metavar="CORE",
        help="as for fit; repeat it to compare several (default: 11-S)",
    )
    parser.add_argument(
        "--representation",
        action="append",
        default=[],
        type=expanduser,
        dest="representations",
        metavar="FILE.py:FUNCTION",
        help="a network of your own: the file is run, and the function, called without arguments, returns a "
        "mousev1.Representation, or a torch.nn.Module and a mousev1.InputContract; may be repeated",
    )
    parser.add_argument(
        "--images",
        type=int,
        nargs="+",
        metavar="N",
        help="numbers of training images (default: the paper's, as far as the scan has them)",
    )
    parser.add_argument("--units", type=int, metavar="N", help="draw N neurons in each partition")
    parser.add_argument(
        "--partitions", type=int, default=3, metavar="N", help="random draws (default: %(default)s)"
    )
    parser.add_argument("--no-baselines", action="store_true", help="only the cores")
    parser.add_argument(
        "--simulated", action="store_true", help="the responses are simulated: say so in table and figure"
    )
    add_options(parser, "--no-cortex", "--pixels-per-degree", "--out")
    add_options(parser, "--seed", "--device", "--overwrite", "--quiet")


def _add_insilico(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "insilico",
        help="find out what drives the neurons of a model: optimal images, receptive fields, tuning",
        description="Most exciting and inhibiting images, the best of a gallery, receptive fields and tuning of "
        "neurons, as tables (CSV), images and figures in a folder.",
    )
    _add_neurons(parser)
    parser.add_argument("--title", help="begins the title of every figure")
    parser.add_argument("--no-figures", action="store_true", help="tables only; needs no matplotlib")
    parser.add_argument("--parquet", action="store_true", help="tables as Parquet too; needs pyarrow")


def _add_export(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "export",
        help="make stimuli for an experiment with a model",
        description="Write 8-bit images that a model says drive its neurons, with controls, all of one contrast, and "
        "a manifest of the responses it predicts. Record them, then: mousev1 score MODEL SCAN --manifest ...",
    )
    _add_neurons(parser)
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


def _add_neurons(parser: argparse.ArgumentParser) -> None:
    """What the in-silico commands share: model, neurons, natural images, optimisation."""
    add_options(parser, "model")
    parser.add_argument(
        "--units", type=int, nargs="+", metavar="ID", help="ids of neurons (default: the best predicted)"
    )
    add_options(parser, "--best")
    parser.add_argument("--scan", type=path, help="the scan of the model: scores, cortex, natural images")
    add_options(parser, *READING)
    parser.add_argument(
        "--images",
        type=path,
        nargs="+",
        default=[],
        help="natural images of the core's frame: pictures, folders or .npy (default: those of the scan)",
    )
    add_options(parser, "--contrast", "--steps", "--seeds", "--out")
    add_options(parser, "--seed", "--device", "--overwrite", "--quiet")


def _add_import(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "import",
        help="turn a published checkpoint into a mousev1 folder",
        description="Turn a published checkpoint (a core, or a core with one readout) into a folder that mousev1 "
        "loads. No code in the file is run.",
    )
    parser.add_argument("checkpoint", type=path, help="a torch state dict or safetensors file")
    parser.add_argument("out", type=path, help="folder to write")
    parser.add_argument("--sha256", help="refuse the file unless it has this checksum")
    parser.add_argument("--name", help="what to call the core")
    parser.add_argument(
        "--mean",
        type=float,
        help="subtracted from gray values in training; needed for "
        "checkpoints that mousev1 does not know (0 for raw images)",
    )
    parser.add_argument("--std", type=float, help="divided gray values in training (1 for raw images)")
    parser.add_argument("--session", help="which readout, if the checkpoint holds several")
    add_options(parser, "--overwrite")


def _add_info(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "info",
        help="describe a core, a model or a scan",
        description="Say what a core, a fitted model or a scan is.",
    )
    parser.add_argument(
        "what", type=expanduser, help="a released core's name, a core or model folder, or a scan"
    )
    add_options(parser, *READING)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="for a core: recompute its probe features and print the largest deviation",
    )


def _add_demo(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="run the whole thing on a small bundled example, offline",
        description="Fit a readout to a small bundled scan (simulated recordings) on the bundled core, score "
        "it, and write scan, model, scores and one figure into a folder. Needs no network.",
    )
    add_options(
        parser,
        "--out",
        required=False,
        default=Path("demo-output"),
        help="folder to write (default: %(default)s)",
    )
    add_options(parser, "--quiet")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``mousev1``; returns 0, 1 after an error, 2 for wrong usage, 130 when interrupted."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    tune_process()  # before torch is imported (below)
    from mousev1.cli import commands

    functions: dict[str, Callable[[argparse.Namespace], str]] = {
        "ingest": commands.ingest,
        "fit": commands.fit,
        "predict": commands.predict,
        "score": commands.score,
        "compare": commands.compare,
        "insilico": commands.insilico,
        "export": commands.export,
        "import": commands.import_,
        "info": commands.info,
        "demo": commands.demo,
    }
    try:
        with _messages_on(sys.stderr):
            print(functions[options.command](options))
    except KeyboardInterrupt:
        print("mousev1: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, TypeError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        message = for_the_command_line(str(error), _options_of(parser, options.command))
        message = printable(message, keep="\n")
        print(f"mousev1: error: {message}", file=sys.stderr)
        return FAILED
    return OK


def _options_of(parser: argparse.ArgumentParser, command: str) -> set[str]:
    """Names of the options of a command, such as ``--out``."""
    (commands,) = (action for action in parser._actions if isinstance(action, Commands))
    return {name for action in commands.choices[command]._actions for name in action.option_strings}


class _Printable(logging.Formatter):
    """Messages with the names in them escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n")


@contextmanager
def _messages_on(stream: TextIO) -> Iterator[None]:
    """Print what mousev1 logs, and nothing that other libraries log."""
    logger, handler = logging.getLogger("mousev1"), logging.StreamHandler(stream)
    level = logger.level
    logger.setLevel(logging.INFO)
    handler.setFormatter(_Printable())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
