"""Settling: where a run goes, and by which configuration."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from cellgraph import processes
from cellgraph.cli.errors import is_users
from cellgraph.cli.own_parts import fit_parts
from cellgraph.configuration import make_importable, own_parts, remember
from cellgraph.files import expanded
from cellgraph.folder import RunFolder
from cellgraph.runs import Experiment, build_experiment, load_experiment
from cellgraph.training import used_precision


def run_folder(resume: str | None, new: str) -> str:
    """The folder of a run: the one to resume, which must be there, or a new one."""
    return new if resume is None else str(RunFolder.open(expanded(str(resume)) or str(resume)))


OmegaConf.register_new_resolver("cellgraph.run_folder", run_folder, replace=True)


class SweepClaim(Callback):
    """Takes a folder for a sweep before Hydra writes into it, as each of its runs takes its own."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the folder by the file that Hydra keeps the sweep's configuration in."""
        place, overrides = Path(config.hydra.sweep.dir), config.hydra.overrides.hydra
        name = place.name
        for number in itertools.count(2):
            place.mkdir(parents=True, exist_ok=True)
            try:
                (place / "multirun.yaml").touch(exist_ok=False)
                break
            except FileExistsError:
                if _chosen("sweep.dir", overrides):
                    # Of what a callback raises, Hydra makes a warning.
                    sys.exit(f"{sys.argv[0]}: {place} holds a sweep already: choose another folder")
                place = place.with_name(f"{name}-{number}")
        if place.name != name:
            with open_dict(config):
                # From these the runs' configurations are made.
                config.hydra.sweep.dir = str(place)
                overrides.append(f"hydra.sweep.dir={place}")


@contextlib.contextmanager
def settled(config: DictConfig) -> Iterator[tuple[Experiment, bool]]:
    """The experiment of a configuration, in a folder that is its own, and whether it goes on with an earlier run.

    The folder is claimed before anything is written, and given back if nothing comes to be in it. Of several processes
    that train together the first one claims it, and the others come there.
    """
    processes.join()
    with _led(config) if processes.rank() == 0 else _followed(config) as found:
        yield found


@contextlib.contextmanager
def _led(config: DictConfig) -> Iterator[tuple[Experiment, bool]]:
    """The first process's, which tells the others its folder."""
    told = False
    try:
        with _claimed(config) as found:
            processes.broadcast(str(found[0].folder))
            told = True
            yield found
    finally:
        if not told:
            processes.broadcast(None)


@contextlib.contextmanager
def _followed(config: DictConfig) -> Iterator[tuple[Experiment, bool]]:
    """Another process's."""
    folder = processes.broadcast(None)
    own = Path(HydraConfig.get().runtime.output_dir)
    if folder != str(own):
        # Hydra has made one for each second in which a process started.
        with contextlib.suppress(OSError):
            own.rmdir()
    if folder is None:
        processes.leave()
    if config.resume is not None:
        yield load_experiment(folder), True
    else:
        yield build_experiment(_settle(config), folder, own=True), False


@contextlib.contextmanager
def _claimed(config: DictConfig) -> Iterator[tuple[Experiment, bool]]:
    place = Path(HydraConfig.get().runtime.output_dir)
    if config.resume is not None:
        given = [o for o in HydraConfig.get().overrides.task if not o.lstrip("+").startswith(("resume=", "processes="))]
        if given:
            raise ValueError(f"resume takes the settings of the run that it resumes, got also {', '.join(given)}")
        yield load_experiment(place), True
        return
    # Where nothing comes of it, Hydra's empty folder goes as well.
    with _not_left_empty(place):
        plain = _settle(config)
        # Without a folder of the user's choice another name is as good, where a second run starts in the same second.
        key = "sweep.dir" if HydraConfig.get().mode == RunMode.MULTIRUN else "run.dir"
        spare = not _chosen(key, HydraConfig.get().overrides.hydra)
        folder = RunFolder.claim(place, OmegaConf.to_yaml(config, resolve=True), spare=spare)
        try:
            experiment = build_experiment(plain, folder, own=True)
            if own_parts(plain):
                remember(folder)
            yield experiment, False
        except Exception as error:
            # What was wrong with the settings is put right in the same folder.
            folder.release(split=is_users(error))
            raise
        finally:
            folder.release()


def _settle(config: DictConfig) -> Any:
    """Settle a configuration, in place, as it is to be kept; the same in plain types."""
    make_importable(Path.cwd())
    fit_parts(config, HydraConfig.get().overrides.task)
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ValueError(f"a value is missing: give {', '.join(f'{key}=...' for key in missing)}")
    # The run is kept as it was, wherever it goes on.
    begun = config.get("weights_from")
    if isinstance(begun, str):
        config.weights_from = str(Path.cwd() / (expanded(begun) or begun))
    training = config.training
    training.precision = used_precision(training.precision, training.accelerator)
    return OmegaConf.to_container(config, resolve=True)


@contextlib.contextmanager
def _not_left_empty(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _chosen(key: str, overrides: Iterable[str]) -> bool:
    """Whether the user chose a folder: Hydra's own setting of that name was overridden."""
    return any(override.lstrip("+").startswith(f"hydra.{key}=") for override in overrides)
