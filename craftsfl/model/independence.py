"""Did a judge, or an encoder, take part in an adapter's training? Its file says, or its study.

Pictures of an adapter that was trained towards an encoder please that encoder: it cannot judge
them.
"""

# Why: docs/adr/0071-who-judged-and-what-readers-found.md

from __future__ import annotations

from model.generation.provenance import Drawing
from privacy.errors import ConfigError
from privacy.study.manifest import Study


def encoders_trained_towards(drawing: Drawing, study: Study | None) -> frozenset[str] | None:
    """Digests ("sha256:…") of the encoders in the loss of the adapter's study; None: unknown.

    Nobody, for the base alone. `study`: as somebody named it; its word is added to the file's.
    Raises `ConfigError` where it is not the adapter's study: another one's encoders say nothing.
    """
    origin = drawing.origin
    said = None if origin is None or origin.encoders is None else frozenset(origin.encoders)
    if study is None:
        return frozenset() if drawing.adapter is None else said
    if drawing.adapter is None:
        raise ConfigError("A study without its adapter.", "Leave --study out, or add --adapter.")
    if origin is None or origin.study_digest != study.digest().hex():
        raise ConfigError(
            f"The adapter was not trained by the study {study.name}, as far as its file says.",
            "Name the study.toml of its run, and the adapter as that run released it.",
        )
    own = frozenset[str]() if study.stage_two is None else study.stage_two.encoder_digests
    return own | (said or frozenset())
