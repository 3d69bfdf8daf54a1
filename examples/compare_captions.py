"""Which caption fits a picture: `python compare_captions.py PICTURE CAPTION CAPTION ...`."""

from __future__ import annotations

import sys

from PIL import Image

from craftsfl.api.encoders import CraftsflError, load_image_text_encoder, prepare


def main(picture: str, captions: list[str]) -> None:
    """Print each caption with its cosine similarity, the best first."""
    encoder = load_image_text_encoder("tiny-evaluator")  # or a folder, or a name on the hub
    with Image.open(picture) as opened:
        images = prepare([opened.convert("RGB")], encoder)
    similarities = (encoder.embed(images) @ encoder.embed_text(captions).T)[0]
    for similarity, caption in sorted(zip(similarities.tolist(), captions, strict=True))[::-1]:
        print(f"{similarity:+.2f}  {caption}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2:])
    except CraftsflError as error:
        sys.exit(f"{error.message} {error.hint}")
    except OSError as error:  # of the picture
        sys.exit(f"{error}. Name a picture that can be opened.")
