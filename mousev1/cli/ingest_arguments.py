"""Arguments of ``mousev1 ingest``; nothing here imports torch, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse

from mousev1.cli.options import add_options, path

Commands = argparse._SubParsersAction  # argparse has no public name for it

RIG_VALUES = {
    "screen-width-cm": "of the lit screen",
    "screen-height-cm": "of the lit screen",
    "screen-distance-cm": "from the eye to the centre of the screen",
    "screen-width-px": "pixels of the screen, for pictures placed by pixels",
    "screen-height-px": "pixels of the screen, for pictures placed by pixels",
    "picture-width-deg": "of the picture in the visual field (default: the full screen)",
    "picture-height-deg": "of the picture in the visual field (default: the full screen)",
    "picture-pixels-per-degree": "of the picture files, in place of all sizes",
    "picture-width-cm": "of the picture on the screen",
    "picture-height-cm": "of the picture on the screen",
    "picture-width-px": "of the picture on the screen",
    "picture-height-px": "of the picture on the screen",
    "background-gray": "gray value around pictures, 0 to 255",
    "gamma": "of a monitor that is not corrected",
    "frame-rate": "frames of each plane per second",
}
RIG_LISTS = {
    "picture-center-deg": "right and up from the screen's centre",
    "um-per-pixel": "micrometres per pixel of the microscope: one number, or x and y",
    "plane-depths-um": "depth of each plane",
    "plane-delays-s": "seconds from the start of a volume to each plane (default: divided equally)",
}


def add_ingest(commands: Commands[argparse.ArgumentParser]) -> None:
    """``mousev1 ingest``."""
    parser = commands.add_parser(
        "ingest",
        help="turn raw recordings into a scan",
        description="Read suite2p, CaImAn, NWB, MATLAB or arrays with a log and pictures, integrate responses, "
        "bring pictures to what the core sees, and write a scan for `mousev1 fit`, with a report and a contact sheet.",
    )
    parser.add_argument(
        "source",
        nargs="+",
        type=path,
        help="a suite2p folder, .nwb, .mat, .npz, a folder of arrays, or CaImAn's .hdf5 (one per plane)",
    )
    parser.add_argument(
        "--log", type=path, help="table of presentations: onset, image (.csv, .tsv, .parquet)"
    )
    parser.add_argument("--pictures", type=path, help="folder of pictures, or an .npy array (N, H, W)")
    parser.add_argument("--behavior", type=path, help="table of running, pupil, ... with times")
    parser.add_argument(
        "--rig", type=path, help="JSON with sizes of screen and microscope; or give them below"
    )
    parser.add_argument("--frame-times", type=path, help="start of every frame in seconds (.npy or a table)")
    add_options(parser, "--out", help="scan to write: .h5, .zip, or a folder")
    parser.add_argument("--name", help="of the scan")
    parser.add_argument("--animal-id", help="kept in the scan")
    _add_reading(parser)
    _add_responses(parser)
    rig = parser.add_argument_group("values of the rig, instead of or over those in --rig")
    for name, meaning in RIG_VALUES.items():
        rig.add_argument(f"--{name}", type=float, metavar="X", help=meaning)
    for name, meaning in RIG_LISTS.items():
        rig.add_argument(f"--{name}", type=float, nargs="+", metavar="X", help=meaning)
    rig.add_argument(
        "--frame-size", type=int, nargs=2, metavar=("H", "W"), help="of the core (default: 36 64)"
    )
    rig.add_argument("--pixels-per-degree", type=float, metavar="X", help="of the core (default: 0.53)")
    add_options(parser, "--overwrite")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the files mean, where their names do not say it")
    group.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="WHAT=NAME",
        help="column of the log for onset, image, duration or tier (may be repeated)",
    )
    group.add_argument("--time-unit", choices=["s", "ms", "frames"], help="of onsets in the log")
    group.add_argument(
        "--index-base", type=int, metavar="N", help="number of the first picture, where numbers count them"
    )
    group.add_argument(
        "--ignore-tiers", action="store_true", help="divide images anew where the log has tiers"
    )
    group.add_argument("--behavior-time", metavar="NAME", help="column of times in --behavior")
    group.add_argument("--behavior-time-unit", choices=["s", "ms", "frames"], help="of these times")
    group.add_argument(
        "--signal",
        choices=["spikes", "fluorescence"],
        default="spikes",
        help="deconvolved activity, or dF/F (default: %(default)s)",
    )
    group.add_argument("--decay", type=float, metavar="S", help="of fluorescence, in seconds; 0 for none")
    group.add_argument("--min-probability", type=float, metavar="P", help="of a ROI to be a neuron (suite2p)")
    group.add_argument("--series", metavar="NAME", help="response series of an NWB file, where several fit")


def _add_responses(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("responses and tiers")
    group.add_argument(
        "--window",
        nargs="+",
        default=["0.05", "0.55"],
        metavar="X",
        help="start and stop in seconds after onset, or auto (default: 0.05 0.55)",
    )
    group.add_argument(
        "--lag", type=float, default=0.0, help="seconds added to onsets, recording's clock minus the log's"
    )
    group.add_argument(
        "--min-coverage",
        type=float,
        default=0.75,
        help="least part of a window with frames (default: %(default)s)",
    )
    group.add_argument(
        "--validation", type=float, default=0.1, help="part of the images kept for it (default: %(default)s)"
    )
    group.add_argument(
        "--test",
        type=float,
        default=0.1,
        help="part of the images kept for it where none is repeated (default: %(default)s)",
    )
    group.add_argument(
        "--seed", type=int, default=0, help="of the division into tiers (default: %(default)s)"
    )
