"""A checkpoint from a stranger: plain, whole and no larger than its file, or refused."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import Planted, refused

from cellgraph.training import read_checkpoint


def checkpoint(path: Path, **more: Any) -> Path:
    torch.save({"state_dict": {"model.w": torch.zeros(3)}, "global_step": 1, **more}, path)
    return path


def again(depth: int) -> list[Any]:
    nested: list[Any] = [0]
    for _ in range(depth):
        nested = [nested, nested]
    return nested


def deep(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def test_a_checkpoint_is_plain_and_no_larger_than_its_file(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert read_checkpoint(checkpoint(path))["global_step"] == 1
    for more in (
        {"planted": Planted(mark)},
        {"repeated": again(60)},
        {"state_dict": {"model.w": torch.zeros(1).expand(2**40)}},
        {"state_dict": {"model.w": [1]}},
        {"state_dict": []},
        {"global_step": "1"},
        {"update_state": []},
        {"sparse": torch.sparse_coo_tensor(torch.zeros(1, 1).long(), torch.ones(1), (2**40,))},
    ):
        checkpoint(path, **more)
        assert refused(lambda: read_checkpoint(path)).startswith(f"the checkpoint {path} is damaged (")
    read_checkpoint(checkpoint(path, repeated=again(3), nested=deep(50)))


@pytest.mark.parametrize("kind", ["compressed", "claimed", "overlapping", "pickle", "code"])
def test_an_archive_that_unfolds_is_refused(tmp_path: Path, mark: Path, kind: str) -> None:
    path = checkpoint(tmp_path / "last.ckpt")
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    if kind == "compressed":
        # A gigabyte of zeros in a megabyte.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
            with archive.open("last/data/1", "w") as file:
                for _ in range(64):
                    file.write(bytes(2**24))
    elif kind == "claimed":
        content = bytearray(path.read_bytes())
        # The sizes in the central directory.
        place = content.index(b"PK\x01\x02")
        content[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
        path.write_bytes(content)
    elif kind == "overlapping":
        content = bytearray(path.read_bytes())
        places = [n for n in range(len(content)) if content[n : n + 4] == b"PK\x01\x02"]
        for place in places:
            content[place + 42 : place + 46] = content[places[0] + 42 : places[0] + 46]
        path.write_bytes(content)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": {}, "global_step": 1, "x": Planted(mark)}))
    else:
        # A TorchScript archive is code.
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    message = refused(lambda: read_checkpoint(path))
    assert message.startswith(f"the checkpoint {path} is damaged (")


def test_every_flipped_bit_is_seen_or_means_nothing(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "last.ckpt")
    content = path.read_bytes()
    whole, seen = read_checkpoint(path), 0
    places = range(0, len(content), 3)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found = read_checkpoint(path)
        except ValueError:
            seen += 1
        else:
            assert torch.equal(found["state_dict"]["model.w"], whole["state_dict"]["model.w"])
            assert found["global_step"] == 1
    assert seen > len(places) / 3
