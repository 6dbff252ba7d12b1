"""Several processes, one result: whole scans are dealt out to processes, gradients are summed.

The recipe sends each scan's batch through the core by itself, so batch norm never mixes scans. Dealing
out whole scans therefore keeps every batch's statistics what they are in a single process; splitting
batches would not. Only two things need care: gradients have to be summed over processes, and the running
statistics of batch norm have to be moved by the scans' batches in the same order everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist


@dataclass(frozen=True)
class Processes:
    """The processes of a run, one unless ``torchrun`` started several; ``rank`` counts from 0."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def own(self, scans: int) -> range:
        """Which of so many scans this process trains and evaluates."""
        return range(self.rank, scans, self.count)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over processes; exact where at most one process has a value other than 0."""
        if self.count > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def sum_gradients(self, module: nn.Module) -> None:
        """Replace each gradient by its sum over processes; a process that has none counts as 0."""
        if self.count == 1:
            return
        parameters = list(module.parameters())
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        # All in one message: an exchange costs more than its bytes.
        together = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(together)
        parts = together.split([gradient.numel() for gradient in gradients])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            dist.barrier()


def start_processes(device: str) -> Processes:
    """Join the processes that ``torchrun`` started: gloo between processors, nccl between GPUs."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    count = int(os.environ.get("WORLD_SIZE", "1"))  # that torchrun started
    if count == 1:
        return Processes(0, 1, torch.device(device))
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        torch.cuda.set_device(local)
    # Scans may differ in size by far, and the first process writes files while others wait.
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(hours=2))
    return Processes(rank, count, torch.device(device, local) if device == "cuda" else torch.device(device))


def stop_processes(processes: Processes) -> None:
    """Leave the group of processes."""
    if processes.count > 1:
        dist.destroy_process_group()


class BatchNormOrder:
    """Moves the running statistics of a core's batch norms in the order of the scans, wherever these are trained.

    A batch norm of momentum 1 leaves the statistics of the last batch in its running statistics, which is
    where they are read from.
    """

    def __init__(self, core: nn.Module, scans: int, processes: Processes) -> None:
        self.norms = [module for module in core.modules() if isinstance(module, nn.BatchNorm2d)]
        self.momenta = [norm.momentum for norm in self.norms]
        self.processes = processes
        self.active = processes.count > 1
        if self.active:
            for norm in self.norms:
                norm.momentum = 1.0
            self.running = [buffer.clone() for buffer in self._buffers()]
            self.batches = [torch.zeros(scans, *buffer.shape) for buffer in self._buffers()]

    def record(self, scan: int) -> None:
        """Note the statistics of the batch that just went through the core."""
        if self.active:
            for batches, buffer in zip(self.batches, self._buffers(), strict=True):
                batches[scan] = buffer.cpu()

    def apply(self) -> None:
        """Move the running statistics by the batches of a step, the first scan's first."""
        if not self.active:
            return
        for i, buffer in enumerate(self._buffers()):
            momentum = self.momenta[i // 2]
            assert momentum is not None
            for batch in self.processes.sum(self.batches[i]):
                self.running[i].lerp_(batch.to(self.running[i].device), momentum)
            buffer.copy_(self.running[i])
            self.batches[i].zero_()
        for norm in self.norms:
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += len(self.batches[0]) - len(self.processes.own(len(self.batches[0])))

    def reload(self) -> None:
        """Start again from the statistics that the core has now, after its state was loaded."""
        if self.active:
            for running, buffer in zip(self.running, self._buffers(), strict=True):
                running.copy_(buffer)

    def _buffers(self) -> Iterable[Tensor]:
        for norm in self.norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            yield norm.running_mean
            yield norm.running_var
