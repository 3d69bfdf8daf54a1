"""The study as a record of the public registry of deployments of differential privacy.

Fields and their order are those of the registry's own template (opendp/deployments-registry-data,
`template.yaml`). What a bundle does not know is left empty for a person to fill in.
"""

from __future__ import annotations

from datetime import UTC, datetime

from craftsfl.audit.report.figures import WholeStudy
from craftsfl.audit.verdict import AuditVerdict, finite_or_none
from privacy.audit.evidence import Evidence


def registry_record(
    verdict: AuditVerdict, evidence: Evidence, whole: WholeStudy
) -> dict[str, object]:
    """The record, for JSON."""
    study = evidence.study
    pooled = study.pools_noise
    ended = [
        one.finished
        for run in evidence.runs.values()
        for one in run.record.attempts
        if one.finished is not None
    ]
    day = datetime.fromtimestamp(max(ended, default=0.0), UTC).date().isoformat()
    curators = [
        {"data_curator_name": name, "data_curator_type": "Healthcare"}
        for name in sorted(member.organisation for member in evidence.rosters[-1].roster.members)
    ]
    patients = sum(site.declared_patients for site in study.sites)
    return {
        "url_slug": f"craftsfl-{study.name}",
        "deployment": {
            "basic": {
                "name": study.name,
                "data_curators": curators,
                "description": "An adapter of a generator of pathology images, trained by several "
                "hospitals together under patient-level differential privacy.",
                "intended_use": "",
                "data_product_type": "Machine learning model",
                "data_product_region": "",
                "data_product_sector": "Healthcare",
                "publication_date": day,
            },
            "dp_variant": {
                "variant_name": "Approximate DP",
                "data_domain": "Pathology images with captions, by patient",
                "unprotected_quantities": "Declared numbers of patients, which sites take part and "
                "when, the manifest.",
            },
            "privacy_loss": {
                "privacy_unit": "patient",
                "privacy_unit_details": "All tiles and slides of one patient at one site; zero-out "
                "neighbours over a declared number of patients.",
                "number_of_privacy_units": patients,
                "privacy_parameters": {
                    "epsilon": finite_or_none(whole.epsilon),
                    "delta": study.privacy.delta,
                },
                "privacy_parameters_details": f"Of the whole schedule of {whole.attempts} attempts,"
                " against the worst of coordinator, another site, a coalition and the public.",
            },
            "deployment_model": {
                "model_name": "Distributed" if pooled else "Local",
                "model_name_details": "Sites add shares of one discrete Gaussian noise under masks."
                if pooled
                else "Each site adds all the noise of its own patients, and masks its update.",
                "trust_assumptions": f"{study.privacy.noise_colluders} sites may collude with the "
                "coordinator."
                if pooled
                else "None in the coordinator or other sites.",
                "actors": "Hospitals, a coordinator, auditors",
                "release_type": "Many releases",
                "release_type_details": "Every opened sum, and the adapter.",
                "data_source_type": "Static",
                "data_source_type_details": "",
                "access_type": "Non-interactive",
                "access_type_details": "",
            },
            "implementation": {
                "preprocessing_and_hyperparameter_tuning": _tuning(evidence),
                "mechanisms": "Discrete Gaussian mechanism over clipped, summed gradients (DP-SGD)",
                "composition": "Privacy loss distributions, or in closed form where everybody "
                "is in every step; errors make ε too high.",
                "post_processing": f"Server optimiser: {study.aggregation.strategy}",
                "justification": "",
                "utility": "",
                "additional_information": f"Audit bundle, SHA-256 {verdict.digest}; "
                f"{'verified' if verdict.passed else 'NOT verified'}.",
            },
            "administrative": {
                "evidence_sources": {},
                "status": "Draft",
                "registry_authors": [""],
                "tier": 3,
            },
        },
    }


def _tuning(evidence: Evidence) -> str:
    chosen = evidence.study.chosen
    if chosen is None:
        return ""
    return "; ".join(f"{name}: {value}" for name, value in chosen.model_dump().items())
