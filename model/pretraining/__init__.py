"""Stage one of the tiny base: autoencoder, text encoder, UNet and judges from drawn tissue."""

from model.pretraining.recipe import Progress, Recipe
from model.pretraining.run import pretrain

__all__ = ["Progress", "Recipe", "pretrain"]
