"""A cube as a layer between the encoder and the head of a small BERT, trained by the transformers Trainer.

The task: of nine random tokens, do more lie in the upper half of the vocabulary than in the lower? Nothing is
downloaded; the BERT is new. The Trainer needs ``pip install accelerate``.

    python examples/06_a_layer_of_bert.py
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertPreTrainedModel, Trainer, TrainingArguments

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.integrations.huggingface import CellGraphConfig, CellGraphModel


class BertWithCube(BertPreTrainedModel):
    """BERT, a cube through which each token's state goes, and a head."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.cube = CellGraphModel(CellGraphConfig(network=config.cube))
        self.head = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits, and the loss where labels are given."""
        tokens = self.cube(self.bert(input_ids).last_hidden_state).last_hidden_state
        logits = self.head(tokens.mean(1))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def rows(count: int, seed: int) -> list[dict[str, Tensor]]:
    ids = torch.randint(100, (count, 9), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "labels": ((row >= 50).sum() > 4).long()} for row in ids]


def main() -> None:
    torch.manual_seed(0)
    network = CellGraph(GMLPCell(Lattice((3, 4, 4)), channels=8, hidden=16), in_features=16, num_steps=3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertWithCube(BertConfig(vocab_size=100, max_position_embeddings=16, cube=network.config(), **sizes))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    print("parameters:", ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=120,
            learning_rate=1e-2,
            per_device_train_batch_size=32,
            logging_steps=30,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(model, arguments, train_dataset=rows(2000, seed=1)).train()
        model.save_pretrained(folder)
        again = BertWithCube.from_pretrained(folder)
    held_out = rows(500, seed=2)
    ids, labels = (torch.stack([row[name] for row in held_out]) for name in ("input_ids", "labels"))
    with torch.no_grad():
        found = again.eval()(ids)["logits"]
        print(f"saved and loaded, differs by {float((found - model.eval()(ids)['logits']).abs().max()):.1e}")
    right = float((found.argmax(1) == labels).float().mean())
    often = float(labels.float().mean().sub(0.5).abs() + 0.5)
    print(f"right on {right:.1%} of 500 held-out rows; the more frequent label alone: {often:.1%}")


if __name__ == "__main__":
    main()
