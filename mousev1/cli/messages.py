"""What Python's errors say, in the words of the command line: a remedy must be something that can be typed."""

from __future__ import annotations

import re
from collections.abc import Collection

SENTENCES = {
    "pass None to fit without cortical positions": "pass --no-cortex",
    "pass None if positions are unknown": "pass --no-cortex",
    "drop='neurons' where that can be passed": "--drop neurons",
}
"""Remedies that are no keyword argument."""


def for_the_command_line(message: str, options: Collection[str]) -> str:
    """A message with ``keyword=value`` of Python as ``--keyword value``, where the command has that option.

    Args:
        message: of an exception.
        options: names of the command's options, such as ``"--drop"``.

    Example:
        >>> for_the_command_line("drop: pass drop='trials', or tiers={'final_test': None}", ["--drop", "--skip-tier"])
        '--drop: pass --drop trials, or --skip-tier final_test'
    """
    for python, typed in SENTENCES.items():
        if set(re.findall(r"--[\w-]+", typed)) <= set(options):
            message = message.replace(python, typed)
    if "--skip-tier" in options:
        message = re.sub(r"tiers=\{([^}]*)\}", _skipped, message)
    if "--memory" in options:
        message = re.sub(r"\bmemory=([\d_]+)", _gigabytes, message)

    def option(match: re.Match[str]) -> str:
        name = "--" + match["name"].replace("_", "-")
        if name not in options:
            return match[0]
        value = match["value"].strip("'\"")
        return name if value in ("", "True") else f"{name} {value}"

    message = re.sub(r"(?<![\w-])(?P<name>[a-z_]+)=(?P<value>'[^']*'|\"[^\"]*\"|[\w.]*\w|)", option, message)
    first = re.match(r"(\w+): ", message)
    if first is not None:
        name = "--" + first[1].replace("_", "-")
        message = name + message[len(first[1]) :] if name in options else message
    return message


def _skipped(match: re.Match[str]) -> str:
    return " ".join(f"--skip-tier {name}" for name in re.findall(r"'([^']*)': None", match[1]))


def _gigabytes(match: re.Match[str]) -> str:
    return f"--memory {int(match[1].replace('_', '')) / 1e9:g}"
