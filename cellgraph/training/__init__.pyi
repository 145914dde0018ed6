from .checkpoint import model_weights, read_checkpoint
from .ema import EMA
from .interruption import GracefulStop, Interrupted
from .metrics_log import CSVLog, MetricsWriter
from .precision import recorded_precision, used_precision
from .progress import TrainingProgress
from .randomness import GlobalGenerators
from .result import TrainResult
from .run import train
from .saving import AtomicCheckpointIO, RunCheckpoint
from .settings import RunSettings
from .stopping import Stopping
from .task import Job, Learned, Lesson, Task
from .trainer import build_trainer, fit
from .update import NonFiniteError, UpdateModule

__all__ = [
    "EMA",
    "AtomicCheckpointIO",
    "CSVLog",
    "GlobalGenerators",
    "GracefulStop",
    "Interrupted",
    "Job",
    "Learned",
    "Lesson",
    "MetricsWriter",
    "NonFiniteError",
    "RunCheckpoint",
    "RunSettings",
    "Stopping",
    "Task",
    "TrainResult",
    "TrainingProgress",
    "UpdateModule",
    "build_trainer",
    "fit",
    "model_weights",
    "read_checkpoint",
    "recorded_precision",
    "train",
    "used_precision",
]
