"""What this site has cosigned of the consortium's logs, in a file of its state folder.

JSON: by the log's name, the size, root and table of the checkpoint that was cosigned last. Whoever
puts an older one back lets the site cosign a log that goes back; so it lies where the ledger lies,
and goes where that goes.
"""

from __future__ import annotations

import json
from pathlib import Path

from privacy.errors import LedgerError, LogError
from privacy.files import hint_for, read_private, write_private
from privacy.log.checkpoints import TreeHead
from privacy.log.heads import HeadsTable
from privacy.log.memory import CosignedLog

_LARGEST = 64 << 20  # bytes


class LogFile:
    """A `LogMemory` in `path`. Every method raises `LedgerError` where the file is unusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = self._read()  # damage is reported at the start

    def last(self, origin: str) -> CosignedLog | None:
        """See `LogMemory.last`."""
        return self._held.get(origin)

    def keep(self, cosigned: CosignedLog) -> None:
        """See `LogMemory.keep`."""
        after = {**self._held, cosigned.head.origin: cosigned}
        data = {origin: _values(one) for origin, one in sorted(after.items())}
        try:
            write_private(self._path, json.dumps(data, indent=1).encode())
        except OSError as error:
            raise self._unusable(error) from None
        self._held = after

    def _read(self) -> dict[str, CosignedLog]:
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


def _values(cosigned: CosignedLog) -> dict[str, object]:
    head = cosigned.head
    return {"size": head.size, "root": head.root.hex(), "heads": cosigned.table.encode().hex()}


def _cosigned(origin: str, values: dict[str, object]) -> CosignedLog:
    size, root = values["size"], bytes.fromhex(str(values["root"]))
    if type(size) is not int or size < 1 or len(root) != 32:
        raise ValueError("no checkpoint")
    table = HeadsTable.decode(bytes.fromhex(str(values["heads"])))
    return CosignedLog(TreeHead(origin, size, root), table)
