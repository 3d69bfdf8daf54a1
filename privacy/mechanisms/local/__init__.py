"""Every site adds all the noise itself: the event `poisson-gaussian`."""

from privacy.mechanisms.local.event import PoissonGaussian
from privacy.mechanisms.local.mechanism import LocalGaussian

__all__ = ["LocalGaussian", "PoissonGaussian"]
