"""The one error root: every error that a user can meet derives from `CraftsflError`."""

from __future__ import annotations


class CraftsflError(Exception):
    """An error with a text that a person can act on.

    `message` says what is wrong; `hint` says what to do next. The command line prints both
    without a traceback. Neither may hold patients' data, captions, file names or keys, except
    in `DataError`, which never leaves the site.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class ConfigError(CraftsflError):
    """A settings file or an option is wrong."""


class WireError(CraftsflError):
    """Bytes that are no message of this protocol; receiving them changes no state."""


class PolicyError(CraftsflError):
    """The site's policy forbids what was asked."""


class AccountingError(CraftsflError):
    """An event or a figure that cannot be accounted for."""


class LedgerError(CraftsflError):
    """The ledger cannot be opened, or a request contradicts it."""


class DataError(CraftsflError):
    """The site's data folder cannot be used. Stays at the site: it may name files."""


class ModelError(CraftsflError):
    """A base model or an adapter is missing, altered or of another layout."""


class SecAggError(CraftsflError):
    """A message, a key or a setting that secure aggregation does not allow. Holds no secret."""


class FederationError(CraftsflError):
    """A round or a run cannot go on."""


class DeploymentError(CraftsflError):
    """A process, port, socket or file system that the system needs is not to be had."""
