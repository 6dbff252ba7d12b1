"""``python -m training.simulation CONFIG.toml --out DIR``."""

from __future__ import annotations

import argparse
import functools
import sys

from training.simulation.config import SimulationConfig
from training.simulation.study import simulate_study


def main(arguments: list[str] | None = None) -> int:
    """Simulate the scans of a config; returns 0, or 1 after a message about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.simulation",
        description="Simulate the recordings of Lurz et al. 2021 at the scale that a config sets. "
        "Run again after an interruption, it goes on where it stopped.",
    )
    parser.add_argument("config", help="TOML file; training/configs/simulated-*.toml are examples")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for scans, truth and manifest")
    options = parser.parse_args(arguments)
    try:
        manifest = simulate_study(
            SimulationConfig.read(options.config), options.out, report=functools.partial(print, flush=True)
        )
    except (TypeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"manifest: {manifest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
