"""What a network is, as one number: the SHA-256 of its description and its tensors."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self


def content_digest(description: Any, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over plain values and tensors, the same whatever device or file the tensors are on."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for key, tensor in sorted(tensors.items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{key}{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class _Digest(NamedTuple):
    value: str
    description: Any
    tensors: list[Tensor]
    versions: list[tuple[int, int]]


class Identified(nn.Module):
    """A module with a content hash, which is computed once as long as the module is frozen.

    It is computed again after anything that torch counts as a change of a tensor (every operation in place,
    ``load_state_dict``), after a tensor was replaced or moved, and in copies. Writing to ``tensor.data`` or into the
    memory of ``tensor.numpy()`` is not counted by torch and goes unnoticed.
    """

    frozen: bool
    _digest: _Digest | None = None

    @abstractmethod
    def description(self) -> Any:
        """The plain values that, with the tensors, make the module what it is."""

    def content_hash(self) -> str:
        """SHA-256 over description and tensors, independent of device and file format: the module's identity."""
        tensors = self.state_dict(keep_vars=True)
        description, kept = self.description(), list(tensors.values())
        if not self.frozen or any(
            tensor.is_inference() for tensor in kept
        ):  # torch counts no changes of these
            return content_digest(description, tensors)
        versions = [(tensor._version, tensor.data_ptr()) for tensor in kept]
        known = self._digest
        if (
            known is None
            or (known.description, known.versions) != (description, versions)
            or any(a is not b for a, b in zip(known.tensors, kept, strict=True))
        ):
            known = _Digest(content_digest(description, tensors), description, kept, versions)
            self._digest = known
        return known.value

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As in torch; an error on the way, as of a device that fails, leaves every tensor where it was."""
        self._digest = None  # tensors that were converted to and fro may lie where they were
        before = [(tensor, tensor.data) for tensor in self.parameters()]
        buffers = [(module, dict(module._buffers)) for module in self.modules()]
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        except BaseException:
            for tensor, data in before:
                tensor.data = data
            for module, values in buffers:
                module._buffers.update(values)
            raise
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles begin without a digest."""
        return {**self.__dict__, "_digest": None}
