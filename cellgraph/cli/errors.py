"""Errors: which of them a user can mend, and what they say in one line."""

from __future__ import annotations

import os
import shlex

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from cellgraph import texts
from cellgraph.files import expanded
from cellgraph.folder import for_hydra


def is_users(error: BaseException) -> bool:
    """Whether an error is about what was given, not about this program."""
    return isinstance(error, (ValueError, OSError, HydraException, OmegaConfBaseException))


def one_line(error: BaseException) -> str:
    """The message of an error, without what Hydra and OmegaConf wrap around it."""
    if isinstance(error, (InstantiationException, InterpolationResolutionError)) and error.__cause__ is not None:
        return one_line(error.__cause__)
    if isinstance(error, OverrideParseException) and "=" in error.override:
        return texts.one_line(
            f"cannot read {error.override}: a text with such signs is given as {_quoted(error.override)}"
        )
    text = texts.one_line(str(error))
    # What a resolver of this library has to say comes as the text of another error.
    text = text.rpartition(" raised while resolving interpolation: ")[2]
    return text.split(" full_key:")[0].split(" Config search path:")[0]


def process() -> str:
    """Which process says it, where torchrun started several and it is not the first."""
    number = os.environ.get("RANK", "0") if "TORCHELASTIC_RUN_ID" in os.environ else "0"
    return "" if number == "0" else f" (process {number})"


def _quoted(override: str) -> str:
    """An override whose value is a text, as the shell and Hydra take it; a home folder is written out."""
    key, _, value = override.partition("=")
    home = expanded(value) if value.startswith("~") else None
    return shlex.quote(f"{key}={for_hydra(value if home is None else str(home))}")
