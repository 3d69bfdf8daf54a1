"""What a site says about itself, held against the study."""

from __future__ import annotations

from model.layout import Layout
from privacy.study.manifest import Study
from privacy.wire.bodies import SiteFacts
from privacy.wire.reasons import Reason, explain


def study_contradiction(facts: SiteFacts, study: Study) -> str:
    """Why a site with these `facts` cannot take part in `study`; "" if it can."""
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
    if study.masked and not facts.masked:
        return "The study requires secure aggregation, and the site does not mask its updates."
    return ""


def layout_contradiction(facts: SiteFacts, layout: Layout) -> str:
    """Why a site with these `facts` cannot train adapters of `layout`; "" if it can."""
    same = facts.layout_fingerprint == layout.fingerprint()
    return "" if same and facts.parameters == layout.parameters else explain(Reason.WRONG_LAYOUT)
