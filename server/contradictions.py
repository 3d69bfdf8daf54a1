"""What a site says about itself, held against the study and the run."""

from __future__ import annotations

from model.layout import Layout
from privacy.wire.bodies import SiteFacts
from privacy.wire.reasons import Reason, explain
from server.context import RunContext


def study_contradiction(facts: SiteFacts, context: RunContext) -> str:
    """Why a site with these `facts` cannot take part in the run; "" if it can."""
    study = context.study
    site = study.site(facts.name)
    if site is None:
        return "The study has no site of this name."
    if facts.study_digest != study.digest():
        return explain(Reason.WRONG_STUDY)
    if facts.base_digest.hex() != study.base.digest.removeprefix("sha256:"):
        return "It has another base model. Install the one whose digest is in the study file."
    if facts.declared_patients != site.declared_patients:
        return (
            f"It declares {facts.declared_patients} patients, the study says "
            f"{site.declared_patients}. Agree on one number; the weights follow from it."
        )
    if facts.roster_digest != context.roster_digest():
        return explain(Reason.WRONG_ROSTER)
    if facts.noise_multiplier != study.training.noise_multiplier:
        return (
            f"It adds noise of sigma {facts.noise_multiplier:g}, the study says "
            f"{study.training.noise_multiplier:g}. Install the same craftsfl version at both ends."
        )
    if facts.newest_run > context.run:
        return (
            f"It knows run {facts.newest_run} of the study, and this is run {context.run}. End "
            "this run: craftsfl rounds stop; then: craftsfl rounds start --after "
            f"{facts.newest_run}"
        )
    return ""


def layout_contradiction(facts: SiteFacts, layout: Layout) -> str:
    """Why a site with these `facts` cannot train adapters of `layout`; "" if it can."""
    same = facts.layout_fingerprint == layout.fingerprint()
    return "" if same and facts.parameters == layout.parameters else explain(Reason.WRONG_LAYOUT)
