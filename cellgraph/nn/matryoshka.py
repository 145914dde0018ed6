"""The prefix-ordered adapter: the first values of a surface hold what matters most."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.nn.adapter import PCAAdapter
from cellgraph.nn.components import Moments
from cellgraph.numbers import plain_numbers


class MatryoshkaAdapter(PCAAdapter):
    r"""A linear adapter each of whose prefixes tells embeddings apart as the whole embedding does.

    `Matryoshka representations <https://arxiv.org/abs/2205.13147>`_ (Kusupati et al. 2022) are trained with one loss
    summed over nested prefixes. Here, where there are no labels, that loss is of the similarities: with :math:`s` the
    components and :math:`e` the centred embeddings,

    .. math:: \sum_{m \in \mathrm{prefixes}} \mathrm{mean}_{i \ne j}
        \big(\cos(s_i^{1:m}, s_j^{1:m}) - \cos(e_i, e_j)\big)^2

    It starts from the principal components, which are the optimum of the same sum of the errors of reconstruction. The
    decoder is the least squares of the embeddings on the surface.

    Args:
        in_features: Width of the teacher's embeddings.
        out_features: Width of the surface.
        layout: Which value holds which component, see :class:`PCAAdapter`; ``"frame"`` would mix the prefixes.
        smallest: The shortest prefix; each of the others is twice as long.
        updates: Number of Adam updates in :meth:`fit`.
        batch_size: Embeddings an update.
        lr: Learning rate of :meth:`fit`, of directions of unit length, falling to zero along a cosine.

    Raises:
        ValueError: If the layout is ``"frame"`` or unknown, or a number is not positive.
    """

    @plain_numbers
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        layout: str = "rows",
        smallest: int = 8,
        updates: int = 500,
        batch_size: int = 256,
        lr: float = 1e-3,
    ) -> None:
        super().__init__(in_features, out_features, layout=layout)
        if layout == "frame":
            raise ValueError("layout 'frame' mixes the components, and a prefix of them would be no prefix any more")
        if min(smallest, updates, batch_size - 1) < 1 or not lr > 0:
            raise ValueError(
                f"smallest, updates, batch_size and lr must be positive, got {smallest}, {updates}, {batch_size}, {lr}"
            )
        self.smallest, self.updates, self.batch_size, self.lr = smallest, updates, batch_size, lr

    def prefixes(self) -> list[int]:
        """Lengths of the prefixes that are trained."""
        kept = min(self.in_features, self.out_features)
        lengths = [self.smallest * 2**power for power in range(kept.bit_length()) if self.smallest * 2**power < kept]
        return [*lengths, kept]

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain types."""
        training = {name: getattr(self, name) for name in ("smallest", "updates", "batch_size", "lr")}
        return super().config() | training

    def _frame(self, embeddings: Any, moments: Moments) -> Tensor:
        frame = nn.Parameter(super()._frame(embeddings, moments).float())
        mean = moments.mean.float()
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam([frame], lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.updates)
        size = min(self.batch_size, len(embeddings))
        apart = ~torch.eye(size, dtype=torch.bool)
        with torch.enable_grad():
            for _ in range(self.updates):
                index = torch.randint(len(embeddings), (size,), generator=generator)
                rows = embeddings[index].float() - mean
                wanted = _cosines(rows)[apart]
                components = rows @ frame.T
                losses = [(_cosines(components[:, :m])[apart] - wanted).square().mean() for m in self.prefixes()]
                optimizer.zero_grad()
                torch.stack(losses).sum().backward()
                optimizer.step()
                schedule.step()
        return frame.detach().double()

    def _decoder(self, frame: Tensor, moments: Moments) -> Tensor:
        # The least squares on the components; they are no longer orthogonal.
        inner = frame @ moments.covariance @ frame.T
        ridge = 1e-9 * inner.diagonal().mean().clamp_min(1e-12)
        inner = inner + ridge * torch.eye(len(inner), dtype=inner.dtype)
        return torch.linalg.solve(inner, frame @ moments.covariance).T


def _cosines(x: Tensor) -> Tensor:
    unit = F.normalize(x, dim=1)
    return unit @ unit.T
