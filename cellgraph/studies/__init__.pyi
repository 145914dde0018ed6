from .comparison import Comparison, Outcome, compare
from .law import PowerLaw
from .pages import write_study
from .runs import StudiedRun, read_runs
from .settings import differing

__all__ = [
    "Comparison",
    "Outcome",
    "PowerLaw",
    "StudiedRun",
    "compare",
    "differing",
    "read_runs",
    "write_study",
]
