"""The one error root: every error that a user can meet derives from `CraftsflError`."""

# Why: docs/adr/0025-typed-events-and-errors.md

from __future__ import annotations

from typing import ClassVar

from privacy.error_ids import ErrorId


class CraftsflError(Exception):
    """An error with a text that a person can act on, and a permanent id.

    `message` says what is wrong; `hint` says what to do next. The command line prints both
    without a traceback. Neither may hold patients' data, captions, file names or keys, except
    in `DataError`, which never leaves the site.

    `id` names the kind of failure, for scripts and docs/errors.md: the class's default, unless the
    place that raises gives a more specific one.
    """

    default_id: ClassVar[ErrorId] = ErrorId.CRAFTSFL

    def __init__(self, message: str, hint: str = "", *, id: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint
        self.id = str(id or self.default_id)


class ConfigError(CraftsflError):
    """A settings file or an option is wrong."""

    default_id = ErrorId.CONFIG


class WireError(CraftsflError):
    """Bytes that are not a message of this protocol; receiving them changes no state."""

    default_id = ErrorId.WIRE


class PolicyError(CraftsflError):
    """The site's policy forbids what was asked for."""

    default_id = ErrorId.POLICY


class AccountingError(CraftsflError):
    """An event or a figure that cannot be accounted for."""

    default_id = ErrorId.ACCOUNTING


class LedgerError(CraftsflError):
    """The ledger cannot be opened, or a request contradicts it."""

    default_id = ErrorId.LEDGER


class LogError(CraftsflError):
    """The consortium's log, or something that claims to be of it, does not hold."""

    default_id = ErrorId.LOG


class DataError(CraftsflError):
    """The site's data folder cannot be used. Stays at the site: it may name files."""

    default_id = ErrorId.DATA


class ModelError(CraftsflError):
    """A base model or an adapter is missing, altered or of another layout."""

    default_id = ErrorId.MODEL


class SecAggError(CraftsflError):
    """A message, a key or a setting that secure aggregation does not allow. Holds no secret."""

    default_id = ErrorId.SECAGG


class FederationError(CraftsflError):
    """A round or a run cannot continue."""

    default_id = ErrorId.FEDERATION


class DeploymentError(CraftsflError):
    """A process, port, socket or file system that the system needs is not available."""

    default_id = ErrorId.DEPLOYMENT


class AuditError(CraftsflError):
    """A bundle, a verdict or a signature of one that cannot be made or read."""

    default_id = ErrorId.AUDIT
