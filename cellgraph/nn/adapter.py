"""Adapters: between the teacher's width and the surface's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.nn.blocks import BLOCK
from cellgraph.nn.components import Moments, energy_correlation
from cellgraph.nn.layout import LAYOUTS, places
from cellgraph.numbers import plain_numbers
from cellgraph.precision import alike, at_least_float32

#: What the penalty of a regression is chosen from.
PENALTIES = torch.logspace(-3, 3, 13)


class LinearAdapter(nn.Module):
    r"""A linear map from embeddings to surfaces and one back, each other's pseudo-inverse when new.

    .. math::
        \mathrm{encode}(e) = E\,e + b, \qquad \mathrm{decode}(s) = D\,s + c

    New, :math:`E` is a random matrix with orthonormal rows (or columns, where the surface is the wider) times
    :math:`\sqrt{\mathrm{out\_features}}`, which gives a unit-norm embedding a surface of about unit root mean
    square, and :math:`D` undoes it. Nothing is lost when the surface is at least as wide as the embedding.

    Args:
        in_features: Width of the teacher's embeddings.
        out_features: Width of the surface.

    Shapes:
        - **encode:** ``[..., in_features]`` to ``[..., out_features]``
        - **decode:** ``[..., out_features]`` to ``[..., in_features]``, both of any dtype, in that of the weights

    Raises:
        ValueError: If a width is not positive; by the methods, if an input has another width.
    """

    @plain_numbers
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ValueError(f"an adapter needs positive widths, got {in_features} and {out_features}")
        self.in_features, self.out_features = in_features, out_features
        self.encoder: nn.Module = nn.Linear(in_features, out_features)
        self.decoder: nn.Module = nn.Linear(out_features, in_features)
        frame = torch.empty(out_features, in_features)
        # There are no orthogonal matrices in half precision.
        frame = nn.init.orthogonal_(at_least_float32(frame))
        self._set(frame, scale=out_features**0.5, mean=torch.zeros_like(frame[0]))

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return next(self.parameters()).dtype

    def encode(self, embedding: Tensor) -> Tensor:
        """The surface that stands for an embedding."""
        check_width(embedding, self.in_features, "embedding")
        return self.encoder(embedding.to(self.dtype))

    def decode(self, surface: Tensor) -> Tensor:
        """The embedding that a surface stands for."""
        check_width(surface, self.out_features, "surface")
        return self.decoder(surface.to(self.dtype))

    def fit(self, embeddings: Any) -> None:
        """Fit to training embeddings ``[num_embeddings, in_features]``: nothing to do for the random frame."""
        check_width(embeddings, self.in_features, "embeddings")

    @torch.no_grad()
    def move(self, shift: Tensor) -> None:
        """Add a constant ``[out_features]`` to every surface that :meth:`encode` gives."""
        last = self.encoder[-1] if isinstance(self.encoder, nn.Sequential) else self.encoder
        assert isinstance(last, nn.Linear)
        last.bias.add_(shift)

    @torch.no_grad()
    def reconstruction_error(self, embeddings: Any) -> float:
        """Share of the embeddings' variance that is lost on the way to the surface and back, 0 (none) upwards.

        Args:
            embeddings: ``[num_embeddings, in_features]``, in memory or not.
        """
        mean = sum(block.double().sum(0) for block in embeddings.split(BLOCK)) / len(embeddings)
        lost, total = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for block in embeddings.split(BLOCK):
            rows = self._alike(block)
            lost += (self.decode(self.encode(rows)) - rows).square().sum()
            total += (rows - mean).square().sum()
        return float(lost / total)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain types."""
        return {"in_features": self.in_features, "out_features": self.out_features}

    def _alike(self, embeddings: Tensor) -> Tensor:
        """Embeddings in the wider of the two dtypes, theirs and the weights'."""
        return alike(embeddings, *self.parameters())[0]

    @torch.no_grad()
    def _set(self, frame: Tensor, *, scale: float, mean: Tensor) -> None:
        assert isinstance(self.encoder, nn.Linear)
        assert isinstance(self.decoder, nn.Linear)
        self.encoder.weight.copy_(frame * scale)
        self.encoder.bias.copy_(-scale * frame @ mean)
        self.decoder.weight.copy_(frame.T / scale)
        self.decoder.bias.copy_(mean)


