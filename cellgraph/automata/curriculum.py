"""The curriculum: few steps and small lattices first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellgraph.numbers import integers, number, plain_numbers, span

#: A number of steps, or the least and the most.
Steps = int | Sequence[int]


class Curriculum:
    """What training starts from, and when it comes to the whole (Bengio et al. 2009, `"Curriculum Learning"
    <https://doi.org/10.1145/1553374.1553380>`_).

    Args:
        num_steps: Steps of the rollouts at the start, a number or the least and the most; they grow evenly to those of
            the settings. ``None`` starts with those.
        until: Share of the updates after which the steps are those of the settings.
        shapes: Shapes of smaller lattices, each by the share of the updates until which it is used; after the last the
            task's own. The cells of all of them share their weights.

    Raises:
        ValueError: If a share is not in (0, 1] or a number of steps is out of range.

    Example:
        >>> curriculum = Curriculum(num_steps=4, until=0.5, shapes={0.25: (8, 8)})
        >>> [curriculum.steps(done, (32, 48)) for done in (0.0, 0.25, 0.5)]
        [(4, 4), (18, 26), (32, 48)]
        >>> curriculum.shape(0.1), curriculum.shape(0.3)
        ((8, 8), None)
    """

    @plain_numbers
    def __init__(
        self,
        num_steps: Steps | None = None,
        *,
        until: float = 0.5,
        shapes: Mapping[float, Sequence[int]] | None = None,
    ) -> None:
        self.start = None if num_steps is None else span("num_steps", num_steps)
        self.until = until
        if not isinstance(shapes, Mapping | None):
            raise ValueError(f"shapes must be by the share of the updates until which they are used, got {shapes!r}")
        named = {number("a share of the updates", share): shape for share, shape in (shapes or {}).items()}
        self.shapes = {share: integers("shape", named[share]) for share in sorted(named)}
        shares = [until, *self.shapes]
        if not all(0 < share <= 1 for share in shares):
            raise ValueError(f"shares of the updates must lie in (0, 1], got {shares}")

    def steps(self, done: float, final: tuple[int, int]) -> tuple[int, int]:
        """The least and the most steps where a share of the updates is done and the settings say ``final``."""
        if self.start is None:
            return final
        grown = min(done / self.until, 1.0)
        least, most = (round(a + grown * (b - a)) for a, b in zip(self.start, final, strict=True))
        return least, most

    def shape(self, done: float) -> tuple[int, ...] | None:
        """The lattice's shape where a share of the updates is done; ``None`` is the task's own."""
        return next((shape for share, shape in self.shapes.items() if done < share), None)
