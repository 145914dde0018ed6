"""An interruption that processes agree on: one's own second signal ends it at once, another's does not count."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from cellgraph.training import interruption
from cellgraph.training.interruption import GracefulStop, Interrupted


def test_a_signal_of_another_process_is_none_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(interruption, "end_at_once", ended.append)
    monkeypatch.setattr(interruption.processes, "world", lambda: 2)
    monkeypatch.setattr(interruption.processes, "rank", lambda: 1)
    monkeypatch.setattr(interruption.processes, "all_have", lambda own: [own, signal.SIGTERM])
    monkeypatch.setattr(interruption, "validation_due", lambda trainer: True)
    checkpoint: Any = None
    stop = GracefulStop(checkpoint, keep=False)
    trainer: Any = SimpleNamespace(global_step=1)
    stop.on_train_batch_end(trainer, None)
    # torchrun tells all of them, one after the other: this one hears of it while it validates.
    stop._notice(signal.SIGINT, None)
    assert ended == []
    stop._notice(signal.SIGINT, None)
    assert ended == [signal.SIGINT]
    with pytest.raises(Interrupted) as caught:
        stop.on_train_end(trainer, None)
    # What all agreed on is what each ends by.
    assert caught.value.signum == signal.SIGTERM
