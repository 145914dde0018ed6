"""Runs that are killed or asked to stop, in processes of their own, and what becomes of them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from checkpoints import differences, flat

from cellgraph.training import read_checkpoint

# Imports take longer than the runs, so one process imports and forks a process for each run: the forked one leaves the
# loop and is an ordinary Python process from there to its exit.
#
# Everything random at once: update masks, numbers of steps, shuffling over several epochs, dropout from the global
# generator, memory handed from window to window; with averages, accumulation and a schedule beside them.
SCRIPT = """
import json, os, sys, time
import torch
from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import EmbeddedPairs, Retrieval, TrainSettings, standard_objective
from cellgraph.training import train

for line in sys.stdin:
    command = json.loads(line)
    if isinstance(command, int):
        print(os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(command["folder"] + "." + name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
        break
    print(pid, flush=True)
else:
    sys.exit()

class Slow(CellGraph):
    def forward(self, question, memory=None, **options):
        time.sleep(command["pause"] if self.training else 0)
        return super().forward(torch.nn.functional.dropout(question, 0.1, self.training), memory, **options)

torch.manual_seed(0)
cell = GMLPCell(Lattice((2, 3, 3)), 8, hidden=8, heads=2, fire_rate=0.7, memory_channels=2)
model = Slow(cell, in_features=6, surface_channels=1, num_steps=(2, 5))
question, answer = torch.randn(39, 6), torch.randn(39, 6)
names = [str(row // 3) for row in range(39)]
pairs = EmbeddedPairs(question, answer, dialogue=names)
settings = TrainSettings(max_steps=24, batch_size=4, window=1, accumulate=2, ema=0.9, lr=0.02, warmup_steps=5,
                         val_every=6, checkpoint_every=4, log_every=2, accelerator="cpu", seed=3,
                         compile=False, lr_multipliers={})
task = Retrieval(standard_objective(internal=0.5, turn=0.5), pairs, pairs)
result = train(model, task, settings, folder=command["folder"], progress=False, resume=command["resume"],
               go_on="run again with --resume")
print("finished", result.steps, result.best_step, result.metrics["val/mrr"])
"""

pytestmark = pytest.mark.slow

STEPS = 24
TIMES = ("seconds", "train/samples_per_second")


class Runs:
    """Starts runs and waits for them."""

    def __init__(self, process):
        self.process = process

    def ask(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that starts runs has died"
        return int(answer)

    def start(self, folder, *, resume=False, pause=0.0):
        return self.ask({"folder": str(folder), "resume": resume, "pause": pause})

    def finish(self, folder, pid):
        """Exit code, standard output and standard error."""
        return self.ask(pid), *(Path(f"{folder}.{name}").read_text() for name in ("out", "err"))

    def complete(self, folder, *, resume=False):
        code, out, err = self.finish(folder, self.start(folder, resume=resume))
        assert code == 0, err
        return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "runs.py"
    path.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Runs(process)
        process.stdin.close()


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for_update(folder, step):
    """Until the log has an update, which is in the middle of an epoch."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (folder / "metrics.csv").exists() and any(int(row["step"] or 0) >= step for row in rows(folder)):
            return
        time.sleep(0.01)
    pytest.fail(f"update {step} never came: {Path(f'{folder}.err').read_text()}")


def untimed(folder):
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in rows(folder)]


@pytest.fixture(scope="module")
def undisturbed(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, runs.complete(folder)


def same_end(folder, out, undisturbed):
    whole, whole_out = undisturbed
    assert out == whole_out
    for name in ("last.ckpt", "best.ckpt"):
        paths = [run / "checkpoints" / name for run in (folder, whole)]
        assert differences(*map(read_checkpoint, paths)) == []
    assert untimed(folder) == untimed(whole)


def test_the_comparison_sees_a_bit(undisturbed):
    checkpoint = read_checkpoint(undisturbed[0] / "checkpoints" / "last.ckpt")
    names = {name for name, _ in flat(checkpoint)}
    assert any("optimizer_states" in name and "exp_avg" in name for name in names)
    assert any("callbacks/EMA/average" in name for name in names)
    other = read_checkpoint(undisturbed[0] / "checkpoints" / "last.ckpt")
    weight = other["state_dict"]["model.cell.in_weight"].view(torch.int32)
    weight[0, 0, 0] ^= 1
    assert differences(checkpoint, other) == ["/state_dict/model.cell.in_weight"]


@pytest.mark.parametrize("step", [8, 14])
def test_killed_and_resumed_is_undisturbed_to_the_bit(runs, tmp_path, undisturbed, step):
    pid = runs.start(tmp_path, pause=0.01)
    wait_for_update(tmp_path, step)
    os.kill(pid, signal.SIGKILL)
    assert runs.finish(tmp_path, pid)[0] == -signal.SIGKILL
    saved = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"]
    assert 0 < saved < STEPS
    same_end(tmp_path, runs.complete(tmp_path, resume=True), undisturbed)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_saves_says_how_to_go_on_and_does(runs, tmp_path, undisturbed, signum, code):
    pid = runs.start(tmp_path, pause=0.01)
    wait_for_update(tmp_path, 8)
    os.kill(pid, signum)
    status, out, err = runs.finish(tmp_path, pid)
    assert status == code
    assert "finished" not in out
    assert "Traceback" not in err
    last = tmp_path / "checkpoints" / "last.ckpt"
    step = read_checkpoint(last)["global_step"]
    assert step < STEPS
    assert f"stopped after update {step}, saved {last}; go on with: run again with --resume" in err
    same_end(tmp_path, runs.complete(tmp_path, resume=True), undisturbed)


def test_a_second_signal_ends_it_at_once(runs, tmp_path):
    pid = runs.start(tmp_path, pause=4.0)
    wait_for_update(tmp_path, 1)
    time.sleep(1.0)  # the row of an update is written before its end: well into the next one
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.5)
    os.kill(pid, signal.SIGTERM)
    status, _, err = runs.finish(tmp_path, pid)
    assert status == -signal.SIGTERM
    assert "saved" not in err


def test_resuming_a_finished_run_changes_nothing(runs, undisturbed):
    folder, out = undisturbed
    before = {path: path.read_bytes() for path in [*folder.glob("checkpoints/*"), folder / "metrics.csv"]}
    assert runs.complete(folder, resume=True) == out
    assert {path: path.read_bytes() for path in before} == before
