"""Processes that train together, started as torchrun starts them, but with the imports behind them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "lightning", "cellgraph.training.trainer", "cellgraph.retrieval.lesson"])


def together(count: int, function: Callable[..., Any], *arguments: Any, must_end: bool = True) -> list[Any]:
    """What a function returns in each of several processes; where one fails, its exit status or error as text.

    Args:
        count: How many.
        function: A function of a module.
        arguments: Its arguments.
        must_end: Whether each must come to an end that is good.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(count)]
    members = [
        CONTEXT.Process(target=_member, args=(rank, count, port, pipes[rank][1], function, arguments))
        for rank in range(count)
    ]
    for member, (_, end) in zip(members, pipes, strict=True):
        member.start()
        end.close()
    results = []
    for member, (begin, _) in zip(members, pipes, strict=True):
        try:
            good, result = begin.recv()
        except EOFError:
            good, result = False, None
        member.join(60)
        assert good or not must_end, result
        results.append(result if result is not None or good else member.exitcode)
    return results


def _member(rank: int, count: int, port: int, pipe: Any, function: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    if count > 1:
        os.environ |= {
            "TORCHELASTIC_RUN_ID": "test",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    try:
        pipe.send((True, function(*arguments)))
    except SystemExit as stop:
        pipe.send((False, f"SystemExit: {stop.code}"))
    except BaseException as error:
        pipe.send((False, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


def on_pairs(folder: Path, options: dict[str, Any], signum: int = 0, at: int = 0) -> dict[str, Any]:
    """A run on dialogues with everything random at once; process 1 has a signal at one of its batches."""
    from cellgraph import CellGraph, GMLPCell, Lattice, processes
    from cellgraph.retrieval import EmbeddedPairs, PairLesson, Retrieval, TrainSettings, standard_objective
    from cellgraph.training import train

    torch.manual_seed(0)
    cell = GMLPCell(Lattice((2, 3, 3)), 8, hidden=8, heads=2, fire_rate=0.7, memory_channels=2)
    model = CellGraph(cell, in_features=6, surface_channels=1, num_steps=(2, 4))
    question, answer = torch.randn(39, 6), torch.randn(39, 6)
    # A row that is far too large for its square.
    question[options.pop("spoilt", [])] = 1e30
    pairs = EmbeddedPairs(question, answer, dialogue=[str(row // 3) for row in range(39)])
    settings = {"max_steps": 8, "batch_size": 5, "accumulate": 2, "ema": 0.9, "lr": 0.02, "warmup_steps": 2}
    settings |= {"val_every": 4, "checkpoint_every": 2, "log_every": 1, "accelerator": "cpu", "compile": False}
    task = Retrieval(standard_objective(internal=0.5, turn=0.5, direction="symmetric"), pairs, pairs)
    learn, batches = PairLesson.learn, []

    def watched(*given: Any, **named: Any) -> Any:
        batches.append(None)
        if signum and len(batches) == at and processes.rank() == 1:
            os.kill(os.getpid(), signum)
        return learn(*given, **named)

    PairLesson.learn = watched  # type: ignore[method-assign]
    how = {"folder": folder, "resume": options.pop("resume", False), "sharded": options.pop("sharded", False)}
    result = train(model, task, TrainSettings(**settings | options), progress=False, go_on="go on", **how)
    return result.to_dict() | {"weights": sum(float(p.double().sum()) for p in model.parameters())}


def on_states(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """An automaton with a pool, noise and both penalties."""
    from cellgraph import Lattice
    from cellgraph.automata import AutomatonSettings, Batch, SamplePool, Task, train_automaton
    from cellgraph.nn import NCACell

    class Fade(Task):
        def sample(self, size: int, generator: torch.Generator) -> Batch:
            return Batch(torch.randn(size, self.lattice.num_nodes, 4, generator=generator))

        def loss(self, x: torch.Tensor, batch: Batch) -> torch.Tensor:
            return (x - 0.5).square().mean((1, 2))

    torch.manual_seed(0)
    lattice = Lattice((4, 4))
    settings = {"max_steps": 6, "batch_size": 5, "num_steps": (2, 4), "noise": 0.1, "overflow": 0.5, "drift": 0.1}
    settings |= {"log_every": 1, "val_every": 3, "accelerator": "cpu", "lr": 0.01, "supervise": 2}
    result = train_automaton(
        NCACell(lattice, 4, fire_rate=0.5),
        Fade(lattice),
        AutomatonSettings(**settings | options),
        pool=SamplePool(12, reseed=1, damage=1),
        folder=folder,
        progress=False,
    )
    return result.to_dict()


def on_learned_states(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """An automaton whose task learns where samples start and how they are read, small lattices first where asked."""
    from cellgraph import Lattice
    from cellgraph.automata import Automaton, AutomatonSettings, Batch, Curriculum, Task
    from cellgraph.nn import NCACell
    from cellgraph.training import train

    class Learned(Task):
        def __init__(self, side: int) -> None:
            super().__init__(Lattice((side, side)))
            self.start, self.readout = torch.nn.Embedding(3, 4), torch.nn.Linear(4, 3)

        def resized(self, shape: tuple[int, ...]) -> Task:
            return Learned(shape[0])

        def sample(self, size: int, generator: torch.Generator) -> Batch:
            kind = torch.randint(3, (size,), generator=generator)
            return Batch(self.start(kind)[:, None].expand(-1, self.lattice.num_nodes, -1), target=kind)

        def loss(self, x: torch.Tensor, batch: Batch) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(self.readout(x.mean(1)), batch.target, reduction="none")

    torch.manual_seed(0)
    task = Learned(4)
    task.curriculum = Curriculum(shapes=options.pop("shapes", {}))
    settings = {"max_steps": 6, "batch_size": 5, "num_steps": 2, "log_every": 1, "val_every": 3, "accelerator": "cpu"}
    how = {"folder": folder, "sharded": options.pop("sharded", False), "progress": False}
    result = train(Automaton(NCACell(task.lattice, 4), task), task, AutomatonSettings(**settings | options), **how)
    learned = {name: p.detach().double().tolist() for name, p in task.named_parameters()}
    return result.to_dict() | {"learned": learned}


def by_command(folder: Path, arguments: list[str], lost: int, where: str) -> None:
    """A run by the command line; one of the processes is killed where a method of the task is called."""
    from cellgraph import processes
    from cellgraph.cli import main
    from cellgraph.retrieval import QuestionAnswering

    method = getattr(QuestionAnswering, where)

    def killed(*given: Any) -> Any:
        if int(os.environ["RANK"]) == lost:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*given)

    setattr(QuestionAnswering, where, killed)
    os.chdir(folder)
    sys.argv = ["cellgraph", "train", *arguments]
    assert processes.launched() > 1
    main()


def gradients_of_rows(query: torch.Tensor, key: torch.Tensor) -> list[list[list[float]]]:
    """The gradients of this process's rows of both sides, by a loss of its own rows against those of all processes."""
    from cellgraph import processes
    from cellgraph.retrieval.contrast import contrast

    processes.join()
    with processes.sharing(len(query)):
        part = processes.share(len(query))
        own = [x[part].clone().requires_grad_() for x in (query, key)]
        queries, keys = map(processes.gathered, own)
        contrast(queries @ keys.T).backward()
        return [(x.grad / processes.world()).tolist() for x in own]


def second_derivatives() -> list[str]:
    """What is said of second derivatives through each exchange between processes."""
    from cellgraph import processes
    from cellgraph.parallel.halo import Exchange, Line, Sides, Total

    processes.join()
    said = []

    def attempt(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        x = torch.ones(1, 3, 2, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        try:
            grad.sum().backward()
            said.append("nothing")
        except RuntimeError as error:
            said.append(str(error))

    def exchanged(x: torch.Tensor) -> torch.Tensor:
        line = Line(processes.rank(), processes.world(), periodic=True)
        exchange = Exchange(line, Sides(1, 1), Sides(1, 1))
        return torch.cat(exchange.end(exchange.begin(x)))

    attempt(exchanged)
    attempt(lambda x: Total.apply(x, None))
    with processes.sharing(processes.world()):
        attempt(processes.gathered)
    return said


def contrasted(query: torch.Tensor, key: torch.Tensor) -> list[list[float]]:
    """The gradient of the queries by a contrast of the rows of all processes, of which this one has its share."""
    from cellgraph import processes
    from cellgraph.retrieval.contrast import contrast

    processes.join()
    with processes.sharing(len(query)):
        own = query[processes.share(len(query))].requires_grad_()
        contrast(processes.gathered(own) @ processes.gathered(key[processes.share(len(key))]).T).backward()
        # Not as a tensor, whose memory would go with the process.
        return (own.grad / processes.world()).tolist()


def split_cell(kind: str, lattice: Any) -> Any:
    """A cell whose slabs are split."""
    from cellgraph.nn import GMLPCell, NCACell

    if kind in ("gmlp", "one context"):
        options = {"gate_std": 0.3, "out_std": 0.5, "context_channels": 2}
        return GMLPCell(lattice, 4, hidden=4, heads=2, **options).double()
    options = {"alive_channel": 3, "alive_threshold": 1.5, "fire_rate": 0.5} if kind in ("living", "drawn") else {}
    if kind == "frozen":
        options["perception"] = {"name": "stencil", "num_filters": 2, "trainable": False}
    return NCACell(lattice, 4, update={"name": "mlp", "hidden": 6}, **options).double()


def split_inputs(kind: str, lattice: Any, steps: int) -> dict[str, torch.Tensor]:
    """States, their weights in the loss, a context and update masks for the whole lattice, and a cell's weights."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    nodes = lattice.num_nodes
    inputs = {"x": draw(2, nodes, 4), "weight": draw(2, nodes, 4)}
    inputs["context"] = draw(1, nodes, 2)
    inputs["masks"] = (draw(steps, 2, nodes, 1) > 0).double()
    cell = split_cell(kind, lattice)
    return inputs | {f"cell.{name}": 0.5 * draw(*x.shape) for name, x in cell.state_dict().items()}


def split_run(kind: str, given: dict[str, Any], steps: int, overlap: bool) -> dict[str, Any]:
    """What a process comes to with its slab: final states, and the gradients of its states and of all parameters."""
    from torch.distributed.device_mesh import init_device_mesh

    from cellgraph import Lattice, processes
    from cellgraph.parallel import DepthSplit, SplitCell

    processes.join()
    mesh = init_device_mesh("cpu", (processes.world(),), mesh_dim_names=("depth",)) if processes.world() > 1 else None
    inputs = split_inputs(kind, Lattice(**given), steps)
    split = DepthSplit(**given, mesh=mesh)
    cell = SplitCell(split, lambda lattice: split_cell(kind, lattice), overlap=overlap)
    cell.load_whole({name[5:]: x for name, x in inputs.items() if name.startswith("cell.")})
    if kind == "frozen":
        cell.cell.step_size = 0.25
    # As a surface's encoder has it: only the first process's states have a gradient.
    x = split.own(inputs["x"]).clone().requires_grad_(processes.rank() == 0)
    options = {"context": split.own(inputs["context"])} if kind == "gmlp" else {}
    options |= {"context": inputs["context"][:, :1]} if kind == "one context" else {}
    options |= {"masks": split.own(inputs["masks"], 2)} if kind == "living" else {}
    torch.manual_seed(7)
    after = cell(x, num_steps=steps, **options)
    loss = split.total((after * split.own(inputs["weight"])).sum())
    loss.backward()
    cell.reduce_gradients()
    found = {"loss": loss, "after": after, **({"x": x.grad} if x.grad is not None else {})}
    found |= {f"cell.{name}": p.grad for name, p in cell.cell.named_parameters()}
    return {name: value.detach().numpy() for name, value in found.items()} | {"overlap": cell.overlap}
