"""Embeddings: what goes in and what comes out, beside the true answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cellgraph.analysis.asking import compared, found, said
from cellgraph.analysis.embeddings import (
    CosineMatrix,
    Projection,
    cosine_matrix,
    has_umap,
    participation_ratio,
    project,
)
from cellgraph.analysis.plots import PALETTE
from cellgraph.analysis.report.drawing import AMOUNT, Picture, blank, side_by_side, thin, titled
from cellgraph.analysis.report.subject import Numbers, Subject
from cellgraph.analysis.states import together
from cellgraph.retrieval.metrics import distinct_answers, ranks, reciprocal_ranks
from cellgraph.retrieval.twins import alone

#: What is laid out on the plane: colour and mark.
KINDS = {"questions": ("sky", "o"), "predictions": ("vermillion", "^"), "answers": ("green", "s")}
#: What is compared with the answers, in words: what is left without the cube is another thing with a linear path.
LEFT = {"none": "after the adapters, no cube", "linear": "by the linear path, no cube"}
METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True)
class Embeddings:
    """Cosines before and after the lattice, and all embeddings on a plane.

    Attributes:
        numbers: What the page says.
        chosen: The pairs looked at, by their place among the held-out ones.
        projections: The questions, then what the lattice predicts, then the answers, by method.
        cosines: Cosines with the answers, by what is compared.
        systems: What is compared, in words.
    """

    numbers: Numbers
    chosen: Tensor
    projections: list[Projection]
    cosines: dict[str, CosineMatrix]
    systems: dict[str, str]

    @classmethod
    @torch.no_grad()
    def measure(cls, subject: Subject) -> Embeddings:
        """Compare questions, what the adapters alone say and what the lattice says with the answers."""
        model = subject.model
        chosen, dialogues = subject.asked(subject.effort.projected)
        question, answer = subject.question[chosen], subject.answer[chosen]
        whole = said(model, question, batch_size=together(model), dialogues=dialogues)
        outputs = {"adapters": alone(model)(question), "lattice": whole}
        systems = {"question": question, **{name: output.embedding for name, output in outputs.items()}}
        adapters, predicted = systems["adapters"], systems["lattice"]
        cosines = {name: cosine_matrix(x, answer) for name, x in systems.items()}
        methods = ("pca", "tsne", "umap") if has_umap() else ("pca", "tsne")
        everything = torch.cat([question, predicted, answer])
        projections = [project(everything, method, seed=subject.seed) for method in methods]
        candidates, own = distinct_answers(answer, [subject.pairs[row].answer for row in chosen.tolist()])
        bank = answer[candidates]
        ranked = {name: found(model, compared(output), bank, own) for name, output in outputs.items()}
        ranked["question"] = reciprocal_ranks(ranks(question, bank, own))
        numbers = {
            "pairs": len(answer),
            "candidates": len(candidates),
            "pca_explained": list(projections[0].explained or ()),
            "cosines": {
                name: {
                    "own": matrix.own,
                    "other": matrix.other,
                    "contrast": matrix.contrast,
                    "mrr": float(ranked[name].mean()),
                    "dimensions": float(participation_ratio(systems[name])),
                }
                for name, matrix in cosines.items()
            },
            "answer_dimensions": float(participation_ratio(answer)),
            "adapters_to_lattice": float(torch.nn.functional.cosine_similarity(adapters, predicted).mean()),
        }
        left = LEFT["none" if model.path is None else "linear"]
        words = {"question": "questions as they are", "adapters": left, "lattice": "after the cube"}
        return cls(numbers, chosen, projections, cosines, words)

    def pictures(self) -> Iterator[Picture]:
        """The cosine matrices and the planes."""
        yield Picture.of("cosines", self._matrices())
        yield Picture.of("embeddings", self._planes())

    def _matrices(self) -> Figure:
        matrices = {
            name: matrix.values[thin(matrix.values)][:, thin(matrix.values)] for name, matrix in self.cosines.items()
        }
        low = min(float(matrix.min()) for matrix in matrices.values())
        high = max(float(matrix.max()) for matrix in matrices.values())
        figure = blank(11, 4.0)
        axes = side_by_side(figure, 3)
        for axis, (name, matrix) in zip(axes, matrices.items(), strict=True):
            image = axis.imshow(matrix.numpy(), cmap=AMOUNT, vmin=low, vmax=high, interpolation="nearest")
            own, other = self.cosines[name].own, self.cosines[name].other
            titled(
                axis, "answer (number)", "question (number)", f"{self.systems[name]}\nown {own:.3f}, others {other:.3f}"
            )
            axis.grid(False)
        figure.colorbar(image, ax=axes, label="cosine", shrink=0.8)
        return figure

    def _planes(self) -> Figure:
        figure = blank(4.6 * len(self.projections), 4.2)
        axes = side_by_side(figure, len(self.projections))
        for axis, projection in zip(axes, self.projections, strict=True):
            for (kind, (colour, marker)), points in zip(KINDS.items(), projection.points.chunk(3), strict=True):
                x, y = points.T
                axis.scatter(x, y, s=9, c=PALETTE[colour], marker=marker, alpha=0.6, linewidths=0, label=kind)
            units = ["no unit", "no unit"]
            if projection.explained is not None:
                units = [f"{100 * share:.0f} % of the variance" for share in projection.explained]
            titled(axis, f"first axis ({units[0]})", f"second axis ({units[1]})", METHODS[projection.method])
        lines, names = axes[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside upper center", ncols=3, frameon=False, fontsize="small", markerscale=2)
        return figure
