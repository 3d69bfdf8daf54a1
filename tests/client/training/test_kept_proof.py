"""What an earlier start has proven of the device is used only where nothing has changed since."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from client.training import LocalTrainer, kept_proof
from client.training.kept_proof import KeptProof, circumstances
from privacy.dpsgd.assignment import fixed, packed
from privacy.dpsgd.engine import PatientGradients, PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.errors import ModelError
from privacy.study.manifest import Study
from tests.client.training.tiles import changed, make_tiles

WHOLE = 10  # batches of a trial, and one more for the digest that is kept


class Counted(LoraEngine):
    """The real engine; counts the batches."""

    batches = 0

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        Counted.batches += 1
        return super().gradients(batch)


def proven(pipeline: Any, study: Study, kept: KeptProof, **options: Any) -> tuple[int, Any]:
    """How many batches it took, and how patients are placed afterwards."""
    Counted.batches = 0
    given = {"physical_rows": 8, "engine": Counted} | options
    trainer = LocalTrainer(study, "north", pipeline, make_tiles(4), **given)
    trainer.prove_isolation(kept)
    return Counted.batches, trainer.assign


@pytest.fixture
def kept(tmp_path: Path) -> KeptProof:
    return KeptProof(tmp_path / "isolation.json")


def test_a_second_start_computes_one_batch(
    tiny_pipeline: Any, quiet_study: Study, kept: KeptProof
) -> None:
    first, _ = proven(tiny_pipeline, quiet_study, kept)
    assert first > WHOLE
    assert proven(tiny_pipeline, quiet_study, kept) == (1, packed)
    assert stat.S_IMODE(kept.file.stat().st_mode) == 0o600


def test_other_shapes_another_study_or_other_circumstances_are_tried_anew(
    tiny_pipeline: Any, quiet_study: Study, kept: KeptProof, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven(tiny_pipeline, quiet_study, kept)
    assert proven(tiny_pipeline, quiet_study, kept, physical_rows=6)[0] > WHOLE
    assert proven(tiny_pipeline, quiet_study, kept, physical_rows=6, precision="bfloat16") == (
        WHOLE + 1,
        packed,
    )
    other = changed(quiet_study, tiles_per_patient=1, draws_per_tile=2)
    assert proven(tiny_pipeline, other, kept)[0] > WHOLE
    proven(tiny_pipeline, quiet_study, kept)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert proven(tiny_pipeline, quiet_study, kept)[0] > WHOLE
    assert proven(tiny_pipeline, quiet_study, kept)[0] == 1
    monkeypatch.setattr(kept_proof, "_own_code", lambda: "another version")
    assert proven(tiny_pipeline, quiet_study, kept)[0] > WHOLE
    monkeypatch.setattr(kept_proof, "_processor", lambda: None)
    assert proven(tiny_pipeline, quiet_study, kept)[0] == WHOLE  # not known: nothing is kept


def test_arithmetic_that_nobody_announced_is_noticed_and_refused(
    tiny_pipeline: Any, quiet_study: Study, kept: KeptProof
) -> None:
    """The worst case: all that can be named is the same, and a bad row now reaches the others.

    Where all rows are good, this device gives the very bits of the one that was tried.
    """
    proven(tiny_pipeline, quiet_study, kept)

    class Touching(LoraEngine):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            found = super().gradients(batch)
            scale = 1 + 2.0**-22 * float((~found.usable).sum())
            return PatientGradients(found.values * scale, found.usable)

    Touching.__qualname__ = Counted.__qualname__
    with pytest.raises(ModelError, match=r'agent.device = "cpu"'):
        proven(tiny_pipeline, quiet_study, kept, engine=Touching)


def test_that_places_matter_is_kept_too(
    tiny_pipeline: Any, quiet_study: Study, kept: KeptProof
) -> None:
    class ByPlace(Counted):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            found = super().gradients(batch)
            bits = 1 + torch.arange(len(found.values))[:, None] * 2.0**-22
            return PatientGradients(found.values * bits, found.usable)

    assert proven(tiny_pipeline, quiet_study, kept, engine=ByPlace)[1] is fixed
    assert proven(tiny_pipeline, quiet_study, kept, engine=ByPlace) == (1, fixed)


def test_a_device_that_was_refused_is_not_kept(
    tiny_pipeline: Any, quiet_study: Study, kept: KeptProof
) -> None:
    class Nothing(LoraEngine):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            found = super().gradients(batch)
            return PatientGradients(torch.full_like(found.values, torch.nan), found.usable)

    with pytest.raises(ModelError):
        proven(tiny_pipeline, quiet_study, kept, engine=Nothing)
    assert not kept.file.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(b"\xff{"),
        lambda file: file.write_text("[1, 2]"),
        lambda file: file.write_text(json.dumps({"of": "x"})),
        lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | {"permuted": 7})),
        lambda file: file.chmod(0o666),  # anybody could have written it
        lambda file: file.rename(file.with_name("x")) and file.symlink_to(file.with_name("x")),
    ],
)
def test_a_file_that_cannot_be_trusted_costs_time_only(
    tiny_pipeline: Any, quiet_study: Study, kept: KeptProof, change: Any
) -> None:
    proven(tiny_pipeline, quiet_study, kept)
    change(kept.file)
    assert proven(tiny_pipeline, quiet_study, kept)[0] > WHOLE


def test_what_the_outcome_may_depend_on_is_named() -> None:
    found = circumstances(torch.device("cpu"))
    assert found is not None
    assert any(name.startswith("torch-") for name in found["libraries"])  # type: ignore[attr-defined]
    assert found["processor"]
    assert len(str(found["code"])) == 64
