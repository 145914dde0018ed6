"""Balance: how evenly a set is spread over its domains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Balance"]


@dataclass(frozen=True)
class Balance:
    """Numbers of pairs by domain.

    Args:
        counts: Pairs of each domain, from the largest.
        without: Pairs of no domain.

    Example:
        >>> balance = Balance.of(["a", "a", "b", "b", ""])
        >>> balance.counts, balance.without, round(balance.effective, 6), balance.evenness
        ({'a': 2, 'b': 2}, 1, 2.0, 1.0)
    """

    counts: dict[str, int]
    without: int = 0

    @classmethod
    def of(cls, domains: Iterable[str]) -> Balance:
        """Count domains; the empty text is none."""
        counts = Counter(domains)
        without = counts.pop("", 0)
        return cls(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))), without)

    @property
    def entropy(self) -> float:
        """Shannon's entropy of the shares, in nats."""
        shares = np.array(list(self.counts.values()), dtype=np.float64)
        shares /= max(shares.sum(), 1)
        # Of one domain alone it is 0, not -0.
        return abs(float((shares * np.log(shares)).sum()))

    @property
    def effective(self) -> float:
        """The effective number of domains, the exponential of the entropy (`Hill 1973
        <https://doi.org/10.2307/1934352>`_): of equally large ones, so many would be as diverse."""
        return float(np.exp(self.entropy)) if self.counts else 0.0

    @property
    def evenness(self) -> float:
        """The entropy as a share of the largest that so many domains can have (`Pielou 1966
        <https://doi.org/10.1016/0022-5193(66)90013-0>`_); 1 for a single domain."""
        return self.entropy / float(np.log(len(self.counts))) if len(self.counts) > 1 else 1.0

    @property
    def largest(self) -> float:
        """The share of the largest domain."""
        return next(iter(self.counts.values())) / sum(self.counts.values()) if self.counts else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The counts and what they come to."""
        return {
            "domains": len(self.counts),
            "effective": self.effective,
            "evenness": self.evenness,
            "largest": self.largest,
            "without": self.without,
            "counts": self.counts,
        }
