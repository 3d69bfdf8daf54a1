"""How a round's updates become the next adapter, and whose update weighs how much."""

from strategies.base import Strategy
from strategies.fedadam import FedAdam
from strategies.fedavg import FedAvg
from strategies.registry import make_strategy

__all__ = ["FedAdam", "FedAvg", "Strategy", "make_strategy"]
