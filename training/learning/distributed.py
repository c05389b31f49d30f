"""Several processes that train one captioner together, started by `torchrun`, or a single one.

Every process goes through the same batches in the same order and computes a part of each. Gradients are averaged
by DistributedDataParallel, so the losses are those of one process with the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Group:
    """The processes of one training: their number, and the rank of this one."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files and progress."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over all processes."""
        return DistributedDataParallel(module) if self.size > 1 else module

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            value = value.detach().clone()
            distributed.all_reduce(value)
        return value

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def group(device: str) -> Iterator[tuple[Group, str]]:
    """The group of this process and its device: under `torchrun` the GPU of its local rank or, where `device` names
    several, the one in that place."""
    if not distributed.is_torchelastic_launched():
        yield Group(), device
        return
    rank, names = distributed.get_node_local_rank(), device.split(",")
    cuda = names[0] != "cpu" and torch.cuda.is_available()
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        if len(names) > 1:
            device = names[rank]
        elif cuda:
            device = f"cuda:{rank}"
        if cuda:
            torch.cuda.set_device(device)
        yield Group(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()
