"""What this site knows about the other sites' ledgers, in a file of its state folder.

JSON: the newest checkpoint by the public key of the site's identity, so that it holds across
studies, runs and rosters. The file is read at each look, so a person may accept another ledger
while the agent runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from client.agent.state import StateFolder
from client.settings import load_site
from privacy.errors import ConfigError, LedgerError
from privacy.files import hint_for, read_private, write_private
from privacy.secagg.acceptance import accept_successor
from privacy.secagg.witness import Witness
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import load_study
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Reader, Writer
from privacy.wire.reasons import RefusedMessage

_KEY_BYTES = 32
_LARGEST = 16 << 20  # bytes


class WitnessFile(Witness):
    """The table in `path`. Every method raises `LedgerError` where the file is unusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known()  # damage is reported at the start

    def known(self) -> Mapping[bytes, Checkpoint]:
        """See `Witness.known`."""
        try:
            held = json.loads(read_private(self._path, _LARGEST))
            return {_key(key): _checkpoint(value) for key, value in held.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(error) from None
        except (ValueError, TypeError, AttributeError, RefusedMessage, RecursionError):
            raise LedgerError(
                f"{self._path} is damaged: it says how far the other sites' ledgers were.",
                "Restore it from the newest backup of the state folder. If there is none, remove "
                "it: until each site has shown its ledger again, this site takes an older one.",
            ) from None

    def keep(self, newer: Mapping[bytes, Checkpoint]) -> None:
        """See `Witness.keep`."""
        after = {**self.known(), **newer}
        data = {key.hex(): _hex(checkpoint) for key, checkpoint in sorted(after.items())}
        try:
            write_private(self._path, json.dumps(data, indent=1).encode())
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> LedgerError:
        return LedgerError(
            f"{self._path} cannot be read or written: {error.strerror}.",
            hint_for(error, "Check the disk, its free space and the file's owner."),
        )


def accept_at_site(site_toml: Path, site: str, ledger: str) -> str:
    """Let this site accept the other ledger of `site` from now on; what was done, in words."""
    settings = load_site(site_toml)
    if settings.identity is None:
        raise ConfigError("site.toml has no [identity] table.", "Name key and roster there.")
    roster = roster_in_force(load_study(settings.study), settings.identity.roster)
    witness = WitnessFile(StateFolder(settings.agent.state).witness)
    return accept_successor(witness, roster, site, ledger)


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != _KEY_BYTES:
        raise ValueError("no public key")
    return key


def _hex(checkpoint: Checkpoint) -> str:
    writer = Writer()
    checkpoint.write(writer)
    return writer.done().hex()


def _checkpoint(text: str) -> Checkpoint:
    reader = Reader(bytes.fromhex(text))
    checkpoint = Checkpoint.read(reader)
    reader.end()
    return checkpoint
