"""The command ``cellgraph``: a thin shell around :class:`~cellgraph.experiment.Experiment`."""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from cellgraph.answering.command import ask, fit_decoder, read_questions
from cellgraph.automata import AutomatonExperiment
from cellgraph.benchmarks import command as benchmarks
from cellgraph.data import Split, split_pairs
from cellgraph.experiment import Experiment, describe_device
from cellgraph.files import write_atomically
from cellgraph.integrations.export import export_onnx, export_torch
from cellgraph.model import CellGraph
from cellgraph.nn import BACKENDS
from cellgraph.ops.segment import has_torch_scatter
from cellgraph.ops.triton.stencil import triton_obstacle
from cellgraph.teacher import EmbeddingCache, default_cache_folder

CONFIG = "config.yaml"

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)


def run_folder(resume: str | None, new: str) -> str:
    """The folder of a run: the one to resume, which must be there, or a new one."""
    if resume is not None and not (Path(resume) / CONFIG).is_file():
        raise ValueError(f"{resume} is no run folder of cellgraph: {CONFIG} is missing")
    return resume or new


OmegaConf.register_new_resolver("cellgraph.run_folder", run_folder, replace=True)


@hydra.main(version_base="1.3", config_path="pkg://cellgraph.conf", config_name="train")
def train(config: DictConfig) -> float:
    """Train and evaluate. A sweep optimises the mean reciprocal rank on the validation pairs."""
    try:
        return _train(config)
    except USER_ERRORS as error:
        # Hydra would put a line of its own before the message.
        sys.exit(f"cellgraph train: {_one_line(error)}")


def _train(config: DictConfig) -> float:
    config, folder, resume = settle(config)
    job = experiment(config, folder)
    job.run(functools.partial(make_split, config), resume=resume)
    return job.validation_mrr


@hydra.main(version_base="1.3", config_path="pkg://cellgraph.conf", config_name="automaton")
def automaton(config: DictConfig) -> None:
    """Train a neural cellular automaton, judge it on held-out data and draw what it does."""
    try:
        if config.resume is None and "task" not in config:
            raise ValueError("give experiment=NAME or task=NAME, see cellgraph automaton --help for the names")
        config, folder, resume = settle(config)
        automaton_experiment(config, folder).run(resume=resume)
    except USER_ERRORS as error:
        sys.exit(f"cellgraph automaton: {_one_line(error)}")


