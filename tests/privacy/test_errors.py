"""Errors have permanent ids, and each id is explained."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from privacy.error_catalogue import CLASSES, FAILURES, as_markdown, catalogue
from privacy.error_ids import ErrorId
from privacy.errors import (
    AccountingError,
    ConfigError,
    CraftsflError,
    DataError,
    DeploymentError,
    FederationError,
    LedgerError,
    ModelError,
    PolicyError,
    SecAggError,
    WireError,
)
from privacy.wire.reasons import Reason, RefusedMessage, explain, guidance_of

ROOT = Path(__file__).parents[2]
PACKAGES = ("server", "client", "strategies", "model", "privacy", "craftsfl")
# Published: scripts and notes refer to them. Ids are added here, never removed or renamed.
PUBLISHED = [
    "craftsfl",
    "config",
    "wire",
    "policy",
    "accounting",
    "ledger",
    "log",
    "data",
    "model",
    "secagg",
    "federation",
    "deployment",
    "audit",
    "internal",
    "file-unusable",
    "extra-missing",
    "package-hidden",
    "no-run",
    "run-not-begun",
    "run-failed",
    "run-ended",
    "run-still-open",
    "study-used-up",
    "run-interrupted",
    "run-stopped",
    "study-changed",
    "plain-study",
    "roster-missing",
    "coordinator-key",
    "too-few-sites",
    "round-failed",
    "name-taken",
    "round-state-unusable",
    "round-state-newer",
    "adapter-unusable",
    "state-not-writable",
    "mlflow-unusable",
    "event-unreadable",
    "not-promoted",
    "export-taken",
    "settings-missing",
    "base-missing",
    "base-altered",
    "ledger-missing",
    "ledger-key-missing",
    "ledger-older",
    "ledger-foreign",
    "ledger-damaged",
    "log-damaged",
    "agent-running",
    "agent-network",
    "noise-generator",
    "one-user",
    "persons-unconfirmed",
    "port-taken",
    "process-ended",
    "superlink-silent",
    "superlink-refused",
    "operator-refused",
    "secret-unusable",
    "certificate-unusable",
    "key-admitted",
    "superlink-database",
    "coordinator-running",
    "folder-unusable",
    "disk-full",
    "card-unusable",
    "invitation-unusable",
    "fingerprint-differs",
    "placeholder",
    "refused-malformed",
    "refused-too-large",
    "refused-unknown-kind",
    "refused-wrong-study",
    "refused-wrong-layout",
    "refused-not-newer",
    "refused-conflict",
    "refused-not-started",
    "refused-budget",
    "refused-policy",
    "refused-stopped",
    "refused-no-update",
    "refused-agent-unreachable",
    "refused-agent-silent",
    "refused-not-ready",
    "refused-internal",
    "refused-older-run",
    "refused-run-open",
    "refused-cannot-finish",
    "refused-run-too-far",
    "refused-wrong-roster",
    "refused-other-version",
    "refused-missing-sums",
    "refused-paused",
    "refused-left",
]


def test_ids_are_permanent_and_all_explained() -> None:
    assert list(catalogue()) == PUBLISHED
    assert {**CLASSES, **FAILURES}.keys() == set(ErrorId)


@pytest.mark.parametrize("id", PUBLISHED)
def test_an_explanation_says_what_happened_what_is_lost_and_what_to_do(id: str) -> None:
    meaning = catalogue()[id]
    for text in (meaning.happened, meaning.lost, meaning.next_step):
        assert text.strip() == text and text[0].isupper()
        assert text.endswith((".", "?")) or "craftsfl" in text.rsplit(":", 1)[-1]


def test_the_page_is_what_the_catalogue_writes() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert page == as_markdown(), "run: python -m privacy.error_catalogue > docs/errors.md"


def test_every_particular_id_is_raised_somewhere() -> None:
    used = {
        node.attr
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if file.name not in ("error_catalogue.py", "error_ids.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "ErrorId"
    }
    by_text = {ErrorId.PACKAGE_HIDDEN.name}  # by what can import no package of ours
    retired = {ErrorId.NAME_TAKEN.name}  # two nodes of one name no longer end a run
    assert {id.name for id in ErrorId} == used | by_text | retired


@pytest.mark.parametrize(
    ("kind", "id"),
    [
        (CraftsflError, "craftsfl"),
        (ConfigError, "config"),
        (WireError, "wire"),
        (PolicyError, "policy"),
        (AccountingError, "accounting"),
        (LedgerError, "ledger"),
        (DataError, "data"),
        (ModelError, "model"),
        (SecAggError, "secagg"),
        (FederationError, "federation"),
        (DeploymentError, "deployment"),
    ],
)
def test_a_class_has_its_id_and_a_place_may_know_better(kind: type[CraftsflError], id: str) -> None:
    error = kind("What.", "Do.")
    assert (error.message, error.hint, str(error), error.id) == ("What.", "Do.", "What. Do.", id)
    assert kind("What.", id=ErrorId.NO_RUN).id == "no-run"


def test_a_refused_message_has_the_id_of_its_reason() -> None:
    error = RefusedMessage(Reason.WRONG_STUDY, "Another study.")
    assert error.id == "refused-wrong-study"


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_explained_in_one_text_and_in_parts(reason: Reason) -> None:
    parts = guidance_of(reason)
    assert explain(reason) == f"{parts.happened} {parts.next_step}"
