"""Train a tiny encoder: captions and tiles of equal content attract, all others repel.

In-batch contrast couples examples and is only for public data: every tile here is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import CLIPTokenizer

from model.lab.pretraining.contrastive.corpus import CaptionedCorpus, draw_lesson
from model.lab.pretraining.contrastive.networks import ImageText, make_image_text
from model.lab.pretraining.contrastive.recipe import EncoderRecipe
from model.lab.pretraining.contrastive.wording import WORDINGS
from model.lab.pretraining.judging import disturb
from model.lab.pretraining.networks import training_device
from model.lab.pretraining.optimisation import Schedule, Task, TaskTrainer, TensorBatch
from model.lab.pretraining.recipe import Progress

_MOST_SCALE = math.log(100)  # of the logits; Radford et al. 2021, section 2.5


def contrastive_loss(logits: torch.Tensor, contents: torch.Tensor) -> torch.Tensor:
    """Cross-entropy both ways of logits [n, n], image by text, with all of a content positive.

    Yang et al. 2022, "Unified contrastive learning in image-text-label space", eq. 4 and 5: with
    52 contents a batch holds many true pairs off the diagonal, which plain InfoNCE would repel.
    """
    same = (contents[:, None] == contents).float()
    targets = same / same.sum(dim=1, keepdim=True)
    return torch.as_tensor(
        (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets))
        / 2
    )


def train_image_text(
    data: CaptionedCorpus,
    tokenizer: CLIPTokenizer,
    recipe: EncoderRecipe,
    workspace: Path,
    on_progress: Progress,
) -> ImageText:
    """Train from scratch; return the encoder with averaged weights, in eval mode."""
    torch.manual_seed(recipe.seed)
    model = make_image_text(recipe, tokenizer).to(training_device())

    def loss(shard: TensorBatch) -> torch.Tensor:
        pixels, ids, mask, contents = shard
        with torch.no_grad():
            model.logit_scale.clamp_(max=_MOST_SCALE)
        out = model(input_ids=ids, pixel_values=pixels, attention_mask=mask)
        return contrastive_loss(out.logits_per_image, contents)

    schedule = Schedule(
        recipe.steps,
        recipe.rate,
        weight_decay=0.05,
        ema_decay=recipe.ema_decay,
        checkpoint_every=recipe.checkpoint_every,
    )
    task = Task("encoder", model, _batches(data, tokenizer, recipe), loss)
    # Not in shards, which would have less to contrast with.
    TaskTrainer(task, schedule, workspace, shards=1).run(on_progress)
    return model.eval().cpu()


def _batches(
    data: CaptionedCorpus, tokenizer: CLIPTokenizer, recipe: EncoderRecipe
) -> Callable[[int], TensorBatch]:
    quarters = [
        data.part(domain=domain, drawn=drawn) for domain in (False, True) for drawn in (False, True)
    ]
    kind, wording = training_device(), WORDINGS[recipe.words]

    @cache
    def token_ids(text: str) -> torch.Tensor:
        cut = tokenizer(text, truncation=True, max_length=tokenizer.model_max_length)
        return torch.tensor(cut["input_ids"])

    def batch(step: int) -> TensorBatch:
        rng = np.random.default_rng([recipe.seed, 5, step])
        chosen = np.concatenate([rng.choice(part, recipe.batch // 4) for part in quarters])
        contents = data.contents[chosen]
        rows = [token_ids(draw_lesson(int(content), wording, rng)) for content in contents]
        ids = torch.nn.utils.rnn.pad_sequence(
            rows, batch_first=True, padding_value=float(tokenizer.pad_token_id)
        )
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        images = data.images[chosen]
        if rng.random() < 0.5:  # with the flips of `disturb`: all eight orientations
            images = images.transpose(0, 2, 1, 3)
        parts = disturb(images, rng), ids, mask, torch.from_numpy(contents)
        return tuple(part.to(kind) for part in parts)

    return batch
