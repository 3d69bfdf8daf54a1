"""Level-5 MATLAB files: read as scipy reads them, and every damage is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import io

from model.lab.control.mat5 import BadMatFile, NewerMatFile, read_arrays

WANTED = ("inst_map", "id")


def fields() -> dict[str, NDArray[np.generic] | str]:
    rng = np.random.default_rng(1)
    return {
        "inst_map": rng.integers(70_000, size=(7, 5)).astype(np.int32),
        "id": np.arange(3)[:, None].astype(np.float64),
        "centroid": rng.random((3, 2)),
        "note": "text is passed over",
    }


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "i8", "f4", "f8"])
def test_scipy_reads_the_same(tmp_path: Path, compressed: bool, dtype: str) -> None:
    path = tmp_path / "m.mat"
    values = np.asarray(fields()["inst_map"]).astype(dtype)
    io.savemat(path, fields() | {"inst_map": values}, do_compression=compressed)
    found, expected = read_arrays(path, WANTED), io.loadmat(path)
    assert sorted(found) == sorted(WANTED)
    for name in WANTED:
        assert np.array_equal(found[name], expected[name])


def test_what_is_not_numbers_is_passed_over(tmp_path: Path) -> None:
    cells = np.array([{"a": 1}, "b"], dtype=object)
    io.savemat(tmp_path / "m.mat", {"inst_map": cells, "id": np.zeros((0, 0))})
    assert list(read_arrays(tmp_path / "m.mat", WANTED)) == ["id"]


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    io.savemat(tmp_path / "m.mat", {"id": np.array([[1 + 2j]])})
    with pytest.raises(BadMatFile, match="complex"):
        read_arrays(tmp_path / "m.mat", WANTED)


def test_version_seven_point_three_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600, b"\0"))
    with pytest.raises(NewerMatFile):
        read_arrays(tmp_path / "m.mat", WANTED)


def test_a_compressed_array_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io.savemat(tmp_path / "m.mat", {"id": np.zeros((300, 300))}, do_compression=True)
    monkeypatch.setattr("model.lab.control.mat5.MOST_BYTES", 100_000)
    with pytest.raises(BadMatFile, match="too large"):
        read_arrays(tmp_path / "m.mat", WANTED)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    compressed=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 500),
)
def test_damage_is_refused_or_harmless(
    tmp_path: Path, compressed: bool, changes: list[tuple[int, int]], cut: int
) -> None:
    path = tmp_path / "m.mat"
    io.savemat(path, fields(), do_compression=compressed)
    raw = bytearray(path.read_bytes())
    for at, value in changes:
        raw[at % len(raw)] = value
    path.write_bytes(raw[: len(raw) - cut if cut < 250 else len(raw)])
    try:
        found = read_arrays(path, WANTED)
    except BadMatFile:
        return
    assert set(found) <= set(WANTED)
