"""The verb ``train``: a model trained for a task, judged on held-out data, in a run folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from cellgraph import processes
from cellgraph.cli.errors import is_users, one_line, process
from cellgraph.cli.own_parts import check_choices, opened
from cellgraph.cli.settling import settled
from cellgraph.cli.together import run_together, wanted
from cellgraph.folder import RunFolder
from cellgraph.interruption import Interrupted

#: Hydra's settings that say where a run goes.
FOLDERS = ("hydra.run.dir=", "hydra.sweep.dir=", "hydra.sweep.subdir=")
#: Only automata choose from tasks.
AUTOMATON = "kind=automaton"


@hydra.main(version_base="1.3", config_path="pkg://cellgraph.conf", config_name="train")
def train(config: DictConfig) -> float:
    """Train and evaluate. A sweep optimises the validation figure that chooses the weights."""
    verb = sys.argv[0]
    try:
        if together := wanted(config.processes):
            return run_together(together)
        with processes.noticed(lambda: "nothing had been begun"), settled(config) as (experiment, resume):
            try:
                # Training says by itself where there is a checkpoint.
                with processes.noticed(lambda: _kept(experiment.folder)):
                    experiment.run(resume=resume)
            except Interrupted as stop:
                if not stop.told:
                    print(f"{verb}: stopped by {stop.name}; {_kept(experiment.folder)}", file=sys.stderr)
                    stop.told = True
                raise
    except Exception as error:
        if not is_users(error):
            raise
        # Hydra would put a line of its own before the message.
        sys.exit(f"{verb}{process()}: {one_line(error)}")
    return experiment.score


def main(arguments: Sequence[str], verb: str = "train") -> None:
    """Run the verb.

    Raises:
        ValueError: If a sweep is asked to resume, or a run in another folder than its own, or nothing says what an
            automaton is trained for.
    """
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    # Hydra takes `+` and `++` before any key.
    plain = [argument.lstrip("+") for argument in arguments]
    of_file = any(argument.startswith("sweep=") for argument in plain) and "hydra.mode=RUN" not in plain
    many = bool(flags) or of_file or "hydra.mode=MULTIRUN" in plain
    if many and "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1:
        raise ValueError(
            "a sweep within torchrun would start every run in every process: start the sweep without it, and with "
            "processes=2"
        )
    runs = [argument.partition("=")[2] for argument in plain if argument.startswith("resume=")]
    elsewhere = [argument for argument in arguments if argument.lstrip("+").startswith(FOLDERS)]
    if runs and elsewhere:
        raise ValueError(f"a run goes on in its own folder, {runs[0]}: leave out {', '.join(elsewhere)}")
    if runs and many:
        commands = ", ".join(RunFolder.command("train", resume=run) for run in runs[0].split(","))
        raise ValueError(f"a sweep starts new runs; go on with each by itself: {commands}")
    check_choices(arguments)
    told = ("experiment=", "task=", "task.", "resume=", "--", "-h")
    if AUTOMATON in plain and not any(argument.startswith(told) for argument in plain):
        raise ValueError("give experiment=NAME or task=NAME, see cellgraph automaton --help for the names")
    automaton = any(argument.startswith(("task=", "task.")) for argument in plain)
    # Hydra reads its arguments from there. Overrides must follow each other, and `-m` may be among them.
    rest = opened([argument for argument in arguments if argument not in flags])
    if automaton and not runs and not any(argument.startswith("kind=") for argument in plain):
        rest = beside_overrides(rest, AUTOMATON)
    sys.argv = [f"cellgraph {verb}", *flags, *rest]
    train()


def beside_overrides(arguments: Sequence[str], override: str) -> list[str]:
    """A command line with another override, put where the others are: Hydra takes only those that follow each other.

    Example:
        >>> beside_overrides(["--cfg", "job", "seed=1"], "kind=automaton")
        ['--cfg', 'job', 'kind=automaton', 'seed=1']
    """
    overrides = (at for at, argument in enumerate(arguments) if "=" in argument and not argument.startswith("-"))
    first = next(overrides, len(arguments))
    return [*arguments[:first], override, *arguments[first:]]


def _kept(folder: RunFolder) -> str:
    """What a run that is stopped leaves behind, and how to go on with it."""
    if folder.training.exists():
        again = folder.command("evaluate", folder)
        return f"the trained model is in {folder}; go on with: {again}"
    kept = [name for name, path in (("pairs", folder.pairs("test")), ("teacher", folder.teacher)) if path.exists()]
    kept += [f"stage {stage.path.name!r}" for stage in folder.stages() if stage.training.exists()]
    kept += ["checkpoint"] if folder.last.exists() else []
    # The first process gives a folder back in which there is nothing else.
    kept += ["configuration"] if processes.rank() and folder.config.exists() else []
    if not kept:
        return "nothing had been begun, and nothing is left behind"
    return f"kept in {folder}: {', '.join(kept)}; go on with: {folder.command('train', resume=folder)}"
