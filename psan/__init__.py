"""PSAN, the Prototype-enhanced Spatial Attention Network, as plain torch modules."""

from psan.model import PSAN
from psan.reference import load_reference_weights

__all__ = ["PSAN", "load_reference_weights"]
