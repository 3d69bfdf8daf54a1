"""`craftsfl audit export` and promotions in the log, with what a real run has left on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bench.audit.made import MADE_RUN, MadeStudy, StudySize, made_auditor, made_study
from craftsfl.audit.verdict import verify_bundle
from craftsfl.cli import app
from privacy.audit.faults import Flaw
from privacy.audit.handed import HandedOver
from privacy.audit.promotions import LoggedPromotion, PromotionRow
from privacy.audit.signoff import SignedVerdict
from privacy.errors import AuditError, ConfigError
from privacy.files import write_private_once
from privacy.log.entries import EntryKind
from privacy.log.replay import LogReplay
from privacy.log.store import LogStore
from server.life import serving
from server.log_between_runs import bring_log_up_to_date
from server.promotion_record import PromotionRecord
from server.settings import ConsortiumSettings, load_consortium

AUDITOR = made_auditor("export")


class Coordinator:
    """The folder of a coordinator after a run, and what the sites have handed over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        size = StudySize(auditors=(("ada", AUDITOR.public.hex()),))
        self.made: MadeStudy = made_study(folder, "pooled", size, "export")
        write_private_once(folder / "coordinator.key", self.made.coordinator.pem(None))
        self.file = folder / "consortium.toml"
        self.file.write_text(
            'study = "study.toml"\nstate = "."\nroster = "rosters.cfl"\n'
            'coordinator_key = "coordinator.key"\n'
        )
        self.handed = []
        for name, ledger in self.made.parts.ledgers.items():
            path = folder / f"{name}.zip"
            said = self.made.parts.statements[name]
            path.write_bytes(HandedOver(name, ledger, said).encode())
            self.handed.append(str(path))

    @property
    def settings(self) -> ConsortiumSettings:
        return load_consortium(self.file)

    def export(self, *handed: str) -> Result:
        typed = ["audit", "export", str(self.file), *(handed or self.handed)]
        return CliRunner().invoke(app, [*typed, "-o", str(self.folder / "bundle.zip")])

    def promote(self, *signed: SignedVerdict, back: bool = False) -> None:
        """As `rounds promote` does, before it moves the alias in MLflow."""
        study, adapter = self.made.study, self.adapter
        row = PromotionRow(
            LoggedPromotion(study.digest().hex(), 1, MADE_RUN, "1", adapter, back), signed
        )
        PromotionRecord(self.settings.promotions_file()).add(row)

    @property
    def adapter(self) -> str:
        return self.made.parts.runs[MADE_RUN].record.released

    def verdict(self) -> SignedVerdict:
        unsigned = SignedVerdict(
            "ada", "0" * 64, self.made.study.digest().hex(), MADE_RUN, self.adapter, 0, 0
        )
        return SignedVerdict.signed(unsigned, AUDITOR)

    def logged(self) -> list[EntryKind]:
        replay = LogReplay(self.made.coordinator.public)
        with LogStore(self.settings.transparency_file()) as store:
            for entry in store.entries():
                replay.take(entry)
        wanted = (EntryKind.SIGNOFF, EntryKind.PROMOTION)
        return [kind for kind, _ in replay.facts if kind in wanted]


@pytest.fixture
def coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    found = Coordinator(tmp_path)
    # A made study's base does not exist; what its layout is, the study's maker knows.
    monkeypatch.setattr("craftsfl.rounds.export.find_study_base", lambda *_: tmp_path)
    monkeypatch.setattr("craftsfl.rounds.export.study_layout", lambda *_: found.made.layout)
    return found


def test_a_promotion_is_in_the_log_now_or_when_the_serverapp_lets_go(
    coordinator: Coordinator,
) -> None:
    settings, study = coordinator.settings, coordinator.made.study
    coordinator.promote(coordinator.verdict())
    with serving(settings.lock_file(), 2, 7):
        assert not bring_log_up_to_date(settings, study)
        assert coordinator.logged() == []
        result = coordinator.export()
        assert isinstance(result.exception, AuditError)
        assert "not in the log yet" in result.exception.message
    for _ in range(2):  # once, however often
        assert bring_log_up_to_date(settings, study)
        assert coordinator.logged() == [EntryKind.SIGNOFF, EntryKind.PROMOTION]
    result = coordinator.export()
    assert result.exit_code == 0, result.output
    verdict = verify_bundle((coordinator.folder / "bundle.zip").read_bytes())
    assert verdict.passed, verdict.failures
    assert [one.version for one in verdict.promotions] == ["1"]


def test_a_promotion_on_too_few_signatures_is_named_whatever_the_coordinator_writes(
    coordinator: Coordinator,
) -> None:
    coordinator.promote()
    assert coordinator.export().exit_code == 0  # the log takes it, as it takes all that is said
    verdict = verify_bundle((coordinator.folder / "bundle.zip").read_bytes())
    assert {one.fault for one in verdict.failures} == {Flaw.SIGNOFF}
    assert "0 of the 1 auditors' signatures" in verdict.failures[0].words
    assert json.dumps(verdict.values())


def test_what_is_handed_over_wrongly_is_refused_by_name(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    first, *others = coordinator.handed
    for handed, words in (
        (others, "Nothing was handed over by site-001"),
        ([first, first, *others], "or is there twice"),
        ([str(tmp_path / "study.toml"), *others], "study.toml: "),
    ):
        result = coordinator.export(*handed)
        assert isinstance(result.exception, AuditError)
        assert words in result.exception.message
    result = coordinator.export(str(tmp_path / "none.zip"), *others)
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "bundle.zip").exists()
