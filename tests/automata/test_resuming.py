"""An automaton's training that was killed or stopped goes on to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from checkpoints import differences
from torch import nn

from cellgraph.automata import AutomatonSettings, Curriculum, train_automaton
from cellgraph.automata.tasks import Majority
from cellgraph.nn import NCACell
from cellgraph.training import read_checkpoint

# Everything random at once: pool, damage, steps, update masks, noise, dropout from the global generator, averages.
SCRIPT = """
import sys, time
import torch
from cellgraph.automata import AutomatonSettings, Curriculum, SamplePool, train_automaton
from cellgraph.automata.tasks import Majority
from cellgraph.nn import NCACell

class Slow(Majority):
    def loss(self, x, batch):
        time.sleep(pause)
        return super().loss(torch.nn.functional.dropout(x, 0.1, self.training), batch)

def run(folder, resume=False):
    torch.manual_seed(0)
    task = Slow(9, channels=4, size=8)
    cell = NCACell(task.lattice, 4, update={"name": "mlp", "hidden": 8}, fire_rate=0.5, memory_channels=1)
    settings = AutomatonSettings(max_steps=20, batch_size=3, num_steps=(2, 5), supervise=2, overflow=0.1, drift=0.1,
                                 drift_steps=2, noise=0.1, ema=0.9, lr=0.02, normalise=True, val_every=7,
                                 checkpoint_every=4, log_every=2, accelerator="cpu", seed=3)
    return train_automaton(cell, task, settings, pool=SamplePool(6, damage=1, max_age=30), folder=folder, resume=resume,
                           curriculum=Curriculum(num_steps=2, until=0.5, shapes={0.2: (5,)}), progress=False)
"""


def script(pause: float) -> dict:
    names: dict = {"pause": pause}
    exec(SCRIPT, names)
    return names


def test_killed_and_resumed_is_undisturbed_to_the_bit(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    script(0.0)["run"](whole)
    code = f"pause = 0.05{SCRIPT}\nrun({str(broken)!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        deadline = time.monotonic() + 120
        log = broken / "metrics.csv"
        while not (log.exists() and any(line.startswith("10,") for line in log.read_text().splitlines())):
            assert time.monotonic() < deadline, "update 10 never came"
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    last = broken / "checkpoints" / "last.ckpt"
    assert 0 < read_checkpoint(last)["global_step"] < 20
    script(0.0)["run"](broken, resume=True)
    saved = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, broken)]
    assert "x" in saved[0]["update_state"]["pool"]["samples"]
    assert differences(*saved) == []


def test_stopped_on_the_small_lattice_it_goes_on_to_the_bit(tmp_path):
    left = [0]

    class Dropping(Majority):
        def loss(self, x, batch):
            left[0] -= 1
            if not left[0]:
                raise RuntimeError("the power went")
            # From the process's generator, which weights for another lattice are drawn from as well.
            return super().loss(nn.functional.dropout(x, 0.3, self.training), batch)

        def resized(self, shape):
            return Dropping(shape[0], channels=4, size=8)

    def run(folder, losses=10**6, **options):
        torch.manual_seed(0)
        left[0], task = losses, Dropping(9, channels=4, size=8)
        task.curriculum = Curriculum(shapes={0.9: (5,)})
        cell = NCACell(task.lattice, 4, update={"name": "mlp", "hidden": 8})
        often = {"val_every": 99, "checkpoint_every": 2, "accelerator": "cpu"}
        how = AutomatonSettings(max_steps=10, batch_size=2, num_steps=4, lr=0.02, clip=0.0, **often)
        return train_automaton(cell, task, how, folder=folder, progress=False, **options).model.state_dict()

    whole = run(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="the power went"):
        run(tmp_path / "broken", losses=6)
    again = run(tmp_path / "broken", resume=True)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
