"""Specialisation: what can be read off layers and cells, beside shuffled labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cellgraph.analysis import specialisation as probing
from cellgraph.analysis.labels import frequent, question_types, topics
from cellgraph.analysis.report.drawing import AMOUNT, SHARE, Picture, blank, layer_maps, side_by_side, titled
from cellgraph.analysis.report.subject import Numbers, Subject, extremes
from cellgraph.analysis.states import walk
from cellgraph.lattice import Lattice


@dataclass(frozen=True)
class Specialisation:
    """What layers and cells encode.

    Attributes:
        numbers: What the page says.
        found: The probes; ``None`` where no label has two frequent classes.
    """

    numbers: Numbers
    found: probing.Specialisation | None

    @classmethod
    def measure(cls, subject: Subject) -> Specialisation:
        """Probe every layer at every step, and every cell, for what questions are about and how they ask."""
        effort, seed = subject.effort, subject.seed
        chosen = subject.some(effort.probed)
        pairs, question = [subject.pairs[i] for i in chosen], subject.question[chosen]
        both = {"topic": topics(pairs, min_count=effort.min_count), "question type": question_types(pairs)}
        numbered = {name: frequent(own, min_count=effort.min_count) for name, own in both.items()}
        labels = {name: numbers for name, (numbers, classes) in numbered.items() if len(classes) > 1}
        numbers: Numbers = {"questions": len(pairs), "labels": {}}
        if not labels:
            return cls(numbers, None)
        # A question that is asked twice, or of the same topic, answer or dialogue, is on one side of a fold.
        groups = [str(number) for number in subject.groups[chosen].tolist()]
        found = probing.specialisation(
            walk(subject.model, question),
            subject.model.lattice,
            labels,
            groups=groups,
            num_controls=effort.controls,
            seed=seed,
        )
        for name, own in labels.items():
            rows = own >= 0
            mine, classes = [groups[i] for i in rows.nonzero()], numbered[name][1]
            held_out = probing.folds(own[rows], mine, seed=seed)
            before = probing.probe(question[rows], own[rows], held_out, num_controls=effort.controls, seed=seed)
            numbers["labels"][name] = {
                "classes": classes,
                "of_few_groups": [classes[thin] for thin in probing.thin_classes(own[rows], mine)],
                "questions": int(rows.sum()),
                "embedding": float(before.accuracy),
                "chance": 1 / before.num_classes,
                **_read(found, name),
            }
        numbers["layer_dimensions"] = found.layer_dimensions.tolist()
        numbers["cell_dimensions"] = extremes(found.cell_dimensions)
        return cls(numbers, found)

    def pictures(self, lattice: Lattice) -> Iterator[Picture]:
        """Probes of the layers by step, and of the cells."""
        if self.found is None:
            return
        yield Picture.of("stages", _stages(self.found))
        maps = {name.replace(" ", "\n"): probe.accuracy for name, probe in self.found.cells.items()}
        yield Picture.of("cells", layer_maps(maps, lattice, SHARE, "balanced accuracy"))


def _read(found: probing.Specialisation, name: str) -> Numbers:
    """What was read off layers and cells for a label."""
    layers, cells = found.layers[name], found.cells[name]
    step, layer = divmod(int(layers.accuracy.argmax()), layers.accuracy.size(1))
    return {
        "layers": layers.accuracy.tolist(),
        "best": {"accuracy": float(layers.accuracy.max()), "step": step, "layer": layer},
        "control_mean": float(layers.control.mean()),
        "control_largest": float(layers.control.max()),
        "cells_mean": float(cells.accuracy.mean()),
        "cells_best": float(cells.accuracy.max()),
        "cells_control_mean": float(cells.control.mean()),
        "cells_selectivity": extremes(cells.selectivity),
        "class_selectivity": extremes(found.class_selectivity[name]),
    }


def _stages(found: probing.Specialisation) -> Figure:
    figure = blank(4.3 * (len(found.layers) + 1), 3.6)
    axes = side_by_side(figure, len(found.layers) + 1)
    for axis, (name, probe) in zip(axes, found.layers.items(), strict=False):
        chance = 1 / probe.num_classes
        _by_step(axis, figure, probe.accuracy, SHARE, f"balanced accuracy (chance {chance:.2f})", chance, 1.0)
        titled(axis, "layer", "step", f"Probe for {name}\n(shuffled labels {float(probe.control.mean()):.2f})")
    _by_step(axes[-1], figure, found.layer_dimensions, AMOUNT, "dimensions", 0.0, None)
    titled(axes[-1], "layer", "step", "Dimensions in use\n(participation ratio)")
    for axis in axes:
        axis.grid(False)
    return figure


def _by_step(
    axis: Axes, figure: Figure, values: Tensor, colours: str, label: str, low: float, high: float | None
) -> None:
    image = axis.imshow(values.numpy(), cmap=colours, vmin=low, vmax=high, origin="lower", aspect="auto")
    figure.colorbar(image, ax=axis, label=label)
