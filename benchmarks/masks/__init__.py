"""Which readings are hidden from the methods and scored.

`True` in a drawn mask means "hide this entry". A generator is a pure function of arrays, a seed
and its parameters; `conf/mask/*.yaml` names it.
"""

from benchmarks.masks.grin import point, published
from benchmarks.masks.masked import MaskedSeries, mask_hash

__all__ = ["MaskedSeries", "mask_hash", "point", "published"]
