"""Every site adds all the noise itself: `pooled-gaussian` with a cohort of one.

Ledgers of before the exact noise hold `poisson-gaussian` for it, and mean what they meant.
"""

from privacy.mechanisms.local.event import PoissonGaussian
from privacy.mechanisms.local.mechanism import LocalGaussian, local_event

__all__ = ["LocalGaussian", "PoissonGaussian", "local_event"]
