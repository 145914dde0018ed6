"""The model of pairs: from questions and answers to a trained network and its table in a few lines."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from cellgraph.folder import RunFolder
from cellgraph.generators import generator_states, own_generators, restore_generators
from cellgraph.graph import Graph
from cellgraph.model import CellGraph
from cellgraph.nn import Cell, GMLPCell
from cellgraph.numbers import plain_numbers
from cellgraph.retrieval import Evaluation, Objective, QuestionAnswering, TrainSettings, standard_objective
from cellgraph.retrieval.question_answering import ADAPTERS_FIRST
from cellgraph.runs.experiment import Experiment
from cellgraph.runs.pair_dataset import PairDataset


class PairModel:
    """A lattice that is trained on pairs and judged beside its baselines, as ``cellgraph train`` does: with the same
    settings and seed the figures are the same. The random state of the process is as before afterwards.

    Args:
        data: The pairs, split.
        lattice: Where the cells are.
        cell: The cell, on that lattice; by default a :class:`~cellgraph.GMLPCell` whose new gate hears its neighbours.
        surface_channels, path, key, readout, readout_channels, adapter, num_steps: See :class:`~cellgraph.CellGraph`.
        objective: What it is trained for, by default the :func:`~cellgraph.retrieval.standard_objective`.
        start, adapters_first, control_trials, lattice_controls: See
            :class:`~cellgraph.retrieval.QuestionAnswering`.
        folder: Run folder, which ``cellgraph ask`` takes; without one nothing is left behind.
        seed: Seed of everything random.

    Attributes:
        network: The trained :class:`~cellgraph.CellGraph`.

    Raises:
        ValueError: If the pairs are not split, or an argument does not fit.

    Example:
        >>> from cellgraph import Lattice
        >>> from cellgraph.teacher import LSATeacher
        >>> animals, places = "ant bee cat dog eel fox".split(), "sea wood hill lake town".split()
        >>> pairs = [(f"Is the {a} by the {b}?", f"The {a} is by the {b}.") for a in animals for b in places]
        >>> data = PairDataset.of(pairs, teacher=LSATeacher(4)).split(test=6, validation=6)
        >>> model = PairModel(data, Lattice((2, 3, 3)), num_steps=2, adapters_first={})
        >>> _ = model.fit(max_steps=2, batch_size=8, compile=False, accelerator="cpu", progress=False)
        >>> [row["name"] for row in model.evaluate().rows][-3:]
        ['adapters alone', 'linear + MLP', 'lattice']
    """

    @plain_numbers
    def __init__(
        self,
        data: PairDataset,
        lattice: Graph,
        *,
        cell: Cell | None = None,
        surface_channels: int = 8,
        path: str = "linear",
        key: str = "linear",
        readout: Any = "surface",
        readout_channels: int | None = None,
        adapter: str | Mapping[str, Any] = "pca",
        num_steps: int | Sequence[int] = 10,
        objective: Objective | None = None,
        start: str = "identity",
        adapters_first: Mapping[str, Any] | None = ADAPTERS_FIRST,
        control_trials: Mapping[str, Any] | None = None,
        lattice_controls: bool = False,
        folder: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> None:
        if data.parts is None:
            raise ValueError(f"{data} is not split: a model needs pairs to train with, to validate by and to judge by")
        parts, self.data, self.seed = data.parts, data, seed
        with own_generators(self.seed):
            cell = GMLPCell(lattice, gate_std=0.2, out_std=1.0) if cell is None else cell
        if cell.lattice != lattice:
            raise ValueError(f"the cell must be on {lattice}, it is on {cell.lattice}")
        self._make = functools.partial(
            CellGraph,
            cell,
            surface_channels=surface_channels,
            path=path,
            key=key,
            readout=readout,
            readout_channels=readout_channels,
            adapter=adapter,
            num_steps=num_steps,
        )
        self._task = QuestionAnswering(
            lambda: parts,
            data.teacher,
            standard_objective() if objective is None else objective,
            start=start,
            adapters_first=adapters_first,
            control_trials=control_trials,
            lattice_controls=lattice_controls,
        )
        self.folder = None if folder is None else RunFolder(folder)
        self._place: TemporaryDirectory[str] | None = None
        self._experiment: Experiment | None = None
        self._network: CellGraph | None = None
        self._drawn: dict[str, Any] = {}

    @property
    def network(self) -> CellGraph:
        """The trained network.

        Raises:
            ValueError: If it is not trained yet.
        """
        if self._network is None:
            raise ValueError("there is no network yet: fit it first")
        return self._network

    def fit(self, *, resume: bool = False, progress: bool = True, **settings: Any) -> PairModel:
        """Train; the network of the best validation is kept.

        Args:
            resume: Go on from where an earlier call was interrupted.
            progress: Whether to show progress.
            settings: Those of :class:`~cellgraph.retrieval.TrainSettings` that are to be others.

        Raises:
            ValueError: If there is no such setting, one does not fit, or the folder holds a trained network already.
            Interrupted: After SIGINT or SIGTERM.
        """
        try:
            told = TrainSettings(**{"seed": self.seed, **settings})
        except TypeError as error:
            raise ValueError(f"fit takes settings of training: {error}") from error
        # Until it is trained there is none: what is left of an earlier training is not judged as this one's.
        self._network = None
        if self.folder is None and not (resume and self._place is not None):
            self._place = TemporaryDirectory()
        folder = RunFolder(self._place.name) if self._place is not None else self.folder
        assert folder is not None
        self._experiment = Experiment(folder, self._task, self._make, told, Console(quiet=not progress))
        with own_generators(cuda=True):
            self._network = self._experiment.train(resume=resume, progress=progress, go_on="fit(resume=True)").model
            # Its baselines draw from there, as where one command does it all.
            self._drawn = generator_states()
        return self

    def evaluate(self) -> Evaluation:
        """Judge the network on the held-out pairs beside its baselines, which are trained for that; printed, it is the
        table.

        Raises:
            ValueError: If it is not trained yet.
        """
        network = self.network
        assert self._experiment is not None
        # The table is the caller's to print.
        quiet = replace(self._experiment, console=Console(quiet=True))
        with own_generators(cuda=True):
            restore_generators(self._drawn)
            evaluation = quiet.judge(network, go_on="evaluate()")
        assert isinstance(evaluation, Evaluation)
        return evaluation

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.data}, {self._make.args[0].lattice}, trained={self._network is not None})"
