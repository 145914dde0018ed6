"""Analysis: what a lattice is worth beside its baselines, on pairs it has not seen."""

from cellgraph.analysis.baselines import Baseline, Identity, MeanAnswer, Procrustes, Ridge, closed_forms
from cellgraph.analysis.bootstrap import Interval, bootstrap_interval, bootstrap_intervals, paired_difference
from cellgraph.analysis.controls import AdaptersAlone, LinearMLP
from cellgraph.analysis.evaluation import Evaluation, Prediction, evaluate, predict, predict_closed_forms
from cellgraph.analysis.metrics import (
    chance_level,
    cosine,
    csls,
    distinct_answers,
    neighbourhood_cosine,
    ranks,
    recall_at_k,
    reciprocal_ranks,
)
from cellgraph.analysis.nearest import NearestAnswers, nearest_answers
from cellgraph.analysis.plots import plot_loss, plot_run, plot_similarity, read_metrics
from cellgraph.analysis.table import markdown, print_evaluation, save_evaluation

__all__ = [
    "AdaptersAlone",
    "Baseline",
    "Evaluation",
    "Identity",
    "Interval",
    "LinearMLP",
    "MeanAnswer",
    "NearestAnswers",
    "Prediction",
    "Procrustes",
    "Ridge",
    "bootstrap_interval",
    "bootstrap_intervals",
    "chance_level",
    "closed_forms",
    "cosine",
    "csls",
    "distinct_answers",
    "evaluate",
    "markdown",
    "nearest_answers",
    "neighbourhood_cosine",
    "paired_difference",
    "plot_loss",
    "plot_run",
    "plot_similarity",
    "predict",
    "predict_closed_forms",
    "print_evaluation",
    "ranks",
    "read_metrics",
    "recall_at_k",
    "reciprocal_ranks",
    "save_evaluation",
]
