"""Stage one of the tiny base: autoencoder, text encoder, UNet and judges from drawn tissue."""

from model.lab.pretraining.recipe import Progress, Recipe
from model.lab.pretraining.run import pretrain

__all__ = ["Progress", "Recipe", "pretrain"]
