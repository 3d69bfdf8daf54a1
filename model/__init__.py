"""The diffusion model: bases, adapters, losses, sampling; on top, the laboratory."""

import os

# Read when transformers is first imported: it warns about a missing torchvision, which nothing here
# needs.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
