"""A series of which part is hidden."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool

from benchmarks.data.series import Series


@dataclass(frozen=True, eq=False)
class MaskedSeries:
    """A series of which part is hidden: what methods may see, and what they are scored on."""

    series: Series
    drawn: Bool[np.ndarray, "t n"]

    @cached_property
    def held_out(self) -> Bool[np.ndarray, "t n"]:
        """True where a real reading is hidden: what is scored."""
        return self.drawn & self.series.observed

    @cached_property
    def visible(self) -> Bool[np.ndarray, "t n"]:
        """True where a method may look, in training too."""
        return self.series.observed & ~self.drawn

    @cached_property
    def visible_values(self) -> np.ndarray:
        """Readings in original units `[t n]`, NaN where not visible."""
        return np.where(self.visible, self.series.values, np.float32(np.nan))

    @cached_property
    def mask_hash(self) -> str:
        """SHA-256 (16 hex digits) of the drawn mask as uint8 `(t, n, 1)` in C order."""
        return mask_hash(self.drawn)

    def rates(self) -> dict[str, float]:
        """Shares of all entries: missing natively, hidden on top, and both."""
        native = 1 - float(self.series.observed.mean())
        hidden = float(self.held_out.mean())
        return {"rate_native": native, "rate_hidden": hidden, "rate_total": native + hidden}


def mask_hash(drawn: Bool[np.ndarray, "t n"]) -> str:
    """SHA-256, first 16 hex digits, of the mask as uint8 in C order."""
    return hashlib.sha256(np.ascontiguousarray(drawn, dtype=np.uint8).tobytes()).hexdigest()[:16]
