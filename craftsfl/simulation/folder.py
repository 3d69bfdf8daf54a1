"""The folder of a simulation: what it is of, its arms, and how far each of them has come.

A step is finished once it is in the arm's `kept` file, which is replaced as a whole. Whatever a
process does after that lies in the folder `live`, and is gone when the next process begins: so a
simulation can be killed at any moment, loses the step under way, and charges it to nobody.
"""

# Why: docs/adr/0048-simulator.md

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from craftsfl.simulation.config import Arm, SimulationResult, result_of
from privacy.errors import ConfigError, DeploymentError
from privacy.files import told_if_unwritable, write_private
from server.life import exclusively

_WHAT: Final = "simulation.json"
_LOCK: Final = "lock"
_META: Final = "meta.json"
_DATABASES: Final = (".db", ".sqlite")
_VECTORS: Final = "step_vectors"  # of steps that are over: nobody adds them up again


@dataclass(frozen=True)
class ArmFolder:
    """One arm's part of the folder."""

    folder: Path

    @property
    def live(self) -> Path:
        """Ledgers and the coordinator's database, of this process alone."""
        return self.folder / "live"

    @property
    def adapters(self) -> Path:
        """A file for the adapter after each step, as a coordinator keeps them."""
        return self.folder / "adapters"

    @property
    def adapter(self) -> Path:
        """What the arm publishes, as a coordinator releases it."""
        return self.folder / "adapter.safetensors"

    @property
    def _kept(self) -> Path:
        return self.folder / "kept.tar"

    def keep(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Everything in `live`, `meta` and `arrays`: the simulation goes on from here."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as file:
            _add(file, _META, json.dumps(dict(meta)).encode())
            for name, values in arrays.items():
                array = io.BytesIO()
                np.save(array, values, allow_pickle=False)
                _add(file, f"{name}.npy", array.getvalue())
            for path in sorted(self.live.glob("*")) if self.live.exists() else ():
                if path.suffix in _DATABASES:
                    _add(file, f"live/{path.name}", _snapshot(path))
                elif path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock")):
                    _add(file, f"live/{path.name}", path.read_bytes())
        _write(self._kept, buffer.getvalue())

    def restore(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """What was kept last, with `live` as it was then; None, and no `live`, if nothing was."""
        shutil.rmtree(self.live, ignore_errors=True)
        if not self._kept.exists():
            return None
        with tarfile.open(self._kept) as file:
            file.extractall(self.folder, _of_live(file), filter="data")
            meta = json.loads(_member(file, _META))
            arrays = {
                name.removesuffix(".npy"): np.load(io.BytesIO(_member(file, name)))
                for name in file.getnames()
                if name.endswith(".npy")
            }
        return meta, arrays

    def finish(self, result: SimulationResult) -> None:
        """Keep what came of the arm; `live` is needed no more."""
        _write(self.folder / "result.json", json.dumps(result.row(), indent=2).encode() + b"\n")
        shutil.rmtree(self.live, ignore_errors=True)

    def result(self) -> SimulationResult | None:
        """What came of the arm, if it has finished."""
        file = self.folder / "result.json"
        return result_of(json.loads(file.read_bytes())) if file.exists() else None


@dataclass(frozen=True)
class SimulationFolder:
    """All of it."""

    folder: Path

    @property
    def tissue(self) -> Path:
        """Drawn tiles."""
        return self.folder / "tissue"

    @property
    def encoded(self) -> Path:
        """Encoded tiles."""
        return self.folder / "encoded"

    def arm(self, arm: Arm, own: str) -> ArmFolder:
        """The part of `arm`; with a loss, encoder or strategy of one's own it is another one."""
        letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in own)
        return ArmFolder(self.folder / (f"{arm} {letters}" if own else arm))

    def results(self) -> list[SimulationResult]:
        """Of all arms that have finished, in the order of their names."""
        arms = [ArmFolder(path) for path in sorted(self.folder.iterdir()) if path.is_dir()]
        return [found for arm in arms if (found := arm.result()) is not None]

    def claim(self, what: Mapping[str, Any]) -> None:
        """From now on the folder is of the simulation that `what` names, and of no other."""
        if not (self.folder / _WHAT).exists():
            _write(self.folder / _WHAT, json.dumps(dict(what), indent=2).encode() + b"\n")

    @contextmanager
    def held(self, what: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for the simulation that `what` names.

        Raises `ConfigError` for the folder of another one, of something else, or of a simulation
        that is running.
        """
        self._check_ours()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self.folder} cannot be made: {error.strerror}.", "Choose another --dir."
            ) from None
        with exclusively(self.folder / _LOCK) as alone:
            if not alone:
                raise ConfigError(
                    f"A simulation is running in {self.folder}.",
                    "Wait for it, end it, or choose another --dir.",
                )
            self._check_same(dict(what))
            yield

    def _check_ours(self) -> None:
        if self.folder.is_file():
            raise ConfigError(f"{self.folder} is a file.", "Choose another --dir.")
        if not self.folder.is_dir() or (self.folder / _WHAT).exists():
            return
        if {path.name for path in self.folder.iterdir()} - {_LOCK}:
            raise ConfigError(
                f"{self.folder} is not empty, and no simulation made it.", "Choose another --dir."
            )

    def _check_same(self, what: dict[str, Any]) -> None:
        file = self.folder / _WHAT
        if not file.exists():
            return
        found = json.loads(file.read_bytes())
        odd = sorted(key for key in what.keys() | found.keys() if what.get(key) != found.get(key))
        if odd:
            words = "; ".join(f"{key} is {found.get(key)}, not {what.get(key)}" for key in odd)
            raise ConfigError(
                f"{self.folder} holds another simulation: {words}.",
                "Choose another --dir, or give the options of the first one: it then goes on.",
            )


def _snapshot(path: Path) -> bytes:
    """The SQLite database at `path` as one file, as of now, also while it is open."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master")}
        if _VECTORS in tables:
            copy.execute(f"DELETE FROM {_VECTORS}")
            copy.commit()
            copy.execute("VACUUM")
        return copy.serialize()


def _add(file: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    file.addfile(member, io.BytesIO(data))


def _member(file: tarfile.TarFile, name: str) -> bytes:
    found = file.extractfile(name)
    return b"" if found is None else found.read()


def _of_live(file: tarfile.TarFile) -> list[tarfile.TarInfo]:
    return [member for member in file.getmembers() if member.name.startswith("live/")]


def _write(path: Path, data: bytes) -> None:
    hint = "Free some space, then give the same command: the simulation goes on."
    with told_if_unwritable(path, hint, DeploymentError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, data)
