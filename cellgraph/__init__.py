"""Lattices of small shared networks: cellular, recurrent, trained by message passing."""

from lazy_loader import attach_stub

__version__ = "0.1.0"

# The names are in the stub beside this file; what one needs is imported when it is first used.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
