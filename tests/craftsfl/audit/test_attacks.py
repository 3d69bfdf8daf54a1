"""Bundles of somebody who knows the checks: each of these once passed, or ended the auditor."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from craftsfl.audit.signing import released_adapter
from craftsfl.audit.sources import sample_bytes
from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.verdict import AuditVerdict, verify_bundle
from privacy.audit.faults import Flaw
from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.ledger.attempts import Charge
from privacy.ledger.records import Intent
from privacy.log.entries import EntryKind, LogEntry, facts
from privacy.mechanisms.registry import event_from_json
from tests.craftsfl.audit.made import bundle, keys

ADAPTER = "adapter.safetensors"
Change = Callable[[Draft], None]


def judged(change: Change, data: bytes | None = None) -> AuditVerdict:
    draft = Draft.of(sample_bytes() if data is None else data, "s")
    change(draft)
    return verify_bundle(draft.sealed())


def flaws(verdict: AuditVerdict) -> set[Flaw]:
    return {one.fault for one in verdict.failures}


def test_a_site_that_books_its_steps_on_another_study_pays_for_them() -> None:
    """With keys of its own, a site moves its charges to a study whose noise costs nothing."""
    site, own = "north", keys("pooled")

    def moved(draft: Draft) -> None:
        nonlocal site
        site, contents = draft.some_site(), []
        for content in draft.contents(site):
            if isinstance(content, Intent):
                said = json.loads(content.charge.event.to_json()) | {"noise_multiplier": 9000.0}
                event = event_from_json(json.dumps(said, sort_keys=True, separators=(",", ":")))
                study = b"\x42" * 32
                charge = Charge(study, event, content.charge.delta)
                content = replace(content, key=replace(content.key, study=study), charge=charge)
            contents.append(content)
        draft.rewrite(site, contents, own.ledgers[site])
        head = draft.ledger(site)[0].to_bytes()
        said_of = replace(draft.statement(site).statement, head=head, epsilon=0.001, lifetime=0.001)
        draft.say(site, said_of, own.identities[site])

    verdict = judged(moved, bundle("pooled"))
    assert site in {one.site for one in verdict.failures if one.fault is not Flaw.LOG_ENTRY}
    assert site in {one.site for one in verdict.failures if one.fault is Flaw.NOT_CHARGED}


def with_adapter(draft: Draft, data: bytes) -> None:
    draft.files[ADAPTER] = data
    draft.put_record(replace(draft.record(), released=hashlib.sha256(data).hexdigest()))


def rewritten(change: Callable[[dict[str, dict[str, str]], bytearray], None]) -> Change:
    """The released file with another header or body, under a digest that fits."""

    def action(draft: Draft) -> None:
        data = draft.files[ADAPTER]
        size = int.from_bytes(data[:8], "little")
        header, body = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
        change(header, body)
        text = json.dumps(header).encode()
        with_adapter(draft, len(text).to_bytes(8, "little") + text + bytes(body))

    return action


def smaller_epsilon(header: dict[str, dict[str, str]], body: bytearray) -> None:
    study = Draft.of(sample_bytes(), "s").study
    origin = {
        "study_digest": study.digest().hex(),
        "delta": study.privacy.delta,
        "rounds": study.rounds,
        "base": study.base.digest,
        "epsilon": 0.01,
    }
    header["__metadata__"]["craftsfl_origin"] = json.dumps(origin)


def one_more_word(header: dict[str, dict[str, str]], body: bytearray) -> None:
    header["__metadata__"]["approved"] = "by nobody"


def other_frozen_factors(header: dict[str, dict[str, str]], body: bytearray) -> None:
    name = next(name for name in header if "lora_A" in name)
    first, last = json.loads(json.dumps(header[name]["data_offsets"]))
    body[first:last] = b"\0\0\x80\x7f" * ((last - first) // 4)


def a_tensor_beyond_the_layout(header: dict[str, dict[str, str]], body: bytearray) -> None:
    place = [len(body), len(body) + 4]
    header["unet.x.lora_B.weight"] = {"dtype": "F32", "shape": [1], "data_offsets": place}  # type: ignore[dict-item]
    body += b"\0\0\x80\x3f"


@pytest.mark.parametrize(
    "change", [smaller_epsilon, one_more_word, other_frozen_factors, a_tensor_beyond_the_layout]
)
def test_nothing_in_the_released_file_is_the_coordinators_word(
    change: Callable[[dict[str, dict[str, str]], bytearray], None],
) -> None:
    assert Flaw.ADAPTER in flaws(judged(rewritten(change)))


def test_an_adapter_that_is_not_in_the_bundle_is_not_signed_for() -> None:
    def gone(draft: Draft) -> None:
        del draft.files[ADAPTER]
        draft.put_record(replace(draft.record(), released=hashlib.sha256(b"evil").hexdigest()))

    verdict = judged(gone)
    assert verdict.evidence is not None
    assert released_adapter(verdict.evidence) == ""
    assert any("adapter is not in the bundle" in line for line in verdict.not_recomputed)


def test_the_record_cannot_name_other_sites() -> None:
    def lies(draft: Draft) -> None:
        record = draft.record()
        attempts = tuple(replace(one, sites=("mallory",)) for one in record.attempts)
        draft.put_record(replace(record, attempts=attempts, refusals=()))

    assert Flaw.RECORD in flaws(judged(lies))


def test_an_end_that_was_left_out_is_said_to_be() -> None:
    verdict = judged(lambda draft: draft.files.__delitem__("runs/0001/closing.bin"))
    assert any("its end is not in the bundle" in line for line in verdict.not_recomputed)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (EntryKind.STEP, {"run": [], "step": 1}),
        (EntryKind.STEP, {"run": 1, "step": 10**15, "opened": []}),
        (EntryKind.STUDY, {"secure_aggregation": {"roster": []}}),
    ],
)
def test_no_entry_of_the_log_ends_the_auditor(kind: EntryKind, body: dict[str, object]) -> None:
    def added(draft: Draft) -> None:
        said = dict(body)
        if kind is EntryKind.STUDY:
            pooled = draft.study.pooled
            said["pooled"] = {"coordinator_key": pooled.coordinator_key if pooled else ""}
        else:
            said["study"] = draft.study.digest().hex()
        rows = unpacked_rows(draft.files["log/entries.bin"])
        rows.append(LogEntry(kind, 0, facts(said)).encode())
        draft.files["log/entries.bin"] = packed_rows(rows)

    assert not judged(added).passed


def test_a_study_of_four_billion_rounds_is_too_large_and_takes_no_memory() -> None:
    def longer(draft: Draft) -> None:
        text = draft.files["study.toml"].decode()
        line = next(line for line in text.splitlines() if line.startswith("rounds = "))
        draft.files["study.toml"] = text.replace(line, "rounds = 4294967295", 1).encode()

    assert not judged(longer).passed


@pytest.mark.parametrize(
    "name", ["log/evil.bin", "runs/00001/record.json", "sites/zzz/statement.json"]
)
def test_nothing_travels_along_unread(name: str) -> None:
    def smuggled(draft: Draft) -> None:
        draft.files[name] = draft.files["sites/north/statement.json"]

    assert not judged(smuggled).passed
