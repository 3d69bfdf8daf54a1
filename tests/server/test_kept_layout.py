"""A ServerApp knows what an adapter's numbers mean from the last time, without loading a model."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from model.adapters import layout_of
from model.digest import folder_digest
from privacy.study.manifest import Study
from server import kept_layout
from server.kept_layout import study_layout
from tests.server.masked import study_of_four


def study_on(base: Path, values: dict, **changes: object) -> Study:
    values = {**values, "base": {"digest": folder_digest(base), "source": str(base)}}
    return study_of_four(values, bound=64.0, **changes)


def without_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, importing the model's code fails."""
    monkeypatch.setitem(sys.modules, "model.adapters", None)


def test_the_second_start_needs_no_model(
    tmp_path: Path, tiny_base: Path, study_values: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_on(tiny_base, study_values)
    expected = layout_of(tiny_base, study.adapter)
    assert study_layout(study, tiny_base, tmp_path / "layouts") == expected
    without_model(monkeypatch)
    assert study_layout(study, tiny_base, tmp_path / "layouts") == expected
    (file,) = (tmp_path / "layouts").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_another_adapter_or_another_library_is_worked_out_anew(
    tmp_path: Path, tiny_base: Path, study_values: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_on(tiny_base, study_values)
    first = study_layout(study, tiny_base, tmp_path)
    adapter = study.adapter.model_dump(mode="json") | {"rank": study.adapter.rank + 1}
    other = study_on(tiny_base, study_values, adapter=adapter)
    assert study_layout(other, tiny_base, tmp_path) != first
    without_model(monkeypatch)
    monkeypatch.setattr(kept_layout.metadata, "version", lambda name: "another")
    with pytest.raises(ImportError):
        study_layout(study, tiny_base, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b""),
        lambda file: file.chmod(0o622),  # anybody could have written it
    ],
)
def test_a_file_that_cannot_be_trusted_costs_time_only(
    tmp_path: Path, tiny_base: Path, study_values: dict, change
) -> None:
    study = study_on(tiny_base, study_values)
    expected = study_layout(study, tiny_base, tmp_path)
    (file,) = tmp_path.iterdir()
    change(file)
    assert study_layout(study, tiny_base, tmp_path) == expected
