"""Principal components of embeddings that are looked at block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cellgraph.nn.blocks import BLOCK
from cellgraph.precision import at_least_float32


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of embeddings, in double precision.

    Attributes:
        count: Number of rows.
        mean: ``[features]``
        covariance: ``[features, features]``, over the number of rows.
    """

    count: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, embeddings: Any, *, dtype: torch.dtype = torch.float32) -> Moments:
        """Those of rows that need not all be in memory at once: one pass, and memory for features times features.

        Args:
            embeddings: ``[num_rows, features]``, or what is split into blocks as a tensor is.
            dtype: In which products are made at least; blocks are summed in double precision.

        Raises:
            ValueError: If there are fewer than two rows.
        """
        if len(embeddings) < 2:
            raise ValueError(f"principal components need at least 2 embeddings, got {len(embeddings)}")
        shift: Tensor | None = None
        sums = products = torch.zeros(())
        for block in embeddings.split(BLOCK):
            rows = at_least_float32(block).to(torch.promote_types(block.dtype, dtype))
            # About a mean that is near: products of large numbers would lose the variance between them.
            shift = rows.mean(0) if shift is None else shift
            rows = rows - shift
            sums = sums + rows.sum(0).double()
            products = products + (rows.T @ rows).double()
        assert shift is not None
        mean = sums / len(embeddings)
        return cls(len(embeddings), shift.double() + mean, products / len(embeddings) - mean[:, None] * mean)

    def leading(self, count: int) -> tuple[Tensor, Tensor]:
        """The largest variances along orthogonal directions, falling, and these directions as rows."""
        features = len(self.mean)
        if 2 * count <= features and features > 1024:
            # A few of thousands are found in a fraction of the time of all.
            from scipy.linalg import eigh

            found = eigh(self.covariance.numpy(), subset_by_index=(features - count, features - 1))
            values, vectors = (torch.from_numpy(part) for part in found)
        else:
            values, vectors = torch.linalg.eigh(self.covariance)
        return values.flip(0)[:count], vectors.flip(1)[:, :count].T.contiguous()


def energy_correlation(embeddings: Any, mean: Tensor, frame: Tensor) -> Tensor:
    """How the squares of components go together: their correlations, ``[num_components, num_components]``.

    Components themselves are uncorrelated; what is left of how they depend on one another shows in their squares first,
    as in topographic component analysis (`Hyvärinen et al. 2001 <https://doi.org/10.1162/089976601750264992>`_).

    Args:
        embeddings: As in :meth:`Moments.of`.
        mean: ``[features]``
        frame: The directions of the components, ``[num_components, features]``.
    """

    class Energies:
        def __len__(self) -> int:
            return len(embeddings)

        def split(self, size: int) -> Any:
            return (((block.to(frame.dtype) - mean) @ frame.T).square() for block in embeddings.split(size))

    covariance = Moments.of(Energies(), dtype=torch.float64).covariance
    scale = covariance.diagonal().clamp_min(1e-24).rsqrt()
    return covariance * scale[:, None] * scale
