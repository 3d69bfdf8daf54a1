"""The permanent ids of errors; `privacy.error_catalogue` explains them.

An id is never renamed, reused or removed: scripts and operators' notes refer to it. Every class of
errors has one, and so has each failure about which a person can do something in particular.
Refusals between server and site have theirs from `privacy.wire.reasons` (ADR 25).
"""

from __future__ import annotations

from enum import StrEnum


class ErrorId(StrEnum):
    """All ids, first those of whole classes."""

    CRAFTSFL = "craftsfl"
    CONFIG = "config"
    WIRE = "wire"
    POLICY = "policy"
    ACCOUNTING = "accounting"
    LEDGER = "ledger"
    LOG = "log"
    DATA = "data"
    MODEL = "model"
    SECAGG = "secagg"
    FEDERATION = "federation"
    DEPLOYMENT = "deployment"
    AUDIT = "audit"

    # At the command line.
    INTERNAL = "internal"
    FILE_UNUSABLE = "file-unusable"
    EXTRA_MISSING = "extra-missing"
    PACKAGE_HIDDEN = "package-hidden"  # privacy/shadows.py, which can import nothing, spells it out

    # A run, at its coordinator.
    NO_RUN = "no-run"
    RUN_NOT_BEGUN = "run-not-begun"
    RUN_FAILED = "run-failed"
    RUN_ENDED = "run-ended"
    RUN_STILL_OPEN = "run-still-open"
    STUDY_USED_UP = "study-used-up"
    RUN_INTERRUPTED = "run-interrupted"
    RUN_STOPPED = "run-stopped"
    STUDY_CHANGED = "study-changed"
    PLAIN_STUDY = "plain-study"
    ROSTER_MISSING = "roster-missing"
    COORDINATOR_KEY = "coordinator-key"
    TOO_FEW_SITES = "too-few-sites"
    ROUND_FAILED = "round-failed"
    NAME_TAKEN = "name-taken"
    ROUND_STATE_UNUSABLE = "round-state-unusable"
    ROUND_STATE_NEWER = "round-state-newer"
    ADAPTER_UNUSABLE = "adapter-unusable"
    STATE_NOT_WRITABLE = "state-not-writable"
    MLFLOW_UNUSABLE = "mlflow-unusable"
    EVENT_UNREADABLE = "event-unreadable"
    NOT_PROMOTED = "not-promoted"
    EXPORT_TAKEN = "export-taken"

    # At a site, or at either end.
    SETTINGS_MISSING = "settings-missing"
    BASE_MISSING = "base-missing"
    BASE_ALTERED = "base-altered"
    LEDGER_MISSING = "ledger-missing"
    LEDGER_KEY_MISSING = "ledger-key-missing"
    LEDGER_OLDER = "ledger-older"
    LEDGER_FOREIGN = "ledger-foreign"
    LEDGER_DAMAGED = "ledger-damaged"
    LOG_DAMAGED = "log-damaged"
    AGENT_RUNNING = "agent-running"
    AGENT_NETWORK = "agent-network"
    NOISE_GENERATOR = "noise-generator"
    ONE_USER = "one-user"
    PERSONS_UNCONFIRMED = "persons-unconfirmed"
    PORT_TAKEN = "port-taken"
    PROCESS_ENDED = "process-ended"
    SUPERLINK_SILENT = "superlink-silent"

    # Before a study's first run.
    CARD_UNUSABLE = "card-unusable"
    INVITATION_UNUSABLE = "invitation-unusable"
    FINGERPRINT_DIFFERS = "fingerprint-differs"
    PLACEHOLDER = "placeholder"

    # At a coordinator.
    SUPERLINK_REFUSED = "superlink-refused"
    OPERATOR_REFUSED = "operator-refused"
    SECRET_UNUSABLE = "secret-unusable"
    CERTIFICATE_UNUSABLE = "certificate-unusable"
    KEY_ADMITTED = "key-admitted"
    SUPERLINK_DATABASE = "superlink-database"
    COORDINATOR_RUNNING = "coordinator-running"
    FOLDER_UNUSABLE = "folder-unusable"
    DISK_FULL = "disk-full"
