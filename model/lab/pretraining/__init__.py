"""Stage one of the tiny base: autoencoder, text encoder, UNet and judges from drawn tissue."""

from model.lab.pretraining.recipe import Progress, Recipe
from model.lab.pretraining.run import pretrain_tiny_base

__all__ = ["Progress", "Recipe", "pretrain_tiny_base"]
