"""The processes of one run, which torchrun starts, and the values that they exchange.

Every process gets a share of each batch, and multiplies its loss by that share: the sum of a
gradient over all processes is then the gradient of the mean loss over the whole batch. The
gradients that are summed are dL_tr/dW, dL_tr/dbeta, dL_val/dW and dL_val/dbeta, and the products in
the implicit term. Betty's own strategy wraps modules in DDP, which would sum none of them: beta is
used inside the other problem's forward pass, and a hypergradient computes its products without
`.backward()`.

torch is imported only where several processes run: many commands end before they need it.
accelerate would send a message for each tensor, and wait on the GPUs where here the CPUs wait.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from autolora.configs.launch import processes_started

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's `rank` among `size`; `local` is its number on its machine. The methods are
    collective: if one process calls a method, all must call it."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def summed(self, tensors: "Sequence[Tensor]") -> "list[Tensor]":
        """The sum over the processes of each tensor, bit-equal in all of them. One message for all
        tensors."""
        if self.size == 1:
            return list(tensors)
        import torch
        from torch.distributed import all_reduce

        flat = torch.cat([t.detach().flatten() for t in tensors])
        all_reduce(flat)
        parts = flat.split([t.numel() for t in tensors])
        return [part.view_as(t).to(t.dtype) for part, t in zip(parts, tensors, strict=True)]

    def same(self, tensors: "Sequence[Tensor]") -> None:
        """Overwrites the tensors with those of the first process."""
        if self.size > 1:
            from torch.distributed import broadcast

            for tensor in tensors:
                broadcast(tensor.detach(), 0)

    def agree(self, stop: Any) -> bool:
        """Whether any process was asked to stop; `stop.code`, the exit code, is then set in all
        processes.

        A signal that comes during this call counts at the next one.
        """
        if self.size > 1:
            stop.code = self._largest(stop.code or 0) or None
        return bool(stop.code)

    def _largest(self, number: int) -> int:
        import torch
        from torch.distributed import ReduceOp, all_reduce

        told = torch.tensor(number)
        all_reduce(told, ReduceOp.MAX)
        return int(told)

    def of_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, sent to all, or the exception that it raises;
        the others wait for it."""
        if self.size == 1:
            return make()
        from torch.distributed import broadcast_object_list

        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = make()
            except Exception as error:
                box[1] = error
        broadcast_object_list(box, 0)
        if box[1] is not None:
            raise box[1]
        return box[0]

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first process runs the body before the others, which then find on the disk what it
        wrote."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Returns when all processes have called it."""
        if self.size > 1:
            self._largest(0)


ALONE = Processes()


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """All processes that torchrun started, connected by gloo (CPU) and, where they use CUDA GPUs,
    nccl."""
    if processes_started() == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local)
    # Small messages between the CPUs never wait for a GPU. The others wait for hours while the
    # first one decodes and scores; that a process has died they notice without the timeout, as its
    # connections break.
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(hours=12))
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()
