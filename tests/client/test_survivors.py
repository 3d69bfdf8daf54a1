from __future__ import annotations

from pathlib import Path

import pytest

from client.agent.survivors import SignedSets
from privacy.errors import ConfigError, DeploymentError

STUDY, OTHER = bytes([1] * 32), bytes([2] * 32)


def test_sets_are_kept_by_study(tmp_path: Path) -> None:
    file = tmp_path / "survivors.json"
    signed = SignedSets(file, STUDY)
    assert signed.earlier() == ()
    for sites in ((3, 1, 2), (1, 2, 3), (1, 2, 4)):
        signed.add(sites)
    other = SignedSets(file, OTHER)
    assert other.earlier() == ()
    other.add((7, 8, 9))
    assert SignedSets(file, STUDY).earlier() == (frozenset({1, 2, 3}), frozenset({1, 2, 4}))
    assert SignedSets(file, OTHER).earlier() == (frozenset({7, 8, 9}),)
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_without_a_file_they_live_as_long_as_the_process() -> None:
    signed = SignedSets()
    signed.add((1, 2, 3))
    assert signed.earlier() == (frozenset({1, 2, 3}),)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"ab": 1}', b'{"ab": [["x"]]}', b"\xff"])
def test_a_damaged_file_is_not_taken_for_an_empty_one(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "survivors.json"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match="is damaged"):
        SignedSets(file, STUDY)


def test_what_cannot_be_written_is_not_remembered(tmp_path: Path) -> None:
    signed = SignedSets(tmp_path / "gone" / "survivors.json", STUDY)
    with pytest.raises(DeploymentError, match="cannot be written"):
        signed.add((1, 2, 3))
    assert signed.earlier() == ()
