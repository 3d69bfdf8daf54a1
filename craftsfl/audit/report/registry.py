"""The study as a record of the public registry of deployments of differential privacy.

Fields, their order and the words of its enumerations are those of the registry's own template and
schema: github.com/opendp/deployments-registry-data, commit 057e5d81, tests/good_deployments and
schemas. What a bundle does not know is left empty for a person to fill in: until then the
registry's own check refuses the record.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from craftsfl.audit.report.figures import WholeStudy
from craftsfl.audit.verdict import AuditVerdict
from privacy.audit.evidence import Evidence
from privacy.study.manifest import Study


def registry_record(
    verdict: AuditVerdict, evidence: Evidence, whole: WholeStudy | None
) -> dict[str, object]:
    """The record, for JSON; `whole` None: no ε can be worked out of the manifest."""
    return {
        "url_slug": f"craftsfl-{evidence.study.name}",
        "deployment": {
            "basic": _basic(evidence),
            "dp_variant": {
                "variant_name": "Approximate DP",
                "data_domain": "Pathology images with captions, by patient",
                "unprotected_quantities": "Declared numbers of patients, which sites take part and "
                "when, the manifest.",
            },
            "privacy_loss": _privacy_loss(evidence.study, whole),
            "deployment_model": _deployment_model(evidence.study),
            "implementation": _implementation(evidence.study, verdict),
            "administrative": {
                "evidence_sources": {},
                "status": "Draft",
                "registry_authors": [""],
                "tier": 3,
            },
        },
    }


def _basic(evidence: Evidence) -> dict[str, object]:
    attempts = [one for run in evidence.runs.values() for one in run.record.attempts]
    ended = [one.finished for one in attempts if one.finished is not None]
    day = datetime.fromtimestamp(max(ended), UTC).date().isoformat() if ended else ""
    curators = [
        {"data_curator_name": name, "data_curator_type": ""} for name in _curators(evidence)
    ]
    return {
        "name": evidence.study.name,
        "data_curators": curators,
        "description": "An adapter of a generator of pathology images, trained by several "
        "hospitals together under patient-level differential privacy.",
        "intended_use": "",
        "data_product_type": "Machine learning model",
        "data_product_region": "",
        "data_product_sector": "Healthcare",
        "publication_date": day,
    }


def _privacy_loss(study: Study, whole: WholeStudy | None) -> dict[str, object]:
    parameters: dict[str, object] = {"delta": study.privacy.delta}
    if whole is not None and math.isfinite(whole.epsilon):
        parameters = {"epsilon": whole.epsilon, **parameters}
    return {
        "privacy_unit": "patient",
        "privacy_unit_details": "All tiles and slides of one patient at one site; zero-out "
        "neighbours over a declared number of patients.",
        "number_of_privacy_units": sum(site.declared_patients for site in study.sites),
        "privacy_parameters": parameters,
        "privacy_parameters_details": "Of the whole schedule of "
        f"{study.most_attempts} attempts, against the worst of coordinator, another site, "
        "a coalition and the public.",
    }


def _deployment_model(study: Study) -> dict[str, object]:
    if study.pools_noise:
        noise = "Sites add shares of one discrete Gaussian noise under masks."
        trust = f"The coordinator may collude with {study.privacy.noise_colluders} of them."
    else:
        noise = "Each site adds all the noise of its own patients, and masks its update."
        trust = "Neither the coordinator nor other sites are."
    return {
        "model_name": "Federated",
        "model_name_details": noise,
        "trust_assumptions": f"Each site is trusted with its own patients. {trust}",
        "actors": "Hospitals, a coordinator, auditors",
        "release_type": "Many releases",
        "release_type_details": "Every opened sum, and the adapter.",
        "data_source_type": "Static",
        "data_source_type_details": "",
        "access_type": "Non-interactive",
        "access_type_details": "",
    }


def _implementation(study: Study, verdict: AuditVerdict) -> dict[str, object]:
    return {
        "preprocessing_and_hyperparameter_tuning": _tuning(study),
        "mechanisms": "Discrete Gaussian mechanism over clipped, summed gradients (DP-SGD)",
        "composition": "Privacy loss distributions, or in closed form where everybody "
        "is in every step; errors make ε too high.",
        "post_processing": f"Server optimiser: {study.aggregation.strategy}",
        "justification": "",
        "utility": "",
        "additional_information": f"Audit bundle, SHA-256 {verdict.digest}; "
        f"{'verified' if verdict.passed else 'NOT verified'}.",
    }


def _curators(evidence: Evidence) -> list[str]:
    """The organisations of the study's sites, as the newest roster that lists each has them."""
    found = set()
    for site in evidence.study.sites:
        members = (one.roster.member_named(site.name) for one in reversed(evidence.rosters))
        member = next((one for one in members if one is not None), None)
        found.add(site.name if member is None else member.organisation)
    return sorted(found)


def _tuning(study: Study) -> str:
    if study.chosen is None:
        return ""
    return "; ".join(f"{name}: {value}" for name, value in study.chosen.model_dump().items())
