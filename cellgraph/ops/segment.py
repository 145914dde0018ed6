"""Sums over runs of sorted rows, by torch_scatter behind a custom operator."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellgraph.ops.backend import Backend
from cellgraph.ops.transforms import refuse_transforms

if TYPE_CHECKING:
    from cellgraph.ops.neighbour_sum import NeighbourSum


class Segment(Backend):
    """The messages of ``scatter``, summed by ``torch_scatter.segment_csr``, where that is installed."""

    name = "segment"
    is_opaque = True

    def needs(self) -> str | None:
        """The package torch_scatter."""
        there = importlib.util.find_spec("torch_scatter") is not None
        return None if there else "needs torch_scatter: pip install cellgraph[scatter]"

    def run(self, layer: NeighbourSum, x: Tensor, weight: Tensor) -> Tensor:
        """Sum ``x`` over the neighbourhoods."""
        messages = layer.weight_by_edge(weight) * x.index_select(-2, layer.edge_index[0])
        return weight[-1] * x + segment_sum(messages, layer.edge_pointer)


def segment_sum(src: Tensor, pointer: Tensor) -> Tensor:
    """Sum rows ``pointer[n]`` to ``pointer[n + 1]`` of each batch into row ``n``.

    Shapes:
        - **src:** ``[batch, num_rows, channels]``
        - **pointer:** ``[num_segments + 1]``
        - **output:** ``[batch, num_segments, channels]``

    Raises:
        NotImplementedError: Under a functional transform.
    """
    refuse_transforms("segment_sum")
    return _segment_sum(src, pointer)


# segment_csr itself breaks torch.compile and has a wrong double backward; as an operator of our own it is opaque to the
# compiler, and its backward is an index_select that torch can differentiate again.
@torch.library.custom_op("cellgraph::segment_sum", mutates_args=())
def _segment_sum(src: Tensor, pointer: Tensor) -> Tensor:
    from torch_scatter import segment_csr

    return segment_csr(src.contiguous(), pointer.expand(src.size(0), -1), reduce="sum")


@_segment_sum.register_fake
def _(src: Tensor, pointer: Tensor) -> Tensor:
    return src.new_empty(src.size(0), pointer.numel() - 1, src.size(2))


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.num_rows = inputs[0].size(1)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (pointer,) = ctx.saved_tensors
    segment = torch.repeat_interleave(pointer.diff(), output_size=ctx.num_rows)
    return grad.index_select(1, segment), None


_segment_sum.register_autograd(_backward, setup_context=_setup_context)