def settle(config: DictConfig) -> tuple[DictConfig, Path, bool]:
    """The configuration of a run, which is kept in its folder; the folder; and whether the run goes on."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    resume = config.resume is not None
    if resume:
        given = [o for o in HydraConfig.get().overrides.task if not o.startswith("resume=")]
        if given:
            raise ValueError(f"resume takes the settings of the run that it resumes, got also {', '.join(given)}")
        config = load_config(folder)
    else:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ValueError(f"a value is missing: give {', '.join(f'{key}=...' for key in missing)}")
        write_atomically(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True).encode())
    return config, folder, resume


def evaluate(arguments: Sequence[str]) -> None:
    """Judge a run's network again, beside its baselines; with --questions, by category of question."""
    parser = argparse.ArgumentParser(prog="cellgraph evaluate", description=evaluate.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument(
        "--questions",
        nargs="*",
        metavar="[CATEGORY=]FILE",
        help="pairs in any format that training reads, by their column `category` or all of one; `test`, which is also "
        "meant where nothing is named, are the run's held-out pairs",
    )
    given = parser.parse_args(arguments)
    job = experiment(load_config(given.run), given.run)
    pairs = job.load_pairs()
    if given.questions is None:
        job.evaluate(pairs, job.embed(pairs))
    else:
        asked = [pair for source in given.questions or ["test"] for pair in read_questions(source, pairs)]
        job.evaluate_questions(job.embed(pairs), asked)


def export(arguments: Sequence[str]) -> None:
    """Write a run's network as ONNX or for torch.export, checked for equal output."""
    parser = argparse.ArgumentParser(prog="cellgraph export", description=export.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="write an ONNX model")
    parser.add_argument("--torch", type=Path, metavar="FILE", help="write a program that torch.export.load reads")
    parser.add_argument("--num-steps", type=int, metavar="N", help="steps of the rollout, the network's own by default")
    options = parser.parse_args(arguments)
    wanted = [(export_onnx, options.onnx), (export_torch, options.torch)]
    if not any(path for _, path in wanted):
        parser.error("expected --onnx FILE, --torch FILE or both")
    model = CellGraph.from_pretrained(options.run / "model")
    for write, path in wanted:
        if path is not None:
            report = write(model, path, num_steps=options.num_steps)
            print(
                f"{path}: {report.num_bytes / 1e6:.1f} MB, {', '.join(report.inputs)} -> {', '.join(report.outputs)}, "
                f"differs by at most {report.difference:.1e}"
            )


def report(arguments: Sequence[str]) -> None:
    """Show what a run's network learned, on one page with pictures."""
    parser = argparse.ArgumentParser(prog="cellgraph report", description=report.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--out", type=Path, help="folder of the report (RUN/report by default)")
    parser.add_argument("--quick", action="store_true", help="measure less: rougher figures, in a fraction of the time")
    given = parser.parse_args(arguments)
    job = experiment(load_config(given.run), given.run)
    # Plotly, scikit-learn's manifolds and the templates take seconds to import; no other verb needs them.
    from cellgraph.analysis.report import report_run

    pairs = job.load_pairs()
    page = report_run(
        given.run, pairs.test, job.embed(pairs)["test"], given.out or given.run / "report", quick=given.quick
    )
    print(f"the report is {page}")


def info(arguments: Sequence[str]) -> None:
    """Tell versions, device, backends and folders, or what a run's network consists of."""
    parser = argparse.ArgumentParser(prog="cellgraph info", description=info.__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="run folder of `cellgraph train`")
    folder = parser.parse_args(arguments).run
    if folder is not None:
        model = CellGraph.from_pretrained(folder / "model")
        print(model)
        for part, count in model.parameter_counts().items():
            print(f"{part}: {count:,} parameters")
        return
    for package in ("cellgraph", "torch", "torch_geometric", "transformers", "lightning", "hydra-core"):
        print(f"{package} {importlib.metadata.version(package)}")
    print(f"device: {describe_device()}")
    missing = {"segment": not has_torch_scatter(), "triton": triton_obstacle() is not None}
    print(f"backends: {', '.join(name for name in BACKENDS if not missing.get(name))}")
    print(f"embedding cache: {default_cache_folder()}")


def experiment(config: DictConfig, folder: Path) -> Experiment:
    """The experiment that a configuration describes."""
    check_targets(config)
    torch.manual_seed(config.seed)
    build = functools.partial(instantiate, _convert_="all")
    return Experiment(
        folder,
        teacher=build(config.teacher),
        cache=EmbeddingCache(default_cache_folder()),
        model=build(config.model),
        objective=build(config.objective),
        settings=build(config.training),
        start=config.start,
        adapters_first=dict(config.adapters_first),
    )


def automaton_experiment(config: DictConfig, folder: Path) -> AutomatonExperiment:
    """The automaton's experiment that a configuration describes."""
    check_targets(config)
    torch.manual_seed(config.seed)
    build = functools.partial(instantiate, _convert_="all")
    task = build(config.task)
    return AutomatonExperiment(
        folder,
        # Not an argument of instantiate, which would copy the lattice into a configuration.
        cell=build(config.cell, _partial_=True)(lattice=task.lattice),
        task=task,
        settings=build(config.training),
        pool=build(config.pool) if config.get("pool") else None,
        curriculum=build(config.curriculum) if config.get("curriculum") else None,
    )


def check_targets(config: DictConfig) -> None:
    """Refuse a configuration that builds anything else than this library's parts."""
    for target in targets(OmegaConf.to_container(config)):
        # A run folder may come from somebody else: its configuration may name this library's parts and no others.
        if not target.startswith("cellgraph."):
            raise ValueError(f"a configuration may only build parts of cellgraph, got _target_: {target}")


def make_split(config: DictConfig) -> Split:
    """The pairs that a configuration names, split by group."""
    data = config.data
    return split_pairs(instantiate(data.source)(), test=data.test, validation=data.validation, seed=data.seed)


def load_config(folder: Path) -> DictConfig:
    """The configuration of a run folder.

    Raises:
        ValueError: If the folder is no run folder, or its configuration cannot be read.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder of cellgraph: {CONFIG} is missing")
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path} must hold a mapping")
    return config


def targets(node: Any) -> list[str]:
    """All values of ``_target_`` in a nested container."""
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return [target for value in node for target in targets(value)] if isinstance(node, list) else []


VERBS = {
    "train": train,
    "automaton": automaton,
    "evaluate": evaluate,
    "report": report,
    "ask": ask,
    "fit-decoder": fit_decoder,
    "export": export,
    "bench": benchmarks.main,
    "info": info,
}


def main() -> None:
    """Run the verb on the command line; what a user did wrong is told in one line."""
    verb, arguments = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if verb in ("-h", "--help"):
        print(f"usage: cellgraph {{{','.join(VERBS)}}} ...\n\n{__doc__}\n")
        for name, function in VERBS.items():
            print(f"  cellgraph {name:<13}{(function.__doc__ or '').splitlines()[0]}")
        return
    if verb == "--version":
        print(importlib.metadata.version("cellgraph"))
        return
    if verb not in VERBS:
        sys.exit(f"cellgraph: expected one of {', '.join(VERBS)}, got {verb!r}")
    # Hydra prints tracebacks and exits by itself unless told that the caller wants to see its errors.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        if verb in ("train", "automaton"):
            # Hydra reads its arguments from there.
            sys.argv = [f"cellgraph {verb}", *arguments]
            VERBS[verb]()
        else:
            VERBS[verb](arguments)
    except USER_ERRORS as error:
        sys.exit(f"cellgraph {verb}: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    """The message of an error, without what Hydra and OmegaConf wrap around it."""
    if isinstance(error, (InstantiationException, InterpolationResolutionError)) and error.__cause__ is not None:
        return _one_line(error.__cause__)
    text = " ".join(str(error).split())
    return text.split(" full_key:")[0].split(" Config search path:")[0]
