"""The network over sequences: its start in closed form, its pooling by hand, memory over turns, files."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval.networks import load_network
from cellgraph.retrieval.twins import with_chain
from cellgraph.sequence import SequenceGraph
from cellgraph.teacher import TokenStates

CHAIN = [{"kind": "cct"}, {"kind": "cube", "shape": [2, 2, 4], "num_steps": 2, "hidden": 8, "heads": 1}]


def tokens(count: int = 6, width: int = 12) -> TokenStates:
    torch.manual_seed(2)
    lengths = [1 + row % 5 for row in range(count)]
    return TokenStates(torch.randn(sum(lengths), width) + 0.5, lengths, longest=8)


def network(**options: object) -> SequenceGraph:
    torch.manual_seed(0)
    return SequenceGraph(**{"blocks": CHAIN, "in_features": 12, "width": 8, **options}).eval()  # type: ignore[arg-type]


def stirred(model: SequenceGraph) -> SequenceGraph:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def test_new_it_is_the_mean_of_the_tokens_moved_to_the_mean_answer() -> None:
    states, answer = tokens(), torch.randn(6, 12)
    model = network()
    model.fit_adapters(states, answer)
    rows = np.split(states.parts[0].double().numpy(), np.cumsum(states.lengths)[:-1])
    mean = np.stack([row.mean(0) for row in rows])
    with torch.no_grad():
        output = model(states.padded())
    moved = mean - mean.mean(0) + answer.double().numpy().mean(0)
    np.testing.assert_allclose(output.embedding.numpy(), moved, atol=1e-5)


def test_the_tokens_are_weighed_by_the_gate() -> None:
    states = tokens()
    model = network(blocks=[])
    model.fit_adapters(states, torch.randn(6, 12))
    with torch.no_grad():
        model.gate.weight.normal_()  # type: ignore[union-attr]
        model.embed.bias.normal_()
        x = states[torch.tensor([4])]
        scaled = ((x[0, :5] - model.token_mean) / model.token_scale).double().numpy()
        made = scaled @ model.embed.weight.double().numpy().T + model.embed.bias.double().numpy()
        normed = (made - made.mean(1, keepdims=True)) / np.sqrt(made.var(1, keepdims=True) + model.norm.eps)
        logits = normed @ model.gate.weight.double().numpy()[0]  # type: ignore[union-attr]
        share = np.exp(logits) / np.exp(logits).sum()
        read = torch.tensor(share @ x[0, :5].double().numpy()).float()
        expected = model.path(model.path.question(read))
        torch.testing.assert_close(model(x).query[0], expected, rtol=1e-4, atol=1e-5)


def test_padding_and_neighbours_in_the_batch_change_nothing() -> None:
    states = tokens()
    model = stirred(network())
    with torch.no_grad():
        together = model(states.padded()).query
        alone = torch.cat([model(states[torch.tensor([row])][:, : int(states.lengths[row])]).query for row in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_shortened_sequence_weighs_all_the_tokens_that_it_stands_for() -> None:
    model = stirred(network(blocks=[{"kind": "cct", "stride": 3}])).double()
    x = torch.randn(1, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        # The readout silent, the path alone is left, of the tokens as they are weighed.
        model.readout.weight.zero_()
        scaled = model.embed((x - model.token_mean) / model.token_scale)
        places, _ = model.blocks[0](scaled, torch.ones(1, 8, dtype=torch.bool))
        logits = model.gate(model.norm(places))[0, :, 0].numpy()  # type: ignore[misc]
        # Three places stand for the tokens 0 to 2, 3 to 5, and 6 and 7.
        share = np.exp(logits)[[0, 0, 0, 1, 1, 1, 2, 2]]
        read = torch.from_numpy(share / share.sum() @ x[0].numpy())
        torch.testing.assert_close(model(x).query[0], model.path(model.path.question(read)), rtol=1e-6, atol=1e-6)


def test_gradients_reach_every_part() -> None:
    model = stirred(network()).train()
    output = model(tokens().padded())
    output.query.square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    # What makes keys, and the last bias of what is summed away, are for other losses.
    assert all(name.startswith(("path.keys", "path.calibration")) for name in still)


def test_over_turns_the_memory_is_what_was_asked_before() -> None:
    model = stirred(network(blocks=[{"kind": "gru", "hidden": 6}], over="turns")).double()
    turns = torch.randn(3, 4, 12, dtype=torch.float64)
    memory, queries = None, []
    with torch.no_grad():
        for turn in range(4):
            output = model(turns[:, turn], memory)
            memory = output.memory
            queries.append(output.query)
        # The unit itself, run once along all the turns.
        unit = model.blocks[0]
        embedded = model.embed((turns - model.token_mean) / model.token_scale)
        states, _ = unit.unit(unit.norm(embedded))
        last = embedded + unit.output(states)
        z = model.path.question(turns)
        expected = model.path(z) + model.readout(model.pooled_norm(last))
    torch.testing.assert_close(torch.stack(queries, dim=1), expected)
    assert memory is not None
    torch.testing.assert_close(memory, turns)


def test_over_turns_a_memory_goes_where_the_question_is() -> None:
    model = network(blocks=[{"kind": "gru", "hidden": 6}], over="turns").to("meta")
    output = model(torch.zeros(3, 12, device="meta"), torch.zeros(3, 2, 12))
    assert output.memory is not None
    assert (output.memory.device.type, output.memory.shape) == ("meta", (3, 3, 12))


@pytest.mark.parametrize(
    "adapter",
    ["linear", "pca", {"name": "matryoshka", "updates": 2}, pytest.param("autoencoder", marks=pytest.mark.slow)],
)
def test_a_chain_has_the_surfaces_of_a_network_with_a_linear_adapter(adapter: str | dict[str, object]) -> None:
    cell = GMLPCell(Lattice((2, 3, 3)), 4, hidden=4, heads=2)
    model = CellGraph(cell, in_features=12, surface_channels=1, num_steps=2, adapter=adapter)
    question, answer = torch.randn(2, 30, 12)
    model.fit_adapters(question, answer)
    if adapter == "autoencoder":
        with pytest.raises(ValueError, match=r"has a linear adapter, and the network has model.adapter=autoencoder"):
            with_chain(model, [{"kind": "gru"}])
        return
    twin = with_chain(model, [{"kind": "gru"}])
    torch.testing.assert_close(twin.target_surface(answer), model.target_surface(answer))


def test_over_turns_a_block_that_shortens_the_sequence_is_refused() -> None:
    SequenceGraph([{"kind": "cct"}], in_features=8, width=8, over="turns")
    with pytest.raises(ValueError, match=r"no block may shorten the sequence, got strides \{'cct': 2\}"):
        SequenceGraph([{"kind": "cct", "stride": 2}], in_features=8, width=8, over="turns")


def test_only_as_many_turns_are_kept_as_the_blocks_take() -> None:
    model = network(blocks=[{"kind": "transformer", "heads": 2, "hidden": 8, "max_length": 2}], over="turns")
    memory = None
    for _ in range(4):
        memory = model(torch.randn(1, 12), memory).memory
    assert memory is not None
    assert memory.shape == (1, 2, 12)


def test_saved_and_loaded_it_answers_the_same(tmp_path: Path) -> None:
    model = stirred(network())
    model.save_pretrained(tmp_path)
    again = load_network(tmp_path)
    assert isinstance(again, SequenceGraph)
    with torch.no_grad():
        torch.testing.assert_close(again(tokens().padded()).query, model(tokens().padded()).query, rtol=0, atol=0)


def test_another_chain_has_the_same_path_and_scales() -> None:
    model = network()
    model.fit_adapters(tokens(), torch.randn(6, 12))
    other = with_chain(model, {"blocks": [{"kind": "gru"}], "width": 4})
    assert other.width == 4
    assert other.over == "tokens"
    for name, value in model.state_dict().items():
        if name.startswith(("path", "token", "answer_adapter")):
            assert torch.equal(other.state_dict()[name], value)
    assert other.path is not model.path


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (torch.randn(1, 9, 12), "the blocks take 8 tokens, got 9"),
        (torch.randn(1, 12), r"question must be \[batch, length, 12\], got \[1, 12\]"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: torch.Tensor, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        network()(wrong)


@pytest.mark.parametrize(
    ("question", "memory", "told"),
    [
        ((2, 3, 12), None, r"over turns a question must be \[batch, 12\], got \[2, 3, 12\]"),
        ((2, 7), None, r"over turns a question must be \[batch, 12\], got \[2, 7\]"),
        ((2, 12), (3, 1, 12), r"memory must be \[2, turns before, 12\] here, got \[3, 1, 12\]"),
        ((2, 12), (2, 12), r"memory must be \[2, turns before, 12\] here, got \[2, 12\]"),
    ],
)
def test_over_turns_what_does_not_fit_is_refused(
    question: tuple[int, ...], memory: tuple[int, ...] | None, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        network(over="turns")(torch.randn(question), None if memory is None else torch.randn(memory))


def test_a_width_must_be_positive() -> None:
    model = network(blocks=[])
    for width in (0, -1):
        with pytest.raises(ValueError, match=f"width must be positive, got {width}"):
            network(width=width)
        with pytest.raises(ValueError, match=f"width must be positive, got {width}"):
            model.with_blocks([], width=width)


def test_an_empty_question_gives_numbers() -> None:
    for chain in (CHAIN, [{"kind": "transformer", "heads": 2}], [{"kind": "mamba"}]):
        output = stirred(network(blocks=copy.deepcopy(chain)))(torch.zeros(2, 8, 12))
        assert bool(output.query.isfinite().all())


def test_a_shortened_sequence_may_be_longer_than_the_surface_and_its_padding_means_nothing() -> None:
    chain = [{"kind": "cct", "stride": 3}, {"kind": "transformer", "heads": 2}, CHAIN[1]]
    model = stirred(network(blocks=chain))
    assert model.capacity == 24
    text = torch.randn(1, 4, 12)
    with torch.no_grad():
        queries = [model(torch.nn.functional.pad(text, (0, 0, 0, more))).query for more in (0, 3, 20)]
    torch.testing.assert_close(queries[0], queries[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(queries[0], queries[2], rtol=1e-4, atol=1e-5)


def test_a_network_that_has_left_the_cpu_is_not_fitted() -> None:
    with pytest.raises(ValueError, match="fitted on the CPU, before the network moves: expected cpu, got meta"):
        network().to("meta").fit_adapters(tokens(), torch.randn(6, 12))


def test_token_states_that_are_not_finite_or_of_another_width_are_not_fitted_to() -> None:
    model, states = network(), tokens()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"questions must have 12 features a row, got \[2, 3, 8\]"):
        model.fit_adapters(TokenStates(torch.ones(4, 8), [1, 3]), torch.randn(2, 12))
    states.parts[0][3, 1] = float("nan")
    with pytest.raises(ValueError, match="token states of the questions must be finite"):
        model.fit_adapters(states, torch.randn(6, 12))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_over_tokens_it_is_as_exact_as_its_weights() -> None:
    model = stirred(network(blocks=[{"kind": "cct"}])).double()
    given = torch.randn(2, 3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x).embedding, (given,), fast_mode=True)


def test_a_sequence_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a token at least"):
        network(blocks=[{"kind": "gru", "hidden": 6}])(torch.zeros(2, 0, 12))
