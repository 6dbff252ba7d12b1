"""What ``mousev1 ingest`` does: reads a session, writes scan, report and contact sheet."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Literal

from mousev1.cli.common import check_free
from mousev1.core.network import InputContract
from mousev1.ingest import LogFormat, NeuronSelection, Report, ResponseWindow, Rig, TierSplit, read_session
from mousev1.ingest.report import contact_sheet
from mousev1.ingest.rig import merged, read_rig
from mousev1.storage.atomic import replacing


def ingest(options: Namespace) -> str:
    """``mousev1 ingest``: raw recordings to a scan; options as ``read_session`` has them."""
    source, out = options.source, options.out
    report_file, sheet_file = (out.with_suffix(ending) for ending in (".report.txt", ".pictures.png"))
    for path in (out, report_file, sheet_file):
        check_free(path, options.overwrite)
    report = Report()
    given = {field.name: getattr(options, field.name) for field in fields(Rig)}
    scan = read_session(
        source[0] if len(source) == 1 else source,
        log=options.log,
        pictures=options.pictures,
        behavior=options.behavior,
        rig=merged(read_rig(options.rig, report), **given),
        frame_times=options.frame_times,
        window=_window(options.window, options.lag, options.min_coverage),
        neurons=NeuronSelection(
            signal=options.signal,
            decay=options.decay,
            min_probability=options.min_probability,
            series=options.series,
        ),
        log_format=LogFormat(
            columns=_columns(options.column),
            **{
                name: getattr(options, name)
                for name in ("time_unit", "index_base", "ignore_tiers", "behavior_time", "behavior_time_unit")
            },
        ),
        tiers=TierSplit(validation=options.validation, test=options.test, seed=options.seed),
        contract=_contract(options.frame_size, options.pixels_per_degree),
        name=options.name,
        animal_id=options.animal_id,
        report=report,
    )
    scan.write(out, overwrite=options.overwrite)
    with replacing(report_file) as staging:
        staging.write_text(report.text(), encoding="utf-8")
    with replacing(sheet_file) as staging:
        contact_sheet(scan, staging)
    print(report.text())
    print(scan.summary())
    return (
        f"wrote {out}, {report_file.name} and {sheet_file.name} (what the animal saw, as the core sees it); "
        f"next: mousev1 fit {out} --out MODEL"
    )


def _window(values: Sequence[str], lag: float, min_coverage: float) -> ResponseWindow | Literal["auto"]:
    if list(values) == ["auto"]:
        if lag:
            raise ValueError("--lag: chosen with the window; leave it out, or give --window START STOP")
        return "auto"
    try:
        start, stop = (float(value) for value in values)
    except ValueError as error:
        raise ValueError(
            f"--window: expected start and stop in seconds, or auto, got {' '.join(values)}"
        ) from error
    return ResponseWindow(start=start, stop=stop, lag=lag, min_coverage=min_coverage)


def _columns(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, (_, equals, _) in zip(given, pairs, strict=True) if not equals]:
        raise ValueError(f"--column: expected WHAT=NAME, such as onset=t0, got {wrong[0]}")
    return {what: name for what, _, name in pairs}


def _contract(size: Sequence[int] | None, pixels_per_degree: float | None) -> InputContract:
    contract = InputContract()
    if size is not None:
        contract = replace(contract, height=size[0], width=size[1])
    return contract if pixels_per_degree is None else replace(contract, pixels_per_degree=pixels_per_degree)
