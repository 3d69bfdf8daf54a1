"""What a gateway has to know after it was killed: its node's id, and the message it was carrying.

Flower counts a node as online for 60 s after its last sign of life and admits nobody in its place;
the same key, however, may go on as the same node. Flower hands out each message once; its contents
stay until they are confirmed. So a gateway that was killed goes on at once, and loses nothing.

The file is opened before the process shuts itself in, and locked: two gateways with one home would
take each other's messages. No content of a message is in it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass
from pathlib import Path

from privacy.errors import DeploymentError
from privacy.files import lock

_FILE = "node.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LARGEST = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Remembered:
    """The node's id (0: none), and the message in hand, as bytes (b"": none)."""

    node: int = 0
    carried: bytes = b""


class NodeFile:
    """The file that remembers, open for as long as the gateway runs."""

    def __init__(self, home: Path) -> None:
        """Open and lock it in the folder `home`, which is made if it is missing.

        Raises `DeploymentError` if another gateway has it, or if it cannot be written.
        """
        path = home / _FILE
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = lock(path)
        except BlockingIOError:
            raise DeploymentError(
                f"Another gateway runs with {home}.",
                "Stop it, or give each gateway a home and a key of its own.",
            ) from None
        except OSError as error:
            raise DeploymentError(
                f"{path} cannot be written: {error.strerror}.",
                "Check home in the [gateway] table of site.toml, and who owns it.",
            ) from None
        self._boot = _boot()

    @property
    def descriptor(self) -> int:
        """The number of the open file: what a process that shuts itself in has to keep."""
        return self._file

    def read(self) -> Remembered:
        """What was remembered since this machine was started; nothing if there is nothing."""
        try:
            found = json.loads(os.pread(self._file, _LARGEST, 0))
            # A copy of the file elsewhere must not take over a node that is still in use here.
            if found["boot"] != self._boot:
                return Remembered()
            return Remembered(int(found["node"]), base64.b64decode(found["carried"]))
        except (ValueError, KeyError, TypeError, binascii.Error):
            return Remembered()

    def write(self, remembered: Remembered) -> None:
        """Replace what is remembered.

        Raises `OSError` where the disk takes nothing: that loses what a kill would lose with it.
        """
        text = json.dumps(
            {
                "boot": self._boot,
                "node": remembered.node,
                "carried": base64.b64encode(remembered.carried).decode("ascii"),
            }
        ).encode("ascii")
        os.pwrite(self._file, text.ljust(os.fstat(self._file).st_size), 0)
        os.ftruncate(self._file, len(text))


def _boot() -> str:
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:  # not Linux: then a restart of the machine is not told from one of the process
        return ""
