"""Together: several processes of this machine for a run, started by the run's own command."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from cellgraph.interruption import Interrupted, interruptible
from cellgraph.reading import read_json
from cellgraph.runs import load_experiment
from cellgraph.runs.building import check_processes


def wanted(count: object) -> int:
    """How many processes are to be started; 0 where this one does it all, or torchrun has started it.

    Args:
        count: The setting ``processes``.

    Raises:
        ValueError: If it is no number of processes.
    """
    count = check_processes(count)
    return 0 if count == 1 or "TORCHELASTIC_RUN_ID" in os.environ else count


def run_together(count: int) -> float:
    """Do the job that Hydra has at hand by so many processes of torchrun; the validation figure that chose the weights.

    Raises:
        SystemExit: If they fail, who have said why.
        Interrupted: After SIGINT or SIGTERM, once they have ended.
    """
    job = HydraConfig.get()
    place = Path(job.runtime.output_dir)
    sweeps = job.mode == RunMode.MULTIRUN
    # All that was asked of Hydra holds for them, too, but that each is one run, in the folder of this one.
    chosen = [override for override in job.overrides.hydra if not _replaced(override, sweeps)]
    if sweeps:
        chosen.append(f"hydra.run.dir={place}")
    else:
        # They make their own, and Hydra has made one for this process.
        with contextlib.suppress(OSError):
            place.rmdir()
    folders = [s.path.partition("://")[2] for s in job.runtime.config_sources if s.provider == "command-line"]
    flags = [f"--config-name={job.job.config_name}", *(f"--config-dir={folder}" for folder in folders)]
    # A free port for each run, so that a launcher may start several at once.
    torchrun = [sys.executable, "-m", "cellgraph.cli.torchrun", "--standalone", f"--nproc-per-node={count}"]
    verb = sys.argv[0].split()[-1]
    # A file of the group `sweep` among the overrides asks for a sweep.
    rest = [*flags, "hydra.mode=RUN", *chosen, *job.overrides.task]
    command = [*torchrun, "-m", "cellgraph", verb, *rest]
    # The cores are shared out; torchrun would give each process one thread and say so.
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    with interruptible(), subprocess.Popen(command, env=threads | os.environ) as child:
        try:
            code = child.wait()
        except Interrupted as stop:
            # Ctrl-C has reached them as well; they say what they keep.
            if stop.signum == signal.SIGTERM:
                child.terminate()
            child.wait()
            stop.told = True
            raise
    if code:
        sys.exit(code if code > 0 else 128 - code)
    return _score(place) if sweeps else math.nan


def _replaced(override: str, sweeps: bool) -> bool:
    """Whether an override of Hydra's own settings is not handed on: there is one of this module in its place."""
    key = override.partition("=")[0].lstrip("+~")
    return key == "hydra.mode" or (sweeps and key == "hydra.run.dir")


def _score(folder: Path) -> float:
    """The validation figure that chose the weights of a trained run."""
    experiment = load_experiment(folder)
    return float(read_json(experiment.folder.training).get(f"val/{experiment.task.monitor}", math.nan))
