"""Whole bundles: those that hold, those that were broken, and those that are none."""

import dataclasses
import json
import math

import pytest

from craftsfl.audit.tampering import KINDS, NotHere, tamper
from craftsfl.audit.verdict import AuditVerdict, verify_bundle
from privacy.audit.archive import read_archive, write_archive
from privacy.audit.bundle import BundleParts, make_bundle, reindexed
from privacy.audit.checks.membership import KnownDigests
from privacy.audit.faults import Flaw
from privacy.audit.index import INDEX_FILE
from privacy.audit.records import MOST_BUNDLED_REFUSALS, RunRecord
from tests.craftsfl.audit.made import bundle, keys, keys_of, made, promoted, promoted_bundle

POOLED_KINDS = sorted(KINDS)
LOCAL_KINDS = sorted(KINDS)
SEEDS = "abcd"
# Where luck chooses little, and never makes it impossible.
LUCKLESS = frozenset(
    name
    for name, one in KINDS.items()
    if one.change.__module__.rpartition(".")[2] in ("begun_again", "facts", "forms", "records")
    or name in ("record-nested", "bound-to-a-stranger", "delta-changed")
)


def names(verdict: AuditVerdict) -> set[Flaw]:
    return {one.fault for one in verdict.failures}


def test_a_pooled_study_is_verified_down_to_its_adapter() -> None:
    verdict = verify_bundle(bundle("pooled"))
    assert verdict.passed, verdict.failures
    assert verdict.not_recomputed == []
    counts = verdict.counts
    assert (counts.charges, counts.steps, counts.sums) == (6, 2, 2)
    one = verdict.costs[0]
    assert one.study == one.claimed == max(list(one.against.values())[:4])
    assert math.isfinite(one.lifetime)
    values = json.loads(json.dumps(verdict.values(), allow_nan=False))
    assert values["passed"] is True
    assert len(values["sites"]) == 3


def test_a_study_of_updates_is_verified_but_for_its_adapter() -> None:
    verdict = verify_bundle(bundle("local"))
    assert verdict.passed, verdict.failures
    assert any("keeps no sums" in line for line in verdict.not_recomputed)
    assert verdict.counts.charges == 6


def test_vectors_that_were_left_out_are_said_to_be_left_out() -> None:
    data = bundle("pooled", False)
    assert len(data) < len(bundle("pooled"))
    verdict = verify_bundle(data)
    assert verdict.passed, verdict.failures
    assert "named by their digests" in verdict.not_recomputed[0]
    assert (verdict.counts.sums, verdict.counts.vectors_left_out) == (0, 2)


def test_the_same_parts_give_the_same_bytes() -> None:
    assert make_bundle(made("pooled").parts) == bundle("pooled")


@pytest.mark.parametrize("kind", POOLED_KINDS)
def test_whatever_is_broken_is_found_and_named(kind: str) -> None:
    found_at_all = 0
    data, own = bundle("pooled"), keys("pooled")
    if KINDS[kind].expected & {Flaw.PROMOTION, Flaw.SIGNOFF, Flaw.READERS}:
        data, own = promoted_bundle(), keys_of(promoted())
    for seed in SEEDS[: 2 if kind in LUCKLESS else 4]:
        try:
            broken = tamper(data, kind, seed, own)
        except NotHere:
            continue  # with this luck
        verdict = verify_bundle(broken.data)
        right = [one for one in verdict.failures if one.fault in broken.expected]
        assert not verdict.passed
        assert right, (broken.words, verdict.failures)
        assert not broken.site or broken.site in {one.site for one in right}, verdict.failures
        found_at_all += 1
    assert found_at_all >= 2


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_the_same_of_a_study_of_updates(kind: str) -> None:
    try:
        broken = tamper(bundle("local"), kind, "c", keys("local"))
    except NotHere:
        return  # it has no steps
    verdict = verify_bundle(broken.data)
    assert names(verdict) & broken.expected, (broken.words, verdict.failures)


def test_insiders_keys_are_needed_where_it_says_so() -> None:
    for name, one in KINDS.items():
        if one.needs_keys:
            with pytest.raises(NotHere):
                tamper(bundle("pooled"), name, "seed")


