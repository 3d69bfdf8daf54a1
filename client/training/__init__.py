"""Local training at a site: encoded tiles, patient-level DP-SGD."""

from client.training.encoding import EncodedTiles, encode_site
from client.training.local import LocalTrainer
from client.training.references import Reference, reference_of
from client.training.trainer import Progress, ResidentTrainer, ShouldStop, Trainer, TrainingStopped

__all__ = [
    "EncodedTiles",
    "LocalTrainer",
    "Progress",
    "Reference",
    "ResidentTrainer",
    "ShouldStop",
    "Trainer",
    "TrainingStopped",
    "encode_site",
    "reference_of",
]
