"""The copying: own colours and shown ones."""

import numpy as np
import pytest
import torch

from cellgraph.automata.tasks.arc1d.copying import CopyingReadout
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE


def test_copying_mixes_own_and_shown_colours():
    torch.manual_seed(0)
    readout = CopyingReadout(4, 3, width=2).double()
    x, keys = torch.randn(1, 3, 4).double(), torch.randn(1, 3, 3).double()
    colours = torch.tensor([[5, 8, OUTSIDE]])
    rows = torch.tensor([[7, 3, OUTSIDE]])
    with torch.no_grad():
        found = readout(x, rows, keys, colours)[0].exp().numpy()
        own, gate = readout.own(x)[0].numpy(), readout.gate(x)[0].numpy()
        query, key = readout.query(x)[0].numpy(), readout.key(keys)[0].numpy()
    for cell in range(3):
        share = np.exp(own[cell, :3]) / np.exp(own[cell, :3]).sum()
        alike = np.exp(query[cell] @ key[:2].T / np.sqrt(2))
        alike /= alike.sum()
        keep = 1 / (1 + np.exp(-gate[cell, 0]))
        expected = np.zeros(10)
        expected[[0, 7, 3]] = keep * share
        expected[5] += (1 - keep) * alike[0]
        expected[8] += (1 - keep) * alike[1]
        assert found[cell] == pytest.approx(expected, abs=2e-7)
