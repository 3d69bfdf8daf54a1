"""Every site adds a share of one noise, drawn on integers: the event `pooled-gaussian`."""

from privacy.mechanisms.pooled.event import PooledGaussian
from privacy.mechanisms.pooled.terms import PooledTerms

__all__ = ["PooledGaussian", "PooledTerms"]
