"""torchrun without its own report where one of the processes fails, who has said why in one line.

A program of its own, ``python -m cellgraph.cli.torchrun``, which imports no more than it needs: it stays beside the
processes for as long as they train.
"""

from __future__ import annotations

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def torchrun() -> int:
    """Do what torchrun does with the arguments of this process; the exit code."""
    try:
        main()
    except ChildFailedError as failed:
        code = failed.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code
    except SignalException as stop:
        return 128 + stop.sigval
    return 0


if __name__ == "__main__":
    sys.exit(torchrun())
