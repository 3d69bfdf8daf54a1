"""Promotions in a bundle: in the log, in order, on the signatures that the manifest asks for."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.audit.made import made_auditor
from craftsfl.audit.champion import GivenChampion
from craftsfl.audit.commands import app
from craftsfl.audit.readers_words import readers_words
from craftsfl.audit.report.figures import report_figures
from craftsfl.audit.report.write import render_report
from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.verdict import verify_bundle
from craftsfl.simulation.members import seeded_identity
from privacy.audit.checks.promotions import PROMOTIONS_FILE, _champion, _read
from privacy.audit.faults import Flaw
from privacy.audit.promotions import (
    LoggedPromotion,
    PromotionRow,
    decode_promotions,
    encode_promotions,
    signoff_facts,
    signoff_of,
)
from privacy.audit.readers_result import ReadersInterval
from privacy.audit.signoff import SignedVerdict
from privacy.errors import AuditError
from privacy.identity import Identity
from server.promotion_record import PromotionRecord
from tests.craftsfl.audit.made import promoted, promoted_bundle

DIGEST = "ab" * 32
OWN = LoggedPromotion(DIGEST, 1, 3, "7", "cd" * 32, back=False)


def adapter() -> bytes:
    return promoted().parts.adapter


def test_a_promoted_study_holds_and_says_what_its_champion_is() -> None:
    verdict = verify_bundle(promoted_bundle())
    assert verdict.passed, verdict.failures
    assert [(one.number, one.back) for one in verdict.promotions] == [(1, False), (2, True)]
    values = json.loads(json.dumps(verdict.values()))
    assert values["promotions"][-1]["digest"] == hashlib.sha256(adapter()).hexdigest()


def test_whoever_has_a_champion_learns_whether_the_log_promotes_it(tmp_path: Path) -> None:
    bundle, file = tmp_path / "bundle.zip", tmp_path / "given.safetensors"
    bundle.write_bytes(promoted_bundle())
    file.write_bytes(adapter())
    typed = ["verify", str(bundle), "--champion"]
    good = CliRunner().invoke(app, [*typed, str(file)])
    assert good.exit_code == 0, good.output
    assert "Champion   version 1 of run 1" in good.output
    assert "Given      It holds what run 1 came to: the start of the study and 2" in good.output
    file.write_bytes(adapter() + b"0")
    bad = CliRunner().invoke(app, [*typed, str(file)])
    assert bad.exit_code == 1
    assert "was never promoted" in bad.output


def test_on_which_readers_a_promotion_rests_is_said() -> None:
    verdict = verify_bundle(promoted_bundle())
    (read,) = verdict.readers
    assert read.adapter == hashlib.sha256(adapter()).hexdigest()
    assert read.told_apart is not None
    assert read.told_apart.high == 0.55
    assert "told real from synthetic in 0.500 (0.450 to 0.550); signed by ada" in readers_words(
        read
    )
    assert verdict.evidence is not None
    assert readers_words(read) in render_report(
        verdict, verdict.evidence, report_figures(verdict.evidence)
    )


def test_readers_who_could_tell_make_no_champion() -> None:
    """Signed by whom the manifest names, of this very adapter: and it does not show it."""
    study = promoted().study
    row = decode_promotions(Draft.of(promoted_bundle(), "s").files[PROMOTIONS_FILE])[0]
    told = replace(row.readings[0], told_apart=ReadersInterval(0.9, 0.85, 0.95, 320))
    signer = seeded_identity("promoted readers")
    for readings, words in (
        ((told.signed_with(signer),), "0.900 (0.850 to 0.950)"),
        ((row.readings[0], told.signed_with(signer)), "0.900 (0.850 to 0.950)"),
        ((told,), "the signature is not ada's"),
        ((), "no result was handed in"),
    ):
        found = list(_read(study, replace(row, readings=readings), "It"))
        assert {one.fault for one in found} == {Flaw.READERS}
        assert any(words in one.words for one in found)
    assert not list(_read(study, row, "It"))


def test_a_study_that_promoted_nothing_has_no_champion() -> None:
    from craftsfl.audit.sources import sample_bytes

    verdict = verify_bundle(sample_bytes(), champion=GivenChampion(DIGEST))
    assert [one.fault for one in verdict.failures] == [Flaw.PROMOTION]
    assert verdict.champion is not None
    assert not verdict.champion.recomputed
    assert "It was never promoted" in verdict.not_recomputed[-1]


def test_verdicts_of_strangers_do_not_make_a_champion() -> None:
    """A list whose verdicts another key has signed, in the auditor's name, and no log of them."""
    draft = Draft.of(promoted_bundle(), "s")
    rows = decode_promotions(draft.files[PROMOTIONS_FILE])
    forged = SignedVerdict.signed(rows[0].signoffs[0], Identity.from_seed(bytes(32)))
    draft.files[PROMOTIONS_FILE] = encode_promotions(
        [PromotionRow(rows[0].promotion, (forged,)), *rows[1:]]
    )
    # The log's verdicts make the champion; whatever the list has beside them is named.
    (found,) = verify_bundle(draft.sealed()).failures
    assert found.fault is Flaw.SIGNOFF
    assert "a verdict in the name of dr-weiss that the log lacks" in found.words


def test_a_list_as_bytes_is_refused_if_anything_in_it_is_odd() -> None:
    auditor = made_auditor("x")
    signed = SignedVerdict.signed(
        SignedVerdict("ada", "0" * 64, DIGEST, 3, OWN.digest, 0, 0), auditor
    )
    assert signoff_of(signoff_facts(signed)) == signed
    data = encode_promotions([PromotionRow(OWN, (signed,))])
    assert decode_promotions(data) == (PromotionRow(OWN, (signed,)),)
    for old, new in (
        (b'"number":1', b'"number":0'),
        (b'"number":1', b'"number":true'),
        (b'"version":"7"', b'"version":"v7"'),
        (b'"back":false', b'"back":0'),
        (b'"run":3', b'"run":3.0'),
        (b'"signoffs":[', b'"signoffs":[1,'),
        (b'"back"', b'"bock"'),
        (b",", b", "),
    ):
        with pytest.raises(AuditError):
            decode_promotions(data.replace(old, new, 1))


def test_the_coordinators_list_numbers_each_studys_promotions(tmp_path: Path) -> None:
    record = PromotionRecord(tmp_path / "promotions.json")
    assert record.rows() == ()
    assert record.newest(bytes.fromhex(DIGEST)) is None
    other = LoggedPromotion("ef" * 32, 9, 1, "1", OWN.digest, back=False)
    for one in (OWN, other, OWN):
        record.add(PromotionRow(one))
    again = PromotionRecord(tmp_path / "promotions.json")
    assert [row.promotion.number for row in again.rows()] == [1, 1, 2]
    newest = again.newest(bytes.fromhex(DIGEST))
    assert newest is not None
    assert newest.number == 2
    assert len(again.entries()) == 3


def test_a_champion_of_before_is_not_the_champion() -> None:
    """A hospital that was handed yesterday's adapter, after another one was promoted."""
    newest = LoggedPromotion(DIGEST, 2, 4, "8", "ef" * 32, back=False)
    (older,) = _champion([OWN, newest], OWN.digest)
    assert older.fault is Flaw.PROMOTION
    assert "is version 7; the newest promotion is of version 8" in older.words
    assert not list(_champion([OWN, newest], newest.digest))
    assert not list(_champion([OWN, newest, OWN], OWN.digest))  # a rollback
