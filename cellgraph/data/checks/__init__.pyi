from .account import change_lines, inspection_dict, inspection_markdown, kind_rows
from .cleaning import check_format, write_clean
from .coherence import Coherence, judge_coherence
from .finding import ACTIONS, CHECKS, KINDS, Finding, Kind
from .inspection import Inspection, inspect_pairs
from .settings import CheckSettings

__all__ = [
    "ACTIONS",
    "CHECKS",
    "KINDS",
    "CheckSettings",
    "Coherence",
    "Finding",
    "Inspection",
    "Kind",
    "change_lines",
    "check_format",
    "inspect_pairs",
    "inspection_dict",
    "inspection_markdown",
    "judge_coherence",
    "kind_rows",
    "write_clean",
]
