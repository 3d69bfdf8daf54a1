"""`craftsfl rounds promote` and `rollback` with MLflow's real registry."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from craftsfl.cli import app
from privacy.audit.readers_result import ReadersInterval, SignedReaders
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, CraftsflError, DeploymentError
from privacy.identity import Identity
from server.promotion_record import PromotionRecord
from server.status import QualityStatus
from tests.craftsfl.rounds.finished import FinishedStudy, figure

NAME = "test-study"
GOOD = figure("denoising", -0.3, -0.1)


@pytest.fixture
def study(
    tmp_path: Path, tiny_base: Path, study_values: dict[str, Any], empty_mlflow: bytes
) -> FinishedStudy:
    """Demands that its loss on public tiles has fallen."""
    demands = {"improves": ["denoising"], "epsilon": 50.0}
    return FinishedStudy(tmp_path, tiny_base, study_values, empty_mlflow, promotion=demands)


def typed(study: FinishedStudy, *words: str) -> Result:
    return CliRunner().invoke(app, ["rounds", words[0], str(study.file), *words[1:]])


def refused(result: Result) -> CraftsflError:
    assert isinstance(result.exception, CraftsflError), result.output
    return result.exception


def champion(study: FinishedStudy) -> str | None:
    aliases = study.mlflow.get_registered_model(NAME).aliases
    return str(aliases["champion"]) if "champion" in aliases else None


def nobody() -> str:
    """Who runs a container whose user is a number, as `getpass` says it."""
    raise KeyError("getpwuid(): uid not found: 61007")


def test_a_version_becomes_champion_and_the_one_before_comes_back(
    study: FinishedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.finish(GOOD)
    monkeypatch.setattr("getpass.getuser", nobody)
    first = typed(study, "promote", "--yes")
    assert first.exit_code == 0, first.output
    assert "yes  its run has finished (run 1 is finished)" in first.output
    assert "yes  denoising on public tiles is better than the base's (change -0.2 (" in first.output
    assert "goes from nobody to version 1" in first.output
    study.finish(GOOD)
    assert "goes from version 1 to version 2" in typed(study, "promote", "--yes").output
    assert champion(study) == "2"
    assert "already" in typed(study, "promote", "--yes").output
    back = typed(study, "rollback", "--yes")
    assert "goes from version 2 to version 1" in back.output
    assert champion(study) == "1"
    assert study.mlflow.get_registered_model(NAME).aliases["challenger"] in (2, "2")
    error = refused(typed(study, "rollback", "--yes"))
    assert "no champion before version 1" in error.message
    assert champion(study) == "1"
    typed(study, "promote", "--version", "2", "--yes")
    assert champion(study) == "2"


@pytest.mark.parametrize("quality", [[figure("denoising", -0.3, 0.1)], []], ids=["unsure", "none"])
def test_what_does_not_show_what_the_study_demands_is_not_promoted(
    study: FinishedStudy, quality: list[QualityStatus]
) -> None:
    study.finish(*quality)
    result = typed(study, "promote", "--yes")
    error = refused(result)
    assert (error.id, champion(study)) == (str(ErrorId.NOT_PROMOTED), None)
    assert "does not show that denoising on public tiles" in error.message
    assert "[quality]" in error.hint
    assert "NO   denoising" in result.output


def test_an_adapter_that_was_changed_is_not_promoted(study: FinishedStudy) -> None:
    path = study.finish(GOOD)
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    assert "its file is the one that was registered" in refused(typed(study, "promote")).message


def test_a_version_that_only_mlflow_knows_is_not_promoted(study: FinishedStudy) -> None:
    study.finish(GOOD)
    client = study.mlflow
    made = client.create_model_version(NAME, source="file:///elsewhere")
    assert "only in part" in refused(typed(study, "promote", "--version", "2")).message
    client.set_model_version_tag(NAME, made.version, "craftsfl.logged", "complete")
    assert "of another study file" in refused(typed(study, "promote", "--version", "2")).message
    digest = study.study.digest().hex()
    client.set_model_version_tag(NAME, made.version, "craftsfl.study_digest", digest)
    client.set_model_version_tag(NAME, made.version, "craftsfl.run", "77")
    assert "no ended run 77" in refused(typed(study, "promote", "--version", "2")).message
    assert "has no 9" in refused(typed(study, "promote", "--version", "9")).message
    assert champion(study) is None


def test_nothing_is_changed_before_somebody_agrees(
    study: FinishedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.finish(GOOD)
    error = refused(typed(study, "promote"))
    assert isinstance(error, ConfigError) and "--yes" in error.hint
    monkeypatch.setattr("craftsfl.rounds.promotion._agreed", lambda: False)
    said = typed(study, "promote").output
    assert "goes from nobody to version 1" in said and "Nothing was changed." in said
    assert champion(study) is None


def test_readers_who_judged_another_adapter_promote_nothing(
    tmp_path: Path, tiny_base: Path, study_values: dict[str, Any], empty_mlflow: bytes
) -> None:
    key = Identity.from_seed(b"ada".ljust(32))
    listed = [{"name": "ada", "key": key.public.hex()}]
    demands = {"readers": {"keys": listed, "readers": 2, "told_apart": 0.6}}
    study = FinishedStudy(tmp_path, tiny_base, study_values, empty_mlflow, promotion=demands)
    path = study.finish()
    folder = tmp_path / "state" / "readers"
    folder.mkdir()
    result = SignedReaders(
        signer="ada",
        key="d" * 64,
        adapter="e" * 64,
        study=study.study.digest().hex(),
        readers=2,
        questions=800,
        missing=0,
        told_apart=ReadersInterval(0.5, 0.45, 0.55, 320),
        preferred=None,
        time=1,
    )
    (folder / "ada.readers").write_bytes(result.signed_with(key).encode())
    (folder / "odd.readers").write_bytes(b"{}")
    refusal = typed(study, "promote", "--yes")
    assert "2 readers or more have judged pictures of this adapter" in refused(refusal).message
    assert "ada's result is of another adapter, eeeeeeeeeeeeeeee" in refusal.output
    assert champion(study) is None
    own = replace(result, adapter=hashlib.sha256(path.read_bytes()).hexdigest())
    (folder / "ada.readers").write_bytes(own.signed_with(key).encode())
    done = typed(study, "promote", "--yes")
    assert done.exit_code == 0, done.output
    assert champion(study) == "1"
    (row,) = PromotionRecord(tmp_path / "state" / "promotions.json").rows()
    assert row.readings == (own.signed_with(key),)  # and nobody else's


@pytest.mark.slow
def test_an_alias_moved_by_hand_counts_and_a_deleted_version_is_passed_over(
    study: FinishedStudy,
) -> None:
    for last in (False, False, True):
        study.finish(GOOD, tell=last)
    for version in "123":
        typed(study, "promote", "--version", version, "--yes")
    client = study.mlflow
    client.set_registered_model_alias(NAME, "champion", "2")
    assert "goes from version 2 to version 1" in typed(study, "rollback", "--yes").output
    typed(study, "promote", "--version", "3", "--yes")
    client.set_registered_model_alias(NAME, "champion", "2")
    typed(study, "promote", "--version", "3", "--yes")
    client.delete_model_version(NAME, "2")
    assert "goes from version 3 to version 1" in typed(study, "rollback", "--yes").output
    client.delete_registered_model_alias(NAME, "champion")
    assert "has no champion" in refused(typed(study, "rollback", "--yes")).message


def test_before_a_run_and_without_mlflow_it_says_so(study: FinishedStudy, tmp_path: Path) -> None:
    error = refused(typed(study, "promote"))
    assert isinstance(error, DeploymentError) and "rounds track" in error.hint
    assert "has no champion" in refused(typed(study, "rollback")).message
    (tmp_path / "state" / "mlflow.db").write_bytes(b"no database")
    assert refused(typed(study, "promote")).id == str(ErrorId.MLFLOW_UNUSABLE)
