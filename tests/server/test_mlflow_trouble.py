"""What is wrong with MLflow is said in words with a cure: on the real client and real databases."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from privacy.errors import DeploymentError
from server.mlflow_client import mlflow_errors, quiet_client

Place = Callable[[Path], str]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole one, made by MLflow."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    quiet_client(f"sqlite:///{file}").search_experiments()
    return file


def nobody(_: Path) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def damaged(file: Path) -> str:
    data = bytearray(file.read_bytes())
    data[:4096] = b"canary" * 682 + b"1234"
    file.write_bytes(data)
    return f"sqlite:///{file}"


def of_another_version(file: Path) -> str:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'abcdefabcdef'")
    return f"sqlite:///{file}"


def without_a_driver(_: Path) -> str:
    return "postgresql+nodriver://canary:secret@127.0.0.1/mlflow"


def in_no_folder(file: Path) -> str:
    (file.parent / "file").write_text("")
    return f"sqlite:///{file.parent}/file/mlflow.db"


@pytest.mark.parametrize(
    ("place", "words", "cure"),
    [
        (nobody, "nobody answers there", "Start it."),
        (damaged, "its database is damaged", "Restore it from a backup"),
        (of_another_version, "of another version of MLflow", "mlflow db upgrade"),
        (without_a_driver, "", "Start it."),
        (in_no_folder, "its database cannot be opened", "Check the path"),
    ],
)
def test_each_trouble_has_its_words(
    database: Path, tmp_path: Path, place: Place, words: str, cure: str
) -> None:
    uri = place(Path(shutil.copy(database, tmp_path / "mlflow.db")))
    with pytest.raises(DeploymentError) as raised, mlflow_errors(uri, "Start it."):
        quiet_client(uri).search_experiments()
    error = raised.value
    assert words in error.message
    assert cure in error.hint
    assert error.hint.endswith("Start it.")
    assert not re.search(r"Error\b|Exception|SELECT|sqlalche|secret|Traceback", str(error)), error
