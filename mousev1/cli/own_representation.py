"""A user's own network on the command line: ``FILE.py:FUNCTION`` to what readouts can be fitted on."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from mousev1.core.network import Core, InputContract
from mousev1.core.representation import Representation

WANTED = (
    "expected a mousev1.Representation, a mousev1.Core, or a torch.nn.Module and a mousev1.InputContract: "
    "return module, mousev1.InputContract(mean=..., std=...)"
)


def own_representation(text: str) -> Core | Representation:
    """Run the user's file and call its function, which takes no arguments.

    Args:
        text: ``FILE.py:FUNCTION``. The function returns a ``Representation``, a ``Core``, or an ``nn.Module`` and
            an ``InputContract``, which are wrapped under the function's name.

    Raises:
        FileNotFoundError: no such file.
        TypeError: the function returns something else.
        ValueError: another form of text, no such function, or an error in the user's code, with its line.
    """
    file, _, function = text.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not function.isidentifier():
        raise ValueError(
            f"--representation: expected FILE.py:FUNCTION, such as networks.py:build, got {text!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"--representation: expected a Python file, {path} is not there")
    found = _of_user(path, function, lambda: _function(path, function)())
    if isinstance(found, Core | Representation):
        return found
    if isinstance(found, tuple) and len(found) == 2:
        module, contract = found
        if isinstance(module, nn.Module) and isinstance(contract, InputContract):
            return Representation(module, name=function, input=contract)
    raise TypeError(f"--representation: {WANTED}; got {type(found).__name__} from {path}:{function}")


def _function(path: Path, name: str) -> Callable[[], Any]:
    """The function of a file, which is run as a module that can import its neighbours."""
    spec = importlib.util.spec_from_file_location(f"representation_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look classes up there
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"no function {name!r} in it")
    function: Callable[[], Any] = found
    return function


def _of_user(path: Path, function: str, call: Callable[[], Any]) -> Any:
    """The result of the user's code; whatever fails in it becomes one line that says where."""
    try:
        return call()
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == path.resolve()
        ]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ValueError(
            f"--representation: {function} could not be had: {type(error).__name__}: {error} ({where})"
        ) from error
