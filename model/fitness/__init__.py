"""Whether a folder holds a base that can be trained here: said by name before it is installed."""

from model.fitness.check import check_base

__all__ = ["check_base"]
