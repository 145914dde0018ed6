from .checkpoint import AtomicCheckpointIO, RunCheckpoint, model_weights, read_checkpoint
from .ema import EMA
from .interruption import GracefulStop, TrainingInterrupted
from .metrics_log import CSVLog, MetricsWriter
from .precision import recorded_precision, used_precision
from .progress import TrainingProgress
from .randomness import GlobalGenerators
from .run import TrainResult, run_updates
from .settings import RunSettings
from .stopping import Stopping
from .trainer import build_trainer, fit, run_checkpoint
from .update import NonFiniteError, UpdateModule

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
