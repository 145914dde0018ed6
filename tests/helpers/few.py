"""Training in a few updates, for tests of what is around it."""

from __future__ import annotations

import pytest

from cellgraph.training import RunSettings


def few_updates(patch: pytest.MonkeyPatch, most: int) -> None:
    """Have every training end after so many updates, whatever was asked for."""
    settled = RunSettings.__post_init__

    def settle(settings: RunSettings) -> None:
        settled(settings)
        object.__setattr__(settings, "max_steps", min(settings.max_steps, most))

    patch.setattr(RunSettings, "__post_init__", settle)