class PCAAdapter(LinearAdapter):
    """A :class:`LinearAdapter` that starts from the principal components of the training embeddings.

    :meth:`fit` makes the surface the leading components of the centred embeddings, scaled by one number to unit root
    mean square, so that angles are kept (`Pearson 1901 <https://doi.org/10.1080/14786440109462720>`_; the best linear
    squeeze in squared error). Where the surface is wider than the embedding, all are kept.

    Args:
        in_features: Width of the teacher's embeddings.
        out_features: Width of the surface.
        layout: Which value of the surface holds which component. ``"frame"``: a random matrix with orthonormal columns
            spreads them evenly, so that no cell holds much more than another; ``"rows"``: the largest first, in the
            order of the surface; ``"centre"``: the largest in its middle, the others around it; ``"correlation"``:
            those whose squares go together near one another.

    Attributes:
        positions: Where each value's cell is, ``[out_features, dim]``; a line by default.

    Raises:
        ValueError: If the layout is unknown.
    """

    @plain_numbers
    def __init__(self, in_features: int, out_features: int, *, layout: str = "frame") -> None:
        super().__init__(in_features, out_features)
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {LAYOUTS}, got {layout!r}")
        self.layout = layout
        self.positions = torch.arange(out_features)[:, None]

    @torch.no_grad()
    def fit(self, embeddings: Any) -> None:
        """Fit to training embeddings ``[num_embeddings, in_features]``, which need not be in memory.

        Raises:
            ValueError: If the width is another, or there are fewer than two embeddings.
        """
        super().fit(embeddings)
        moments = Moments.of(embeddings, dtype=self.dtype)
        frame = self._frame(embeddings, moments)
        decoder = self._decoder(frame, moments)
        placed = self._placed(embeddings, moments, frame)
        power = (frame @ moments.covariance * frame).sum() / self.out_features
        self._set(placed @ frame, scale=float(power.clamp_min(1e-12).rsqrt()), mean=moments.mean)
        assert isinstance(self.decoder, nn.Linear)
        self.decoder.weight.copy_(decoder @ placed.T * float(power.clamp_min(1e-12).sqrt()))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain types."""
        return super().config() | {"layout": self.layout}

    def _frame(self, embeddings: Any, moments: Moments) -> Tensor:
        """The directions of the components, ``[num_components, in_features]``."""
        return moments.leading(min(self.in_features, self.out_features))[1]

    def _decoder(self, frame: Tensor, moments: Moments) -> Tensor:
        """From components back to centred embeddings, ``[in_features, num_components]``."""
        return frame.T

    def _placed(self, embeddings: Any, moments: Moments, frame: Tensor) -> Tensor:
        """From components to values, ``[out_features, num_components]``, with orthonormal columns."""
        if self.layout == "frame":
            # Drawn in the weights' dtype, so that a seed means the same for embeddings of any.
            turn = at_least_float32(torch.empty(self.out_features, len(frame), dtype=self.dtype))
            return nn.init.orthogonal_(turn).to(frame.dtype)
        related = energy_correlation(embeddings, moments.mean, frame) if self.layout == "correlation" else None
        taken = places(self.layout, len(frame), self.positions, correlation=related)
        return nn.functional.one_hot(taken, self.out_features).T.to(frame.dtype)


class AutoencoderAdapter(LinearAdapter):
    """A pair of two-layer perceptrons, trained by :meth:`fit` to reconstruct the training embeddings.

    Args:
        in_features: Width of the teacher's embeddings.
        out_features: Width of the surface.
        hidden: Width of the hidden layers.
        updates: Number of Adam updates in :meth:`fit`.
        batch_size: Embeddings an update.
        lr: Learning rate of :meth:`fit`, falling to zero along a cosine.

    Raises:
        ValueError: If a number is not positive.
    """

    @plain_numbers
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: int = 512,
        updates: int = 1000,
        batch_size: int = 128,
        lr: float = 1e-3,
    ) -> None:
        super().__init__(in_features, out_features)
        if min(hidden, updates, batch_size) < 1 or not lr > 0:
            raise ValueError(
                f"hidden, updates, batch_size and lr must be positive, got {hidden}, {updates}, {batch_size}, {lr}"
            )
        self.hidden, self.updates, self.batch_size, self.lr = hidden, updates, batch_size, lr
        self.encoder = nn.Sequential(nn.Linear(in_features, hidden), nn.GELU(), nn.Linear(hidden, out_features))
        self.decoder = nn.Sequential(nn.Linear(out_features, hidden), nn.GELU(), nn.Linear(hidden, in_features))

    def fit(self, embeddings: Any) -> None:
        """Train to reconstruct training embeddings ``[num_embeddings, in_features]``; the surface to unit scale."""
        super().fit(embeddings)
        # Adam's small steps are lost on half precision.
        kept, used = self.dtype, torch.promote_types(self.dtype, torch.float32)
        # What is frozen in the training to come is fitted here all the same.
        trained = [parameter.requires_grad for parameter in self.parameters()]
        self.to(used).requires_grad_(True)
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.updates)
        generator = torch.Generator().manual_seed(0)
        # Unit-norm embeddings have entries of about in_features ** -0.5; losses are measured on that scale.
        spread = Moments.of(embeddings, dtype=used).covariance.diagonal().mean().clamp_min(1e-12).to(used)
        with torch.enable_grad():
            for _ in range(self.updates):
                batch = embeddings[torch.randint(len(embeddings), (self.batch_size,), generator=generator)].to(used)
                surface = self.encode(batch)
                loss = (self.decode(surface) - batch).square().mean() / spread
                loss = loss + 0.1 * (surface.square().mean() - 1).square()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.to(kept).zero_grad()
        for parameter, was in zip(self.parameters(), trained, strict=True):
            parameter.requires_grad_(was)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain types."""
        training = {name: getattr(self, name) for name in ("hidden", "updates", "batch_size", "lr")}
        return super().config() | training


