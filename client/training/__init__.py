"""Local training at a site: encoded tiles, patient-level DP-SGD, held-out loss."""

from client.training.encoding import EncodedTiles, encode_site
from client.training.evaluation import LossChange, held_out_loss, loss_change
from client.training.local import LocalTrainer
from client.training.references import TileReference, reference_of
from client.training.trainer import (
    ResidentTrainer,
    RoundTrainer,
    ShouldStop,
    StepProgress,
    TrainingStopped,
)

__all__ = [
    "EncodedTiles",
    "LocalTrainer",
    "LossChange",
    "ResidentTrainer",
    "RoundTrainer",
    "ShouldStop",
    "StepProgress",
    "TileReference",
    "TrainingStopped",
    "encode_site",
    "held_out_loss",
    "loss_change",
    "reference_of",
]
