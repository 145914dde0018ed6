from .docstrings import docstring_pairs
from .follow_ups import follow_up_pairs
from .pairs import QAPair, normalise_text, save_pairs
from .quality import clean_pairs
from .readers import read_pairs
from .rows import Rows, read_rows
from .split import Split, group_numbers, group_pairs, split_pairs, train_on_more
from .starter import STARTER_CATEGORIES, starter_pairs

__all__ = [
    "STARTER_CATEGORIES",
    "QAPair",
    "Rows",
    "Split",
    "clean_pairs",
    "docstring_pairs",
    "follow_up_pairs",
    "group_numbers",
    "group_pairs",
    "normalise_text",
    "read_pairs",
    "read_rows",
    "save_pairs",
    "split_pairs",
    "starter_pairs",
    "train_on_more",
]
