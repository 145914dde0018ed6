"""A cube in transformers: files, missing weights, AutoModel, precision, and training inside a BERT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from elsewhere import DEVICE, Elsewhere
from torch import nn
from transformers import AutoModel, BertConfig, BertModel, BertPreTrainedModel, Trainer, TrainingArguments

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.integrations.huggingface import CellGraphConfig, CellGraphModel
from cellgraph.testing import randomise


def network(*, hole: bool = True, **options: object) -> CellGraph:
    mask = torch.ones(3, 4, 4)
    mask[1, 0, 0] = 0 if hole else 1
    cell = GMLPCell(Lattice((3, 4, 4), mask=mask), 8, hidden=8, heads=2, **options)
    return CellGraph(cell, in_features=16, surface_channels=1, num_steps=4).eval()


class BertWithCube(BertPreTrainedModel):
    """A cube between the encoder of a small BERT and its head."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.cube = CellGraphModel(CellGraphConfig(network=config.cube))
        self.head = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        tokens = self.cube(self.bert(input_ids).last_hidden_state).last_hidden_state
        logits = self.head(tokens.mean(1))
        loss = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
        return loss | {"logits": logits}


def bert_config() -> BertConfig:
    return BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        cube=network(hole=False).config(),
    )


def test_a_copy_is_what_the_network_is() -> None:
    before = network(hole=False).double()
    before.num_steps = (4, 8)
    randomise(before, std=0.2)
    before.readout.requires_grad_(False)
    copied = CellGraphModel.from_network(before)
    question = torch.randn(3, 16, dtype=torch.float64)
    for _ in range(3):  # evaluation draws no steps
        assert torch.equal(copied(question).last_hidden_state, before(question).embedding)
        assert torch.equal(copied(question).query, before(question).query)
    frozen = {name for name, parameter in copied.network.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, parameter in before.named_parameters() if not parameter.requires_grad}
    assert any(name.startswith("readout.") for name in frozen)
    assert CellGraphModel.from_network(before.train()).network.training


@pytest.mark.parametrize("options", [{}, {"memory_channels": 2}, {"sharing": "layer"}])
def test_files_bring_back_the_same_network(options: dict, tmp_path: Path) -> None:
    before = network(**options)
    randomise(before, std=0.2)
    CellGraphModel.from_network(before).save_pretrained(tmp_path)
    after = AutoModel.from_pretrained(tmp_path)
    assert type(after) is CellGraphModel
    question = torch.randn(3, 16)
    wanted = before(question)
    memory = None
    for _ in range(2):
        wanted, found = before(question, memory), after(question, memory)
        torch.testing.assert_close(found.last_hidden_state, wanted.embedding, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.states, wanted.states, rtol=0, atol=0)
        memory = wanted.memory
        assert (found.memory is None) == (memory is None)
    frozen = {name for name, parameter in after.named_parameters() if not parameter.requires_grad}
    assert {name.rpartition(".")[0] for name in frozen} == {
        "network.answer_adapter.encoder",
        "network.answer_adapter.decoder",
        "network.path.calibration",
    }


def test_a_copy_lies_where_its_network_does() -> None:
    with Elsewhere():
        copied = CellGraphModel.from_network(network().to(DEVICE))
        assert {value.device for value in copied.state_dict().values()} == {DEVICE}


def test_tokens_are_rows() -> None:
    model = CellGraphModel.from_network(network())
    tokens = torch.randn(2, 3, 16)
    out = model(tokens, output_states=True)
    assert model(tokens).states is None
    assert out.last_hidden_state.shape == (2, 3, 16)
    torch.testing.assert_close(out.last_hidden_state[1, 2], model(tokens[1, 2:]).last_hidden_state[0])
    assert out.states.shape == (6, 47, 8)


def test_a_half_precision_load_keeps_the_lattice(tmp_path: Path) -> None:
    before = CellGraphModel.from_network(network())
    before.save_pretrained(tmp_path)
    after = CellGraphModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert after.network.cell.position.dtype == torch.bfloat16
    assert torch.equal(after.network.cell.edge_index, before.network.cell.edge_index)
    question = torch.randn(2, 16)
    # Seven to eight bits of mantissa, four steps and two adapters.
    torch.testing.assert_close(
        after(question.bfloat16()).last_hidden_state.float(), before(question).last_hidden_state, rtol=0.05, atol=0.05
    )


def test_a_cube_put_into_a_trained_model_starts_as_the_identity(tmp_path: Path) -> None:
    config = bert_config()
    without = BertModel(config)
    without.save_pretrained(tmp_path)
    model = BertWithCube.from_pretrained(tmp_path, config=config)
    ids = torch.randint(20, (2, 5))
    hidden = without.eval()(ids).last_hidden_state
    torch.testing.assert_close(model.bert(ids).last_hidden_state, hidden)
    torch.testing.assert_close(model.cube(hidden).last_hidden_state, hidden, rtol=1e-4, atol=1e-4)


def test_the_trainer_trains_a_cube_inside_a_bert(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")
    model = BertWithCube(bert_config())
    before = model.cube.network.cell.out_weight.detach().clone()
    ids = torch.randint(20, (32, 6))
    rows = [{"input_ids": row, "labels": (row[0] > 9).long()} for row in ids]
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=12,
        learning_rate=1e-2,
        per_device_train_batch_size=16,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert sum(losses[-4:]) < sum(losses[:4])
    assert not torch.equal(model.cube.network.cell.out_weight, before)
    trainer.save_model(tmp_path / "saved")
    again = BertWithCube.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        torch.testing.assert_close(again(ids)["logits"], model.eval()(ids)["logits"])


def test_a_configuration_without_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match="must be what CellGraph"):
        CellGraphModel(CellGraphConfig())
    with pytest.raises(ValueError, match="the network of a CellGraphConfig is damaged: 'in_features' is missing"):
        _ = CellGraphConfig().hidden_size
    known = network().config()
    for lacking in ("lattice", "cell", "in_features"):
        described = {name: value for name, value in known.items() if name != lacking}
        with pytest.raises(ValueError, match=f"the network of a CellGraphConfig is damaged: .*'{lacking}'"):
            CellGraphModel(CellGraphConfig(network=described))
