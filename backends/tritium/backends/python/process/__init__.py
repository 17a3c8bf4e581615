"""What runs inside a model's process. It may import numpy, msgspec, the standard library and compat, no more."""