def test_another_consortiums_bundle_is_not_the_one_that_was_expected() -> None:
    study = made("pooled").study
    right = KnownDigests(study.digest().hex(), study.secure_aggregation.roster)
    assert verify_bundle(bundle("pooled"), right).passed
    for wrong in (KnownDigests("0" * 64), KnownDigests(None, "0" * 64)):
        assert names(verify_bundle(bundle("pooled"), wrong)) == {Flaw.OTHER_CONSORTIUM}
    other = made("local").parts
    mixed = dataclasses.replace(made("pooled").parts, rosters=other.rosters)
    assert (
        not verify_bundle(make_bundle(mixed)).passed
        or other.rosters == made("pooled").parts.rosters
    )


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip", b"PK\x03\x04" + bytes(500)])
def test_what_is_no_bundle_is_said_to_be_none(data: bytes) -> None:
    verdict = verify_bundle(data)
    assert not verdict.passed
    assert names(verdict) == {Flaw.NOT_A_BUNDLE}
    assert json.dumps(verdict.values())


def test_a_zip_without_an_index_is_no_bundle() -> None:
    assert names(verify_bundle(write_archive({"a": b""}))) == {Flaw.NOT_A_BUNDLE}
    assert names(verify_bundle(write_archive({INDEX_FILE: b"[]"}))) == {Flaw.MALFORMED}


def test_a_newer_version_is_named() -> None:
    files = read_archive(bundle("pooled"))
    files[INDEX_FILE] = files[INDEX_FILE].replace(b'"version":1', b'"version":2')
    assert names(verify_bundle(write_archive(files))) == {Flaw.NEWER_VERSION}


def test_an_empty_study_is_not_passed() -> None:
    parts = made("pooled").parts
    empty = BundleParts(parts.study, parts.rosters, {}, {}, {}, layout=parts.layout)
    assert Flaw.EMPTY_STUDY in names(verify_bundle(make_bundle(empty)))
    run = dataclasses.replace(parts.runs[1].record, attempts=())
    no_rounds = dataclasses.replace(
        parts, runs={1: dataclasses.replace(parts.runs[1], record=run, sums=())}
    )
    assert Flaw.EMPTY_STUDY in names(verify_bundle(make_bundle(no_rounds)))


def test_a_million_refusals_are_too_many_and_nothing_worse() -> None:
    files = read_archive(bundle("pooled"))
    record = RunRecord.decode(files["runs/0001/record.json"])
    few = dataclasses.replace(record, refusals=(("site-001", "no"),) * 5)
    files["runs/0001/record.json"] = few.encode()
    assert verify_bundle(reindexed(files, "made", 1)).passed
    many = dataclasses.replace(record, refusals=(("site-001", ""),) * (MOST_BUNDLED_REFUSALS + 1))
    files["runs/0001/record.json"] = many.encode()
    verdict = verify_bundle(reindexed(files, "made", 1))
    assert Flaw.RECORD in names(verdict)
    assert any(str(MOST_BUNDLED_REFUSALS) in one.words for one in verdict.failures)


@pytest.mark.parametrize(
    "name",
    [
        *("runs/0001/record.json", "runs/0001/requests.bin", "runs/0001/sums.bin"),
        *("runs/0001/sessions.bin", "runs/0001/closing.bin", "runs/0001/vectors/site-001.bin"),
        *("layout.json", "study.toml", "rosters.cfl", "adapter.safetensors"),
        *("sites/site-001/ledger.bin", "sites/site-001/statement.json"),
    ],
)
@pytest.mark.parametrize("rubbish", [b"", b"[" * 100_000, b"\xff" * 300])
def test_rubbish_in_a_file_is_a_failure_and_never_a_crash(name: str, rubbish: bytes) -> None:
    files = read_archive(bundle("pooled"))
    files[name] = rubbish
    try:
        data = reindexed(files, "made", 1)
    except Exception:  # noqa: BLE001 - the manifest itself cannot be read: the index stays
        data = write_archive(files)
    assert not verify_bundle(data).passed


def test_words_of_a_hostile_bundle_cannot_act_on_a_terminal() -> None:
    files = read_archive(bundle("pooled"))
    record = RunRecord.decode(files["runs/0001/record.json"])
    odd = dataclasses.replace(record.attempts[0], sites=("\x1b[31mred\u202e",))
    files["runs/0001/record.json"] = dataclasses.replace(
        record, attempts=(odd, *record.attempts[1:])
    ).encode()
    verdict = verify_bundle(reindexed(files, "made\x1b", 1))
    assert not verdict.passed
    assert all(str(one).isprintable() for one in verdict.failures)
