from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import linregress, pearsonr
from sklearn.metrics import silhouette_score

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.patterns import (
    STATISTICS,
    against_shuffled,
    cluster_cells,
    morans_i,
    oscillation,
    permutation_p,
    relative_changes,
    shuffled,
    spectrum,
    statistics,
    wave,
)
from cellgraph.analysis.states import activity, walk


def network(num_steps: int = 4) -> CellGraph:
    cell = GMLPCell(Lattice((3, 4, 4)), channels=4, hidden=8, heads=2)
    model = CellGraph(cell, in_features=16, surface_channels=1, path="none", num_steps=num_steps).eval()
    torch.nn.init.normal_(model.cell.out_weight, std=0.05)
    return model


def test_clusters_that_are_there_are_found():
    centres = torch.tensor([[0.0, 0, 5, 0], [5.0, 0, 0, 0], [0.0, 5, 0, 5]])
    truth = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    curves = centres[truth] + 0.1 * torch.randn(60, 4)
    found = cluster_cells(curves)
    assert torch.equal(found.labels, truth)
    assert found.silhouette == pytest.approx(silhouette_score(curves.double(), truth), abs=1e-6)
    for number in range(3):
        torch.testing.assert_close(found.centres[number], curves[truth == number].mean(0))
    alike = cluster_cells(torch.ones(10, 3))
    assert (len(alike.centres), alike.silhouette) == (1, 0.0)


def test_a_travelling_pulse_is_a_wave_of_its_speed():
    distance = torch.arange(8).repeat(3)
    step = torch.arange(20)
    for slowness in (1, 2):
        pulse = torch.sigmoid(4.0 * (step - slowness * distance[:, None] - 1.5))
        correlation, speed = wave(pulse, distance)
        assert correlation == pytest.approx(1)
        assert speed == pytest.approx(1 / slowness)
    assert wave(torch.sigmoid(4.0 * (step - 5.5)).expand(24, -1), distance) == (0.0, 0.0)
    # Noise, against scipy; a cell out of reach and one that never changes do not count.
    curves = torch.rand(24, 20)
    curves[3] = 1.0
    distance[5] = -1
    kept = [i for i in range(24) if i not in (3, 5)]
    time, far = curves.diff(dim=1).abs().argmax(1)[kept].numpy(), distance[kept].numpy()
    correlation, speed = wave(curves, distance)
    assert correlation == pytest.approx(pearsonr(time, far).statistic)
    assert speed == pytest.approx(linregress(time, far).slope)


def test_relative_changes_of_a_geometric_decay():
    states = iter([torch.full((2, 3), 0.5**step) for step in range(5)])
    assert relative_changes(states).tolist() == pytest.approx([0.5] * 4)
    assert relative_changes(iter([torch.ones(3)] * 3)).tolist() == [0.0, 0.0]


def test_spectrum_is_that_of_numpy():
    series = torch.randn(21, 3, dtype=torch.double)
    frequency, power = spectrum(series)
    time = np.arange(21)
    for channel in range(3):
        x = series[:, channel].numpy()
        detrended = x - np.polyval(np.polyfit(time, x, 1), time)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * time / 21)
        np.testing.assert_allclose(power[:, channel], np.abs(np.fft.rfft(detrended * window)) ** 2, atol=1e-9)
    np.testing.assert_allclose(frequency, np.fft.rfftfreq(21))


def test_a_tone_oscillates_and_a_decay_does_not():
    time = torch.arange(32, dtype=torch.double)
    tones = [torch.sin(2 * math.pi * time * cycles / 32) for cycles in (4, 8)]
    decay, line, noise = 0.7**time, 3 * time + 1, torch.randn(32, dtype=torch.double)
    share, period = oscillation(torch.stack([*tones, decay, line, noise], 1)[..., None])
    assert share[:2].tolist() == pytest.approx([1, 1], abs=0.02)
    assert period[:2].tolist() == pytest.approx([8, 4])
    assert share[2:4].tolist() == [0, 0]
    assert float(share[4]) < 0.7
    assert oscillation(torch.randn(3, 2, 2))[0].tolist() == [0, 0]


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_morans_i_is_its_formula(boundary):
    lattice = Lattice((4, 5), 8, boundary=boundary)
    values = torch.randn(20)
    weight = np.zeros((20, 20))
    weight[lattice.edge_index[1], lattice.edge_index[0]] = 1
    z = values.double().numpy() - values.double().numpy().mean()
    assert morans_i(values, lattice) == pytest.approx(20 / weight.sum() * (z @ weight @ z) / (z @ z))


def test_morans_i_of_a_chequerboard_is_minus_one():
    lattice = Lattice((4, 6), boundary="periodic")
    assert morans_i((lattice.positions.sum(1) % 2).float(), lattice) == pytest.approx(-1)
    assert morans_i(torch.full((24,), 0.1), lattice) == 0


