"""What is not linear in the question, against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.nonlinearity import PENALTIES, Contributions, LinearFit, Nonlinearity, nonlinearity, share_of
from cellgraph.analysis.states import walk

WIDTH = 12


def network(*, path: str = "linear", readout: str = "surface", update: float = 0.3) -> CellGraph:
    """A network whose readout reads; with ``update=0`` its cells transport only, which is linear."""
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((3, 3, 3), 26), channels=4, hidden=8, heads=2, gate_std=0.3)
    model = CellGraph(cell, in_features=WIDTH, surface_channels=2, path=path, readout=readout, num_steps=3).eval()
    with torch.no_grad():
        cell.out_weight.normal_(std=update or 1.0).mul_(update > 0)
        cell.transport.add_(0.1 * torch.randn_like(cell.transport))
        cell.position.normal_()
        if model.readout is not None:
            model.readout.weight.normal_()
    return model.double()


QUESTIONS = torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def measured(model: CellGraph) -> Nonlinearity:
    """By a regression on the first 300 questions, its penalty that of what is read."""
    parts = Contributions.of(model)
    *_, last = walk(model, QUESTIONS)
    fit = LinearFit(QUESTIONS[:300], QUESTIONS[300:], parts.total(last[:300, parts.index]).detach())
    return nonlinearity(model, QUESTIONS, fit)


@pytest.mark.parametrize("options", [{"path": "none"}, {}, {"readout": "all"}])
def test_what_is_linear_has_no_share_that_is_not(options):
    found = measured(network(update=0, **options))
    assert found.nonlinear < 1e-8
    assert found.answer < 1e-8
    assert found.control < 1e-8
    assert float(found.cell_nonlinear.max()) < 1e-8
    assert float(found.states.max()) < 1e-8
    assert float(found.cell_shares.sum()) == pytest.approx(1)


def test_a_readout_that_adds_nothing_has_no_shares():
    model = network()
    torch.nn.init.zeros_(model.readout.weight)
    found = measured(model)
    assert found.added == found.nonlinear == found.answer == 0
    for shares in (found.cell_shares, found.cell_nonlinear, found.nonlinear_shares):
        assert torch.equal(shares, torch.zeros(9, dtype=torch.double))
    # The states are what they are, read or not.
    assert float(found.states[-1].min()) > 1e-3


def test_the_share_of_a_square_is_known():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(40_000, 3, generator=generator, dtype=torch.double)
    # Var(2 x) = 4 and Var(x^2) = 2, and no linear map of x explains x^2.
    y = 2 * x[:, :1] + x[:, 1:2].square()
    fit = LinearFit(x[:20_000], x[20_000:], y[:20_000])
    apart = y[20_000:] - y[20_000:].mean(0)
    assert share_of(fit.residual(y), apart) == pytest.approx(2 / 6, abs=0.015)


def test_the_regression_is_that_of_scikit_learn():
    x, y = QUESTIONS[:40] * 3 + 1, torch.randn(40, 5, dtype=torch.double)
    fit = LinearFit(x[:30], x[30:], y[:30])
    mean = x[:30].numpy().mean(0)
    scale = np.sqrt(((x[:30].numpy() - mean) ** 2).mean())
    ridge = RidgeCV(alphas=PENALTIES.tolist()).fit((x[:30].numpy() - mean) / scale, y[:30].numpy())
    assert fit.penalty == ridge.alpha_
    np.testing.assert_allclose(fit(y[:30]), ridge.predict((x[30:].numpy() - mean) / scale), rtol=1e-8, atol=1e-10)
    left = y[30:].numpy() - ridge.predict((x[30:].numpy() - mean) / scale)
    np.testing.assert_allclose(fit.residual(y), left - left.mean(0), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", [{"path": "none"}, {}, {"readout": "all"}])
def test_parts_add_up_to_what_is_read(options):
    model = network(**options)
    parts = Contributions.of(model)
    *_, last = walk(model, QUESTIONS[:20])
    read = last[:, parts.index]
    with torch.no_grad():
        if model.path is None:
            wanted = model.output_surface.extract(last) / model.conveyor.gain(3)
        else:
            output = model.path.answer(model(QUESTIONS[:20]).embedding)
            wanted = output - model.path(model.path.question(QUESTIONS[:20]))
    torch.testing.assert_close(parts.total(read), wanted)
    each = torch.stack([parts.weight[i].T @ read[:, i].T for i in range(len(parts.index))])
    torch.testing.assert_close(each.sum(0).T, wanted)
    torch.testing.assert_close(parts.power(read), each.square().sum((1, 2)))
    # Shares by the definition: the inner product of a part with the whole.
    torch.testing.assert_close(parts.shares(read), (each * wanted.T).sum((1, 2)) / wanted.square().sum())


def test_shares_are_those_of_numpy():
    model, fitted = network(readout="all"), 300
    found = measured(model)
    states = [x.numpy() for x in walk(model, QUESTIONS)]
    weight = model.readout.weight.detach().numpy() * (27 * 4) ** -0.5
    read = states[-1].reshape(400, -1) @ weight.T
    x = QUESTIONS.numpy()
    mean = x[:fitted].mean(0)
    z = (x - mean) / np.sqrt(((x[:fitted] - mean) ** 2).mean())
    alpha = RidgeCV(alphas=PENALTIES.tolist()).fit(z[:fitted], read[:fitted]).alpha_

    def left(y: np.ndarray) -> np.ndarray:
        flat = y.reshape(400, -1)
        offset = flat[:fitted].mean(0)
        solved = np.linalg.solve(
            z[:fitted].T @ z[:fitted] + alpha * np.eye(WIDTH), z[:fitted].T @ (flat - offset)[:fitted]
        )
        return flat[fitted:] - offset - z[fitted:] @ solved

    def share(y: np.ndarray) -> float:
        return left(y).var(0).sum() / y[fitted:].reshape(100, -1).var(0).sum()

    linear = model.path.linear
    answer = read + x @ linear.weight.detach().numpy().T
    assert found.nonlinear == pytest.approx(share(read))
    assert found.nonlinear > 0.01
    assert found.added == pytest.approx(read[fitted:].var(0).sum() / answer[fitted:].var(0).sum())
    assert found.answer == pytest.approx(left(read).var(0).sum() / answer[fitted:].var(0).sum())
    layer = np.arange(27) // 9
    wanted = [
        [share(step[:, layer == k]) if step[:, layer == k].var() > 1e-20 else 0 for k in range(3)] for step in states
    ]
    # The hops that the question has not made yet leave nothing to explain.
    reached = np.array([[k <= step for k in range(3)] for step in range(4)])
    np.testing.assert_allclose(found.states[reached], np.array(wanted)[reached], rtol=1e-6, atol=1e-9)
    assert float(found.states[~torch.tensor(reached)].abs().max()) == 0
    cell = 5
    own = states[-1][:, cell] @ weight.reshape(WIDTH, 27, 4)[:, cell].T
    assert float(found.cell_nonlinear[cell]) == pytest.approx(share(own))
    apart = read[fitted:] - read[fitted:].mean(0)
    along = ((own[fitted:] - own[fitted:].mean(0)) * apart).sum() / (apart**2).sum()
    assert float(found.cell_shares[cell]) == pytest.approx(along)


def test_too_few_questions_are_named():
    with pytest.raises(ValueError, match="3 questions to fit to and 3 to judge by, got 398 and 2"):
        LinearFit(QUESTIONS[:398], QUESTIONS[398:], QUESTIONS[:398])
