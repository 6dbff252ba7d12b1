"""Several processes, one result: whole scans are dealt out to processes, gradients are summed.

The recipe sends each scan's batch through the core by itself, so batch norm never mixes scans. Dealing
out whole scans therefore keeps every batch's statistics what they are in a single process; splitting
batches would not. Only two things need care: gradients have to be summed over processes, and the running
statistics of batch norm have to be moved by the scans' batches in the same order everywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """The processes of a run; one, unless ``torchrun`` started several.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
        device: where this process computes.
    """

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

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            dist.barrier()


def start_processes(device: str) -> Processes:
    """Join the processes that ``torchrun`` started: gloo between processors, nccl between GPUs.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    count = _processes_started()
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


def exit_process(code: int) -> NoReturn:
    """End this process with an exit code, when all its files are closed.

    ``DistributedDataParallel`` keeps gloo's threads past ``destroy_process_group`` (torch 2.13); where one
    still runs while the process takes itself apart, it aborts (pytorch/pytorch#190489). One of several
    processes therefore ends without taking itself apart.
    """
    if _processes_started() == 1:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _processes_started() -> int:
    """How many ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class GradientSum:
    """Gradients of a module summed over processes, by ``DistributedDataParallel``.

    Args:
        module: whose parameters; the same in every process.
        processes: who takes part.

    Backward passes through the module itself accumulate in each process; ``reduce`` sums them.
    """

    def __init__(self, module: nn.Module, processes: Processes) -> None:
        self.module = module
        self.count = processes.count
        self.parallel: DistributedDataParallel | None = None
        if processes.count > 1:
            ids = [processes.device.index] if processes.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(_Reducible(module), device_ids=ids)

    def reduce(self) -> None:
        """Sum what has accumulated over processes."""
        if self.parallel is None:
            return
        # DistributedDataParallel sends gradients during a backward pass that reaches each parameter.
        # It averages, the recipe sums.
        self.parallel().backward()
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(self.count)


class _Reducible(nn.Module):
    # Parameters alone: batch norm's buffers are BatchNormOrder's business.
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.shared = nn.ParameterList(module.parameters())

    def forward(self) -> Tensor:
        """0, with a gradient of 0 for every parameter."""
        return torch.stack([0.0 * parameter.sum() for parameter in self.shared]).sum()


class BatchNormOrder:
    """Moves the running statistics of batch norm in the order of the scans, wherever these are trained.

    Args:
        core: whose batch norms to take charge of, in place.
        scans: batches per step, one per scan.
        processes: who takes part.

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