@pytest.mark.parametrize(
    ("observed", "null", "p"),
    [
        (5.0, [1.0] * 99, 1 / 100),
        (0.0, [1.0] * 9, 1.0),
        (2.0, [1.0, 2.0, 3.0, math.nan], 4 / 5),
        (math.nan, [1.0, 2.0, 3.0], 1.0),
        (1.0, [-math.inf, -math.inf, 2.0], 2 / 4),
    ],
)
def test_permutation_p_counts(observed, null, p):
    assert permutation_p(observed, torch.tensor(null)) == pytest.approx(p)


def test_permutation_p_is_uniform_under_the_null():
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(2000, 20, generator=generator)
    p = torch.tensor([permutation_p(float(row[0]), row[1:]) for row in draws])
    for level in (0.05, 0.25, 0.5):
        assert float((p <= level + 1e-9).double().mean()) == pytest.approx(level, abs=0.03)


def test_shuffling_moves_weights_and_makes_none():
    model = network()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    mixed = shuffled(model, keep=("transport",), generator=torch.Generator().manual_seed(0))
    for name, weight in mixed.named_parameters():
        assert torch.equal(weight.flatten().sort().values, before[name].flatten().sort().values)
        fixed = "adapter" in name or name == "cell.transport" or weight.unique().numel() == 1
        assert torch.equal(weight, before[name]) == fixed, name
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_statistics_are_those_of_the_states():
    model, question = network(), torch.randn(1, 16)
    found = statistics(model, question, beyond=20)
    states = torch.stack([x[0] for x in walk(model, question, num_steps=24)])
    curves = activity(states[:5]).T
    assert found["clusters"] == cluster_cells(curves).silhouette
    assert found["wave"] == wave(curves, model.lattice.layer)[0]
    assert found["smoothness"] == pytest.approx(morans_i(curves[:, -1], model.lattice))
    change = float((states[-1] - states[-2]).norm() / states[-2].norm())
    assert found["settling"] == pytest.approx(-math.log10(max(change, torch.finfo(torch.float32).eps)), abs=1e-4)
    assert found["oscillation"] == pytest.approx(float(oscillation(states[4:])[0].mean()), abs=1e-4)


def test_oscillations_of_questions_out_of_step_do_not_cancel():
    model = network()
    with torch.no_grad():
        for weight in (model.cell.out_weight, model.cell.out_bias, model.cell.transport):
            weight.zero_()
        # A cell adds twice its state with the other sign: every step turns the sign.
        model.cell.transport[-1] = -2
    question = torch.randn(1, 16)
    apart = statistics(model, torch.cat([question, -question]), beyond=20)
    assert apart["oscillation"] == pytest.approx(statistics(model, question, beyond=20)["oscillation"])
    assert apart["oscillation"] > 0.2


def test_a_network_that_diverges_has_not_settled():
    model = network()
    with torch.no_grad():
        model.cell.transport.fill_(1e6)
    found = statistics(model, torch.randn(1, 16))
    assert found["settling"] == -math.inf
    assert math.isnan(found["oscillation"])


def test_a_comparison_with_shuffled_networks():
    model = network()
    order = model.cell.gate_weight.flatten().argsort()
    with torch.no_grad():
        model.cell.gate_weight.copy_(model.cell.gate_weight.flatten()[order].view_as(model.cell.gate_weight))

    def statistic(network: CellGraph) -> dict[str, float]:
        weights = network.cell.gate_weight.detach().flatten()
        return {"sorted": float((weights.diff() >= 0).double().mean()), "sum": round(float(weights.sum()), 4)}

    ticks = []
    found = against_shuffled(statistic, model, num_shuffles=19, progress=lambda: ticks.append(1))
    assert found.observed["sorted"] == 1
    assert {name: chance.p for name, chance in found.more.items()} == {"sorted": 1 / 20, "sum": 1.0}
    assert {name: chance.p for name, chance in found.less.items()} == {"sorted": 1.0, "sum": 1.0}
    # Benjamini and Hochberg by hand: the smallest of four p counts four times.
    assert {name: chance.q for name, chance in found.more.items()} == pytest.approx({"sorted": 4 / 20, "sum": 1.0})
    assert len(ticks) == 19
    kept = against_shuffled(statistic, model, num_shuffles=3, keep=("gate_weight",))
    assert kept.more["sorted"].p == kept.less["sorted"].p == 1
    with pytest.raises(ValueError, match="at least 1 shuffle, got 0"):
        against_shuffled(statistic, model, num_shuffles=0)


def test_every_statistic_is_told():
    assert statistics(network(), torch.randn(1, 16)).keys() == STATISTICS.keys()
