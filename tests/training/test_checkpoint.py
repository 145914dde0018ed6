"""Checkpoints and the log on disk: whole or absent, plain, and clear about what is wrong."""

from __future__ import annotations

import csv
import errno
import os
import re
import shutil
import stat
from pathlib import Path

import pytest
import torch
from on_pairs import plain_objective, plain_settings, train_pairs

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import EmbeddedPairs
from cellgraph.training import AtomicCheckpointIO, CSVLog, model_weights, read_checkpoint

PAIRS = EmbeddedPairs(torch.randn(20, 6), torch.randn(20, 6))
SETTINGS = plain_settings(max_steps=6, batch_size=5, warmup_steps=1, val_every=3, checkpoint_every=2, accelerator="cpu")


def lattice_model(channels=8):
    return CellGraph(GMLPCell(Lattice((2, 3, 3)), channels, hidden=8), in_features=6, surface_channels=1, num_steps=2)


def run(folder, model=None, settings=SETTINGS, **options):
    model = lattice_model() if model is None else model
    return train_pairs(
        model, plain_objective(), PAIRS, PAIRS, settings=settings, folder=folder, progress=False, **options
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(folder)


@pytest.fixture
def copied(finished, tmp_path):
    """A run's folder to be damaged."""
    for path in finished[0].rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(finished[0])
            target.parent.mkdir(exist_ok=True, parents=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def test_checkpoints_are_plain_and_complete(finished):
    folder, result = finished
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = torch.load(folder / "checkpoints" / name, weights_only=True)
        assert {"state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops", "update_state"} <= set(
            checkpoint
        )
        assert {"EMA", "GlobalGenerators", "MetricsWriter", "RunCheckpoint", "Stopping"} == set(checkpoint["callbacks"])
    best = model_weights(read_checkpoint(folder / "checkpoints" / "best.ckpt"))
    assert best.keys() == result.model.state_dict().keys()
    # The calibration follows from the weights and the training pairs.
    trained = {name: value for name, value in result.model.state_dict().items() if "calibration" not in name}
    assert all(torch.equal(value, best[name]) for name, value in trained.items())
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]


def test_a_folder_with_a_run_is_not_trained_over(finished):
    before = (finished[0] / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match="holds a run already"):
        run(finished[0])
    assert (finished[0] / "checkpoints" / "last.ckpt").read_bytes() == before


def test_more_updates_are_more_updates(copied):
    result = run(copied, settings=plain_settings(**{**vars(SETTINGS), "max_steps": 9}), resume=True)
    assert result.steps == 9
    assert [row["step"] for row in result.history] == [3, 6, 9]


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "other"])
def test_a_damaged_checkpoint_is_named_and_so_is_the_other(copied, damage):
    last, best = copied / "checkpoints" / "last.ckpt", copied / "checkpoints" / "best.ckpt"
    content = bytearray(last.read_bytes())
    if damage == "flipped":
        # In a weight, where only a check sum can see it.
        weight = read_checkpoint(last)["state_dict"]["model.cell.in_weight"].numpy().tobytes()
        content[content.index(weight) + len(weight) // 2] ^= 0x10
    damaged = {"cut": content[: len(content) // 2], "flipped": content, "text": b"no checkpoint\n", "empty": b""}
    if damage == "other":
        torch.save([1, 2], last)
    else:
        last.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match="is damaged") as caught:
        run(copied, resume=True)
    message = str(caught.value)
    assert message.startswith(f"the checkpoint {last} is damaged (")
    previous = last.with_name("previous.ckpt")
    assert message.endswith(f"; the one before it, of update 4, is whole: cp {previous} {last}")
    assert "\n" not in message
    # What is offered is whole, and can be gone on from.
    previous.write_bytes(previous.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"; another, of update [36], is whole: cp {best} {last}$"):
        read_checkpoint(last)
    shutil.copy(best, last)
    assert run(copied, resume=True).steps == 6
    best.write_bytes(b"")
    last.write_bytes(b"")
    previous.unlink()
    with pytest.raises(ValueError, match=r"is damaged \(File is not a zip file\)$"):
        read_checkpoint(last)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "payload": Payload()}, path)
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_missing_checkpoints(tmp_path):
    with pytest.raises(ValueError, match=f"there is no checkpoint {tmp_path}/checkpoints/last.ckpt"):
        run(tmp_path, resume=True)
    with pytest.raises(ValueError, match="needs the folder of the run, got none"):
        run(None, resume=True)


def test_a_checkpoint_of_another_model_or_other_data(copied):
    with pytest.raises(
        ValueError, match=r"is of another model: model.cell.\w+ is \[.*\] there and \[.*\] here"
    ) as caught:
        run(copied, model=lattice_model(channels=12), resume=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="its batch_size was 5, now it is 4"):
        run(copied, settings=plain_settings(**{**vars(SETTINGS), "max_steps": 9, "batch_size": 4}), resume=True)


