"""The search for planted secrets finds them, in every form and wherever they lie."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.canaries import Search, plant, word
from tests.client.pictures import write_folder

SECRET = "Märta Kanarienvogel"
RAW = SECRET.encode()
NOISE = bytes(range(256)) * 40


@pytest.mark.parametrize(
    "write",
    [
        lambda: RAW,
        lambda: RAW.upper(),
        lambda: SECRET.encode("utf-16-le"),
        lambda: json.dumps({"id": SECRET}).encode(),
        lambda: repr(SECRET.encode()).encode(),
        lambda: RAW.hex().encode(),
        lambda: RAW.hex().upper().encode(),
        lambda: base64.b64encode(b"x" + RAW + b"yz"),
        lambda: base64.b64encode(b"xy" + RAW),
        lambda: base64.b64encode(b"xyz" + RAW + b"y"),
        lambda: hashlib.sha256(RAW).digest()[:8],
        lambda: hashlib.sha256(RAW).hexdigest()[:14].encode(),
        lambda: b"patient " + hashlib.sha256(RAW).hexdigest()[:8].encode() + b",",
        lambda: hashlib.md5(RAW).hexdigest().encode(),
        lambda: base64.b64encode(hashlib.sha512(RAW).digest()),
    ],
)
@pytest.mark.parametrize("before", [0, 4_194_300])
def test_a_secret_is_found_in_every_form(write: Callable[[], bytes], before: int) -> None:
    search = Search([SECRET, "another"])
    found = search.bytes(bytes(before) + NOISE + write() + NOISE, "here")
    assert {find.secret for find in found} == {SECRET}
    assert search.bytes(bytes(before) + NOISE) == []


def test_a_secret_is_found_inside_files_and_in_their_names(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "archive.npz", words=np.array([RAW * 50]))
    with sqlite3.connect(tmp_path / "rounds.db") as database:
        database.execute("CREATE TABLE t (x TEXT)")
        long = "x" * 4050 + SECRET + "y" * 9000  # over the pages of the file
        database.execute("INSERT INTO t VALUES (?)", (long,))
    database.close()
    (tmp_path / f"{SECRET}.txt").write_text("")
    (tmp_path / "harmless").write_bytes(NOISE)
    files, found = Search([SECRET]).folder(tmp_path)
    assert files == 4
    places = {Path(find.where.removeprefix("the name ")).name for find in found}
    assert places == {"archive.npz", "rounds.db", f"{SECRET}.txt"}


def test_planting_leaves_a_folder_that_can_be_used_and_is_all_secret(tmp_path: Path) -> None:
    from client.data import load_site_data

    secrets = plant(write_folder(tmp_path / "tiles", patients=4))
    data = load_site_data(tmp_path / "tiles")
    assert (len(data.tiles), data.patients, len(data.quarantined)) == (8, 4, 3)
    search = Search(secrets)
    for tile in data.tiles:
        for value in (tile.caption.encode(), tile.path.name.encode(), tile.path.read_bytes()):
            assert search.bytes(value)
    assert word("patient", "tiles", "canary-patient-0") in " ".join(map(str, secrets))
