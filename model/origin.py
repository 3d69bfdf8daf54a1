"""Where an adapter comes from: public facts that travel in its own file.

Nothing here belongs to a site: the study's manifest is public, and so is the fact that a run
released an adapter.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields

from privacy.errors import ModelError
from privacy.strict_json import read_json
from privacy.study.manifest import Study
from privacy.study.terms import event_of

DIGEST_TAG = "craftsfl.adapter_digest"  # of a model version in MLflow: SHA-256 of its file
_HINT = "The file is damaged, or a newer craftsfl wrote it: copy it again, or upgrade craftsfl."


@dataclass(frozen=True, slots=True)
class Origin:
    """How an adapter was trained.

    `epsilon` at `delta` is what all attempts that the manifest allows cost a patient of one site
    (zero-out neighbours), whether or not they were needed: an upper bound against anybody who sees
    the adapter or anything drawn with it. None: the study adds no noise, nothing is promised.
    `encoders`: digests of those that the study trains towards. None: the file does not say, as none
    did before it could.
    """

    base: str  # "sha256:…" of the pipeline
    study: str
    study_digest: str  # 64 hex digits
    run: str
    rounds: int
    epsilon: float | None
    delta: float
    encoders: tuple[str, ...] | None = None

    def to_json(self) -> str:
        """Canonical JSON, without what is not said."""
        values = asdict(self)
        if self.encoders is None:
            del values["encoders"]
        return json.dumps(values, sort_keys=True, allow_nan=False)

    def privacy(self) -> str:
        """The promise in a sentence."""
        if self.epsilon is None:
            return "none: the study adds no noise"
        return (
            f"epsilon at most {self.epsilon:.4g} at delta {self.delta:g} for a patient of one "
            "site, over the study's whole schedule"
        )


def origin_of(study: Study, run: int) -> Origin:
    """The origin of the adapter that `run` of `study` released.

    The whole frozen schedule counts, with every attempt, because that bound holds whatever
    happened: a site charges an attempt before the coordinator learns of it, and when a run ends may
    depend on what it has released. Raises `AccountingError`.
    """
    event = event_of(study)
    spent = math.inf
    if not event.no_privacy:
        from privacy.accounting import epsilon  # imports scipy: only when needed

        spent = epsilon([event] * study.most_attempts, study.privacy.delta)
    return Origin(
        base=study.base.digest,
        study=study.name,
        study_digest=study.digest().hex(),
        run=str(run),
        rounds=study.rounds,
        epsilon=spent if math.isfinite(spent) else None,
        delta=study.privacy.delta,
        encoders=encoders_of(study),
    )


def encoders_of(study: Study) -> tuple[str, ...]:
    """Digests of the encoders that a study trains towards, in order."""
    return () if study.stage_two is None else tuple(sorted(study.stage_two.encoder_digests))


def read_origin(text: str) -> Origin:
    """The origin that `to_json` wrote; raises `ModelError` for unknown keys and wrong types."""
    try:
        values = read_json(text)
    except ValueError:
        values = None
    names = {field.name for field in fields(Origin)}
    if not isinstance(values, dict) or {*values, "encoders"} != names:
        raise ModelError("An adapter's origin cannot be read.", _HINT)
    whole, number = values["rounds"], (int, float)
    texts = [values[name] for name in ("base", "study", "study_digest", "run")]
    figures = [values["delta"], *([] if values["epsilon"] is None else [values["epsilon"]])]
    if (
        type(whole) is not int
        or not all(isinstance(text, str) for text in texts)
        or not all(type(figure) in number and math.isfinite(figure) for figure in figures)
    ):
        raise ModelError("An adapter's origin holds values of the wrong type.", _HINT)
    if whole < 1 or not 0 < values["delta"] < 1 or any(figure < 0 for figure in figures):
        raise ModelError("An adapter's origin holds impossible figures.", _HINT)
    if "encoders" in values:
        values["encoders"] = _encoders(values["encoders"])
    return Origin(**values)


def _encoders(listed: object) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise ModelError("An adapter's origin names no encoders.", _HINT)
    return tuple(listed)
