"""What a champion has to show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model.origin import Origin
from privacy.audit.readers_result import ReadersInterval, SignedReaders
from privacy.audit.signoff import SignedVerdict
from privacy.errors import ConfigError
from privacy.identity import Identity
from privacy.study.manifest import Study
from server.demands import DEMANDS, Candidate, Demand, DemandAnswer, demand_answers
from server.model_card import AdapterFacts
from server.status import QualityStatus, RunStatus
from server.tables import RunState
from tests.pooled_study import pooled_values
from tests.server.fakes import make_study

SHA = "ab" * 32
ORIGIN = Origin("sha256:" + "1" * 64, "study", "2" * 64, "5", 2, 3.9, 1e-5)


def figure(metric: str, low: float, high: float, round: int = 2) -> QualityStatus:
    return QualityStatus(round, metric, 0.5, (low + high) / 2, low, high, 20, 60, 1.7e9)


def status(state: RunState = RunState.FINISHED, *quality: QualityStatus, **more: Any) -> RunStatus:
    empty = {"study": "study", "message": "", "rounds_done": 2, "rounds": 2, "started": 0.0}
    rest = {"finished": 1.0, "sites": (), "history": (), "phases": {}}
    return RunStatus(run=5, state=state, quality=quality, **empty, **rest, **more)


def candidate(study: Study, **changes: Any) -> Candidate:
    facts = AdapterFacts("adapter.safetensors", SHA, ORIGIN)
    return replace(Candidate("3", study, status(), facts, SHA), **changes)


def unmet(found: Candidate) -> list[str]:
    return [answer.what for answer in demand_answers(found) if not answer.met]


def test_of_every_version_a_finished_run_and_an_unchanged_file_are_demanded(
    study_values: dict[str, Any],
) -> None:
    study = make_study(study_values)
    assert [a.met for a in demand_answers(candidate(study))] == [True, True]
    stopped = candidate(study, status=status(RunState.STOPPED))
    assert unmet(stopped) == ["its run has finished"]
    for changed in ({"registered": "cd" * 32}, {"adapter": None}):
        assert unmet(candidate(study, **changed)) == ["its file is the one that was registered"]


@pytest.mark.parametrize(
    ("improves", "quality", "met"),
    [
        pytest.param(["denoising"], [figure("denoising", -0.3, -0.1)], True, id="less loss"),
        pytest.param(["denoising"], [figure("denoising", -0.3, 0.1)], False, id="not shown"),
        pytest.param(["denoising"], [figure("denoising", 0.1, 0.3)], False, id="worse"),
        pytest.param(["denoising"], [figure("denoising", -0.3, 0.0)], False, id="at zero"),
        pytest.param(["denoising"], [figure("denoising", -9, -8, 1)], False, id="earlier round"),
        pytest.param(["denoising"], [], False, id="not measured"),
        pytest.param(["alignment"], [figure("alignment", 0.1, 0.3)], True, id="more alignment"),
        pytest.param(["alignment"], [figure("alignment", -0.3, -0.1)], False, id="less of it"),
        pytest.param(["alignment"], [figure("denoising", -0.3, -0.1)], False, id="the other"),
        pytest.param([], [], True, id="nothing demanded"),
    ],
)
def test_an_improvement_is_an_interval_on_the_good_side(
    study_values: dict[str, Any], improves: list[str], quality: list[QualityStatus], met: bool
) -> None:
    study = make_study(study_values, promotion={"improves": improves})
    found = candidate(study, status=status(RunState.FINISHED, *quality))
    assert (not unmet(found)) is met


@pytest.mark.parametrize(
    ("most", "origin", "met"),
    [
        (3.9, ORIGIN, True),
        (3.8, ORIGIN, False),
        (3.9, replace(ORIGIN, epsilon=None), False),  # no noise
        (3.9, None, False),
    ],
)
def test_epsilon_is_bounded(
    study_values: dict[str, Any], most: float, origin: Origin | None, met: bool
) -> None:
    study = make_study(study_values, promotion={"epsilon": most})
    found = candidate(study, adapter=AdapterFacts("adapter.safetensors", SHA, origin))
    assert (not unmet(found)) is met


@pytest.mark.parametrize(
    ("demanded", "confirmed", "met"),
    [
        (None, ("north",), True),
        (None, (), False),
        (None, None, False),
        (2, ("north",), False),
        (2, ("harbour", "north"), True),
    ],
)
def test_where_sites_work_the_adapter_out_they_have_confirmed_it(
    demanded: int | None, confirmed: tuple[str, ...] | None, met: bool
) -> None:
    values = pooled_values()
    if demanded is not None:
        values["promotion"] = {"confirmations": demanded}
    found = candidate(make_study(values), status=status(confirmed=confirmed))
    assert (not unmet(found)) is met


def test_as_many_auditors_as_the_study_asks_for_have_signed_for_this_adapter() -> None:
    keys = {name: Identity.from_seed(name.encode().ljust(32)) for name in ("ada", "ben")}
    listed = [{"name": name, "key": key.public.hex()} for name, key in keys.items()]
    study = make_study({**pooled_values(), "auditors": {"needed": 2, "keys": listed}})

    def signed(name: str, adapter: str = SHA) -> SignedVerdict:
        made = SignedVerdict(
            auditor=name,
            bundle="b" * 64,
            study=study.digest().hex(),
            run=5,
            adapter=adapter,
            not_recomputed=0,
            time=1,
        )
        return SignedVerdict.signed(made, keys[name])

    def missing(*verdicts: SignedVerdict) -> list[str]:
        confirmed = status(confirmed=("north",))
        return unmet(candidate(study, status=confirmed, verdicts=verdicts))

    wanted = ["2 of 2 auditors have verified a bundle with this adapter"]
    assert missing(signed("ada"), signed("ben")) == []
    assert missing() == missing(signed("ada"), signed("ada")) == wanted
    assert missing(signed("ada"), signed("ben", "cd" * 32)) == wanted


LISTED = {"name": "ada", "key": "ab" * 32}
READER_KEYS = {name: Identity.from_seed(name.encode().ljust(32)) for name in ("ada", "ben")}


def reading_study(values: dict[str, Any], **demand: Any) -> Study:
    keys = [{"name": name, "key": key.public.hex()} for name, key in READER_KEYS.items()]
    return make_study(values, promotion={"readers": {"keys": keys, "readers": 3, **demand}})


def reading(of: Study, /, signer: str = "ada", by: str = "", **changes: Any) -> SignedReaders:
    made = SignedReaders(
        signer=signer,
        key="d" * 64,
        adapter=SHA,
        study=of.digest().hex(),
        readers=3,
        questions=900,
        missing=0,
        told_apart=ReadersInterval(0.5, 0.45, 0.55, 360),
        preferred=ReadersInterval(0.8, 0.7, 0.9, 180),
        time=1,
    )
    return replace(made, **changes).signed_with(READER_KEYS[by or signer])


def test_readers_who_cannot_tell_and_who_prefer_it_are_enough(study_values: dict[str, Any]) -> None:
    study = reading_study(study_values, told_apart=0.6, preferred=0.5)
    found = candidate(study, readings=(reading(study), reading(study, "ben")))
    answers = demand_answers(found)[-3:]
    assert [answer.met for answer in answers] == [True, True, True]
    assert answers[0].found.count("sealed key dddddddddddddddd") == 2
    assert "0.500 (0.450 to 0.550)" in answers[1].found
    assert len(unmet(candidate(study))) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adapter": "cd" * 32}, "ada's result is of another adapter, cdcdcdcdcdcdcdcd"),
        ({"study": "cd" * 32}, "ada's result is of another study, cdcdcdcdcdcdcdcd"),
        ({"by": "ben"}, "the signature is not ada's"),
        ({"signer": "cem", "by": "ada"}, "cem is not named by the study"),
        ({"signer": "\x1b[2J", "by": "ada"}, "\\x1b[2J is not named"),
    ],
)
def test_a_result_of_something_else_is_refused_by_name(
    study_values: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    study = reading_study(study_values, told_apart=0.6)
    found = candidate(study, readings=(reading(study, **changes),))
    first, second = demand_answers(found)[-2:]
    assert (first.met, second.met) == (False, False)
    assert words in first.found
    assert "no result counts" in second.found


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"readers": 2}, "3 readers or more"),
        ({"told_apart": ReadersInterval(0.58, 0.5, 0.61, 99)}, "tell real from synthetic"),
        ({"told_apart": ReadersInterval(0.42, 0.39, 0.5, 99)}, "tell real from synthetic"),
        ({"told_apart": None}, "tell real from synthetic"),
        ({"preferred": ReadersInterval(0.6, 0.5, 0.7, 99)}, "prefers pictures"),
        ({"preferred": None}, "prefers pictures"),
    ],
)
def test_one_unkind_result_among_kind_ones_is_not_passed_over(
    study_values: dict[str, Any], changes: dict[str, Any], what: str
) -> None:
    study = reading_study(study_values, told_apart=0.6, preferred=0.5)
    found = candidate(study, readings=(reading(study, "ben"), reading(study, **changes)))
    (missing,) = unmet(found)
    assert what in missing


def test_another_demand_is_one_more_function(study_values: dict[str, Any]) -> None:
    def signed(candidate: Candidate) -> Any:
        yield DemandAnswer("an auditor has signed it off", False, "no signature", "Ask one.")

    demands: tuple[Demand, ...] = (*DEMANDS, signed)
    assert [a.met for a in demand_answers(candidate(make_study(study_values)), demands)][
        -1
    ] is False


def test_a_study_without_the_table_keeps_its_digest(study_values: dict[str, Any]) -> None:
    study = make_study(study_values)
    assert study.promotion is None
    demanding = make_study(study_values, promotion={"epsilon": 4.0})
    assert demanding.digest() != study.digest()
    assert study.digest().hex() == (
        "4908000b6226624eed09f18a0b77c85ddefbbd1ca0641e6e1dc892c93270504b"
    )
    assert b"readers" not in demanding.canonical()
    assert b"readers" in reading_study(study_values, told_apart=0.6).canonical()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"confirmations": 2}, "belongs to studies with"),
        ({"improves": ["beauty"]}, "improves"),
        ({"epsilon": 0}, "epsilon"),
        ({"readers": 3}, "readers"),
        ({"readers": {"keys": [], "readers": 3, "told_apart": 0.6}}, "readers.keys"),
        ({"readers": {"keys": [LISTED], "readers": 3}}, "nothing is demanded"),
        ({"readers": {"keys": [LISTED], "readers": 1, "told_apart": 0.6}}, "readers.readers"),
        ({"readers": {"keys": [LISTED], "readers": 3, "told_apart": 0.5}}, "told_apart"),
        ({"readers": {"keys": [LISTED] * 2, "readers": 3, "preferred": 0.5}}, "the same names"),
    ],
)
def test_demands_that_mean_nothing_are_refused(
    study_values: dict[str, Any], values: dict[str, Any], words: str
) -> None:
    from privacy.config import check

    with pytest.raises(ConfigError, match=words):
        check({**study_values, "promotion": values}, Study, where="study.toml")
    with pytest.raises(ConfigError, match="only 3 sites"):
        check({**pooled_values(), "promotion": {"confirmations": 4}}, Study, where="study.toml")
