"""Settling: where a run goes, and by which configuration."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cellgraph.cli.building import CONFIG, load_config
from cellgraph.files import write_atomically
from cellgraph.training import used_precision


def run_folder(resume: str | None, new: str) -> str:
    """The folder of a run: the one to resume, which must be there, or a new one."""
    if resume is not None and not (Path(resume) / CONFIG).is_file():
        raise ValueError(f"{resume} is no run folder of cellgraph: {CONFIG} is missing")
    return resume or new


OmegaConf.register_new_resolver("cellgraph.run_folder", run_folder, replace=True)


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
        # The run is kept as it was, wherever it goes on.
        training = config.training
        training.precision = used_precision(training.precision, training.accelerator)
        write_atomically(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True).encode())
    return config, folder, resume
