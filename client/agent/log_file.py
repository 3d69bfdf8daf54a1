"""What this site has cosigned of the consortium's logs, in a file of its state folder.

JSON: by the log's name, the size, root and table of the checkpoint that was cosigned last. Whoever
puts an older one back lets the site cosign a log that goes back; so it lies where the ledger lies,
and goes where that goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from client.agent.state import StateFolder
from client.settings import load_site
from privacy.errors import ConfigError, LedgerError, LogError
from privacy.files import hint_for, read_private, write_private
from privacy.log.checkpoints import TreeHead, log_origin
from privacy.log.heads import HeadsTable
from privacy.log.memory import CosignedLog
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import load_study
from privacy.study.pooling import pooled_settings

_LARGEST = 64 << 20  # bytes


class LogFile:
    """A `LogMemory` in `path`. Every method raises `LedgerError` where the file is unusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read()  # damage is reported at the start

    def last(self, origin: str) -> CosignedLog | None:
        """See `LogMemory.last`."""
        return self.read().get(origin)

    def keep(self, cosigned: CosignedLog) -> None:
        """See `LogMemory.keep`."""
        self._write({**self.read(), cosigned.head.origin: cosigned})

    def forget(self, origin: str) -> None:
        """Take that log as it is shown next, whatever it is."""
        self._write({key: one for key, one in self.read().items() if key != origin})

    def _write(self, after: Mapping[str, CosignedLog]) -> None:
        data = {origin: _values(one) for origin, one in sorted(after.items())}
        try:
            write_private(self._path, json.dumps(data, indent=1).encode())
        except OSError as error:
            raise self._unusable(error) from None

    def read(self) -> dict[str, CosignedLog]:
        """All of it, by the logs' names; at each look, so that a person may accept another one."""
        try:
            held = json.loads(read_private(self._path, _LARGEST))
            return {origin: _cosigned(origin, values) for origin, values in held.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(error) from None
        except (ValueError, TypeError, KeyError, AttributeError, LogError, RecursionError):
            raise LedgerError(
                f"{self._path} is damaged: it says what this site has cosigned of the log.",
                "Restore it from the newest backup of the state folder. If there is none, remove "
                "it: this site then takes the log as it is shown first.",
            ) from None

    def _unusable(self, error: OSError) -> LedgerError:
        return LedgerError(
            f"{self._path} cannot be read or written: {error.strerror}.",
            hint_for(error, "Check the disk, its free space and the file's owner."),
        )


def accept_log_at_site(site_toml: Path) -> str:
    """Let this site take the log of its study as it is shown next; what was done, in words.

    For a coordinator that has lost it, or entries of it, which people have to tell each other: a
    log that goes back by itself is what the site is there to refuse.
    """
    settings = load_site(site_toml)
    if settings.identity is None:
        raise ConfigError("site.toml has no [identity] table.", "Name key and roster there.")
    study = load_study(settings.study)
    roster = roster_in_force(study, settings.identity.roster)
    key = bytes.fromhex(pooled_settings(study).coordinator_key)
    file = LogFile(StateFolder(settings.agent.state).log)
    last = file.last(log_origin(roster.consortium, key))
    if last is None:
        return "This site has cosigned nothing of this log; it takes it as it is shown first."
    file.forget(last.head.origin)
    return (
        f"This site had cosigned {last.head.size} entries, root {last.head.root.hex()}. It takes "
        "the log as it is shown next. Keep this line: it is the proof if entries were taken out."
    )


def _values(cosigned: CosignedLog) -> dict[str, object]:
    head = cosigned.head
    return {"size": head.size, "root": head.root.hex(), "heads": cosigned.table.encode().hex()}


def _cosigned(origin: str, values: dict[str, object]) -> CosignedLog:
    size, root = values["size"], bytes.fromhex(str(values["root"]))
    if type(size) is not int or size < 1 or len(root) != 32:
        raise ValueError("no checkpoint")
    table = HeadsTable.decode(bytes.fromhex(str(values["heads"])))
    return CosignedLog(TreeHead(origin, size, root), table)
