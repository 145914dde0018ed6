"""What two checkpoints differ in."""

from __future__ import annotations

import torch


def flat(value, name=""):
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flat(part, f"{name}/{key}")
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from flat(part, f"{name}/{number}")
    else:
        yield name, value


def differences(one, other):
    """Names of all that differs in a bit between two checkpoints, times aside."""
    one, other = dict(flat(one)), dict(flat(other))
    assert one.keys() == other.keys()
    differing = []
    for name, value in one.items():
        same = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        if not same and not name.endswith(("/seconds", "/since", "samples_per_second")):
            differing.append(name)
    return differing
