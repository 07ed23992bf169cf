"""Work of a GPU that is captured once and launched again as one: CUDA graphs (`torch.cuda.CUDAGraph`).

What is captured are the kernels, their numbers and the addresses that they read and write. So it may hang on nothing that only
the processor knows, and must not wait for the device; whoever launches it again overwrites what it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genus.ops.tape import Unrecordable

aten = torch.ops.aten
WAITS = {
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.bincount, aten.is_nonzero),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive),
}
"""Operations whose results, or the sizes of these, the processor waits for."""
REPEATS = {aten.repeat_interleave.Tensor, aten.repeat_interleave.self_Tensor}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_, aten.copy}


class Waitless(TorchDispatchMode):
    """Within its block nothing may be computed that makes the processor wait for a device, or that reads the processor's memory.

    A capture that meets such a thing breaks off, and may leave the device's random numbers unusable; so this comes first.

    Raises:
        Unrecordable: it was.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, packet = kwargs or {}, func.overloadpacket
        if func.namespace == "aten" and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        masks = packet in INDEXED and any(t is not None and t.dtype == torch.bool for t in args[1])
        repeats = func in REPEATS and kwargs.get("output_size") is None
        if packet in WAITS or masks or repeats:
            raise Unrecordable(f"{packet} makes the processor wait")
        result = func(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        if len({t.device for t in tensors if t.dim() or packet in COPIES}) > 1:
            raise Unrecordable(f"{packet} reads the processor's memory")
        return result


class Graphs:
    """Captures work on a GPU. What is captured here shares one store of memory: results hold until the next is launched."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None

    def send(self, host: Tensor, there: Tensor) -> None:
        """Copy a tensor of the processor to the device, without waiting for it."""
        there.copy_(host.pin_memory(), non_blocking=True)

    def capture(self, work: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        """Run some work, and capture it: what launches it again, and where the results then stand.

        The work must come to the same however often it runs.

        Raises:
            Unrecordable: it cannot be captured.
        """
        with torch.cuda.device(self.device):
            here, stream = torch.cuda.current_stream(), torch.cuda.Stream()
            stream.wait_stream(here)
            try:
                with torch.cuda.stream(stream):
                    work()  # what a library, or a table, sets up on its first call must not be captured
                    with Waitless():
                        work()
                here.wait_stream(stream)
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                graph = torch.cuda.CUDAGraph()
                # what other threads do meanwhile on the device is their own affair
                with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                    results = work()
            except RuntimeError as error:
                raise Unrecordable(str(error).strip().splitlines()[0]) from error
            finally:
                here.wait_stream(stream)
        return graph.replay, results
