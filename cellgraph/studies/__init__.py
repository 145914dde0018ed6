"""Studies: what many runs of a sweep say together, with their spread over seeds."""

from lazy_loader import attach_stub

# The names are in the stub beside this file; what one needs is imported when it is first used.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