@pytest.mark.parametrize("what", ["none", "of another update", "damaged"])
def test_a_best_that_is_not_there_any_more_is_chosen_anew(copied, what, capsys):
    checkpoints = copied / "checkpoints"
    began = read_checkpoint(checkpoints / "last.ckpt")["callbacks"]["RunCheckpoint"]
    best = checkpoints / "best.ckpt"
    if what == "none":
        best.unlink()
    elif what == "damaged":
        best.write_bytes(best.read_bytes()[:-100])
    else:
        torch.save({**read_checkpoint(best), "global_step": 5}, best)
    model = lattice_model()
    result = run(copied, model, settings=plain_settings(**{**vars(SETTINGS), "max_steps": 9}), resume=True)
    told = f"{best} is not that of the best update so far, {began['best_step']}: the best is chosen anew from here"
    assert told in capsys.readouterr().err
    # The one validation after it.
    assert result.best_step == 9
    assert result.metrics["val/mrr"] == result.history[-1]["val/mrr"]
    chosen = model_weights(read_checkpoint(best))
    assert all(torch.equal(value, chosen[n]) for n, value in model.named_parameters() if "calibration" not in n)


def test_a_finished_run_without_its_best_is_its_last(copied):
    best = copied / "checkpoints" / "best.ckpt"
    best.unlink()
    result = run(copied, resume=True)
    assert (result.steps, result.best_step, best.exists()) == (6, 0, False)
    last = model_weights(read_checkpoint(copied / "checkpoints" / "last.ckpt"))
    assert all(torch.equal(x, last[n]) for n, x in result.model.named_parameters() if "calibration" not in n)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", 0.5), ("betas", (0.5, 0.9)), ("weight_decay", 0.3), ("lr_multipliers", {"cell": 0.1})],
)
def test_a_run_goes_on_with_the_optimiser_s_settings_that_it_began_with(copied, name, value):
    longer = {**vars(SETTINGS), "max_steps": 9}
    began = re.escape(repr(longer[name]))
    with pytest.raises(ValueError, match=rf"has the state of {name}={began}, got {name}={re.escape(repr(value))}: "):
        run(copied, settings=plain_settings(**{**longer, name: value}), resume=True)
    # A checkpoint of an earlier version does not say; one that has what it was asked for is gone on from.
    last = copied / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    del checkpoint["update_state"][name]
    torch.save(checkpoint, last)
    assert run(copied, settings=plain_settings(**longer), resume=True).steps == 9


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_leaves_the_checkpoint_before(copied, monkeypatch, failing):
    last = copied / "checkpoints" / "last.ckpt"
    before = last.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr("cellgraph.training.saving.write_atomically", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        run(copied, settings=plain_settings(**{**vars(SETTINGS), "max_steps": 9}), resume=True)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    if failing == "write":
        assert f"cannot write the checkpoint {last}" in str(caught.value)
        assert "is untouched" in str(caught.value)
    else:
        assert f"cannot write the log {copied / 'metrics.csv'}" in str(caught.value)
    assert last.read_bytes() == before
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    resumed = run(copied, settings=plain_settings(**{**vars(SETTINGS), "max_steps": 9}), resume=True)
    assert resumed.steps == 9


def test_a_write_that_fails_half_way_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    checkpoints = AtomicCheckpointIO()
    checkpoints.save_checkpoint({"state_dict": {"a": torch.ones(3)}}, path)
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *args: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
    )
    with pytest.raises(OSError, match=f"cannot write the checkpoint {path}: Input/output error; {path} from before"):
        checkpoints.save_checkpoint({"state_dict": {"a": torch.zeros(3)}}, path)
    assert torch.equal(checkpoints.load_checkpoint(path)["state_dict"]["a"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(OSError, match="Permission denied"):
            run(tmp_path / "run")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_a_folder_that_nobody_can_write_to():
    with pytest.raises(OSError, match="/proc/run"):
        run(Path("/proc/run"))


def test_a_file_in_the_folder_s_place(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match="run"):
        run(tmp_path / "run")


def read(path):
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def test_the_log_goes_on_where_the_run_does(tmp_path):
    path = tmp_path / "metrics.csv"
    log = CSVLog(path)
    log.start(step=0)
    log.log_metrics({"a": 1.0}, 1)
    log.log_metrics({"a": 2.0}, 2)
    log.log_metrics({"b": 0.5, "a": 3.0}, 2)
    log.log_metrics({"a": 9.0}, 3)
    # A row that a crash cut off.
    with path.open("a") as file:
        file.write("4,1")
    again = CSVLog(path)
    again.start(step=2)
    again.log_metrics({"c": 7.0}, 3)
    assert read(path) == [
        {"step": "1", "a": "1.0"},
        {"step": "2", "a": "2.0"},
        {"step": "2", "a": "3.0", "b": "0.5"},
        {"step": "3", "c": "7.0"},
    ]
    CSVLog(path).start(step=0)
    assert read(path) == []


WHOLE = b"step,a\n1,2.0\n"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"a,b\n1,2\n",
        WHOLE + b"2,3,4,5.0\n",
        WHOLE + b"\xff\xfe2,1.0\n",
        WHOLE + b"\0" * 4096,
        WHOLE + "\N{SUPERSCRIPT TWO},1.0\n".encode(),
        WHOLE + b'2,"' + b"x" * 200_000,
    ],
    ids=["empty", "another", "two rows in one", "no text", "zeros", "no number", "a quote"],
)
def test_a_damaged_log_is_no_end_of_a_run(tmp_path, damage):
    path = tmp_path / "metrics.csv"
    path.write_bytes(damage)
    log = CSVLog(path)
    log.start(step=5)
    log.log_metrics({"a": 1.0}, 6)
    kept = [{"step": "1", "a": "2.0"}] if damage.startswith(WHOLE) else []
    assert read(path) == [*kept, {"step": "6", "a": "1.0"}]
