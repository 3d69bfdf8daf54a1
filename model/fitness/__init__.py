"""Whether a folder holds a base that can be trained here; faults are named before installing it."""

from model.fitness.check import check_base

__all__ = ["check_base"]
