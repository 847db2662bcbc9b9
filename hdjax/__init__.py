"""hdjax: does a high-dimensional algorithm do what its deterministic equivalent says?

The package runs many random trajectories of an algorithm at dimension d side by side, integrates
the limit d -> infinity on the same device, and compares the two.

The public names are listed in `__init__.pyi`.  A name is imported when it is first used, so that a
program waits only for the families that it needs (Scientific Python SPEC 1).
"""

import importlib.metadata

import lazy_loader

__version__ = importlib.metadata.version("hdjax")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
