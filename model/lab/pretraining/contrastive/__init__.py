"""Tiny image-text encoders from drawn tissue, by contrast: the reference and the evaluator."""

from model.lab.pretraining.contrastive.recipe import RECIPES, EncoderRecipe, find_recipe
from model.lab.pretraining.contrastive.run import pretrain_encoder

__all__ = ["RECIPES", "EncoderRecipe", "find_recipe", "pretrain_encoder"]