@torch.no_grad()
def regress(adapter: LinearAdapter, embeddings: Tensor, surfaces: Tensor) -> float:
    """Set a linear adapter's ``encode`` to the ridge regression from embeddings to surfaces.

    The penalty is chosen by leave-one-out cross-validation on the same rows (Hoerl and Kennard 1970; scikit-learn's
    :class:`~sklearn.linear_model.RidgeCV`).

    Args:
        adapter: A :class:`LinearAdapter` or :class:`PCAAdapter`.
        embeddings: Training inputs.
        surfaces: Where they should go.

    Shapes:
        - **embeddings:** ``[num_embeddings, in_features]``
        - **surfaces:** ``[num_embeddings, out_features]``
        - **output:** the penalty chosen

    Raises:
        ValueError: If the adapter is not linear.
    """
    if not isinstance(adapter.encoder, nn.Linear):
        raise ValueError(f"regression sets a linear adapter, got {type(adapter).__name__}")
    return set_ridge(adapter.encoder, embeddings, surfaces)


@torch.no_grad()
def set_ridge(layer: nn.Linear, x: Tensor, y: Tensor, *, penalties: Tensor = PENALTIES) -> float:
    """Set a linear layer to the ridge regression from ``x`` to ``y``, see :func:`regress`; the penalty chosen."""
    from sklearn.linear_model import RidgeCV

    x, y, _ = alike(x, y, layer.weight)
    ridge = RidgeCV(alphas=penalties.tolist()).fit(x.numpy(), y.numpy())
    layer.weight.copy_(torch.as_tensor(ridge.coef_))
    layer.bias.copy_(torch.as_tensor(ridge.intercept_))
    return float(ridge.alpha_)


def check_width(x: Any, width: int, name: str) -> None:
    if not torch.compiler.is_compiling() and x.size(-1) != width:
        raise ValueError(f"{name} must have {width} features, got {x.size(-1)}")
