"""Local training at a site: encoded tiles, patient-level DP-SGD."""

from client.training.encoding import EncodedTiles, encode_site
from client.training.local import LocalTrainer
from client.training.references import CaptionPhrases, TileReference, phrases_of, reference_of
from client.training.trainer import (
    ResidentTrainer,
    RoundTrainer,
    ShouldStop,
    StepProgress,
    TrainingStopped,
)

__all__ = [
    "CaptionPhrases",
    "EncodedTiles",
    "LocalTrainer",
    "ResidentTrainer",
    "RoundTrainer",
    "ShouldStop",
    "StepProgress",
    "TileReference",
    "TrainingStopped",
    "encode_site",
    "phrases_of",
    "reference_of",
]
