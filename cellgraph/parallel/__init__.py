"""Cubes larger than one device: their slabs lie in different processes, which exchange halos at every step."""

from lazy_loader import attach_stub

# The names are in the stub beside this file; what one needs is imported when it is first used.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
