"""The power law: how an error falls with size, with the uncertainty of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Exponents that a fit may take.
EXPONENTS = (0.0, 4.0)


@dataclass(frozen=True)
class PowerLaw:
    r"""An error that falls as a power of size towards a floor.

    .. math::
        e(n) = e_\infty + c \, n^{-\alpha}

    The form of `Hestness et al. 2017 <https://arxiv.org/abs/1712.00409>`_, section 3, fitted by least squares. For a
    given exponent the other two are a linear problem, with the floor and the factor kept from being negative.

    Attributes:
        floor: :math:`e_\infty`, the error that no size removes.
        factor: :math:`c`.
        exponent: :math:`\alpha`.
        intervals: 95 % intervals of the three, from fits to means that are drawn anew, those of each size by
            Student's t of its runs; none where a size has a single run.

    Example:
        >>> law = PowerLaw.fit([10, 100, 1000, 10000], [0.2 + n**-0.5 for n in (10, 100, 1000, 10000)])
        >>> round(law.floor, 3), round(law.exponent, 3)
        (0.2, 0.5)
    """

    floor: float
    factor: float
    exponent: float
    intervals: tuple[tuple[float, float], ...] = ()

    @classmethod
    def fit(cls, sizes: Sequence[float], errors: Sequence[float], *, resamples: int = 500, seed: int = 0) -> PowerLaw:
        """Fit a law to runs.

        Args:
            sizes: One a run.
            errors: Likewise.
            resamples: Draws that the intervals are of.
            seed: Of the draws.

        Raises:
            ValueError: If there are fewer than three different sizes, or one is not positive.
        """
        n, e = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
        different = np.unique(n)
        if len(different) < 3 or n.min() <= 0:
            given = ", ".join(f"{size:g}" for size in different)
            raise ValueError(f"a power law needs three positive sizes at least, got {given}")
        if n.shape != e.shape:
            raise ValueError(f"expected one error a size, got {len(e)} for {len(n)}")
        rows = [np.flatnonzero(n == size) for size in different]
        counts, means = np.array([len(own) for own in rows]), np.array([e[own].mean() for own in rows])
        # A size counts as many times as it has runs: the same optimum as over all the runs.
        law = _fitted(different, means, counts)
        if counts.min() < 2:
            return cls(*law)
        rng, drawn = np.random.default_rng(seed), []
        for _ in range(resamples):
            # Draws with replacement of two or three runs would be too narrow: their means vary by (m - 1) / m of what
            # means of runs do.
            shifts = [e[own].std(ddof=1) / len(own) ** 0.5 * rng.standard_t(len(own) - 1) for own in rows]
            drawn.append(_fitted(different, means + shifts, counts))
        bounds = np.quantile(np.array(drawn), [0.025, 0.975], axis=0).T
        return cls(*law, intervals=tuple((float(low), float(high)) for low, high in bounds))

    def __call__(self, size: float) -> float:
        """The error at a size."""
        return self.floor + self.factor * size**-self.exponent


def _fitted(n: np.ndarray, e: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    from scipy.optimize import minimize_scalar, nnls

    weights = np.sqrt(counts)

    def solved(exponent: float) -> tuple[np.ndarray, float]:
        # Sizes in units of the smallest keep the two columns of one magnitude.
        columns = np.stack([np.ones_like(n), (n / n.min()) ** -exponent], axis=1)
        return nnls(weights[:, None] * columns, weights * e)

    grid = np.linspace(*EXPONENTS, 81)[1:]
    best = grid[int(np.argmin([solved(exponent)[1] for exponent in grid]))]
    step = grid[1] - grid[0]
    found = minimize_scalar(
        lambda exponent: solved(exponent)[1],
        bounds=(max(best - step, 1e-6), min(best + step, EXPONENTS[1])),
        method="bounded",
        options={"xatol": 1e-8},
    )
    (floor, factor), _ = solved(float(found.x))
    return float(floor), float(factor * n.min() ** found.x), float(found.x)
