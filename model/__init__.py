"""The diffusion model: bases, adapters, losses, sampling, evaluation, stage one."""

import os

# Read when transformers is first imported: it warns of a torchvision that nothing here needs.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
