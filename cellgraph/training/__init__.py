"""Training: the engine, which knows neither questions nor automata, and runs that can be stopped and resumed."""

from cellgraph.training.checkpoint import AtomicCheckpointIO, RunCheckpoint, model_weights, read_checkpoint
from cellgraph.training.ema import EMA
from cellgraph.training.interruption import GracefulStop, TrainingInterrupted
from cellgraph.training.metrics_log import CSVLog, MetricsWriter
from cellgraph.training.precision import recorded_precision, used_precision
from cellgraph.training.progress import TrainingProgress
from cellgraph.training.randomness import GlobalGenerators
from cellgraph.training.run import TrainResult, run_updates
from cellgraph.training.settings import RunSettings
from cellgraph.training.stopping import Stopping
from cellgraph.training.trainer import build_trainer, fit, run_checkpoint
from cellgraph.training.update import NonFiniteError, UpdateModule

__all__ = [
    "EMA",
    "AtomicCheckpointIO",
    "CSVLog",
    "GlobalGenerators",
    "GracefulStop",
    "MetricsWriter",
    "NonFiniteError",
    "RunCheckpoint",
    "RunSettings",
    "Stopping",
    "TrainResult",
    "TrainingInterrupted",
    "TrainingProgress",
    "UpdateModule",
    "build_trainer",
    "fit",
    "model_weights",
    "read_checkpoint",
    "recorded_precision",
    "run_checkpoint",
    "run_updates",
    "used_precision",
]
