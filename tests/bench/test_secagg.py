"""The benchmark of secure aggregation runs, measures both implementations, and checks our sum."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.common import parameters_to_ndarrays
from flwr.supercore.task_identity import TaskIdentity

from bench import secagg, secagg_flwr, secagg_ours
from bench.secagg_timing import Cost, SecAggCell
from privacy.errors import SecAggError

KEYS = {
    "impl",
    "n",
    "d",
    "bits",
    "dropped",
    "client_s",
    "mask_s",
    "floor_s",
    "server_s",
    "bytes_up_per_param",
    "setup_s",
}


@pytest.fixture(scope="module")
def printed():
    """What `python -m bench.secagg --quick --json` prints."""
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr(sys, "argv", ["secagg", "--quick", "--json", "--repeats", "1"])
        patch.setattr(sys.stdout, "write", lines.append)
        secagg.main()
    return json.loads("".join(lines))["rows"]


def test_rows_have_the_promised_keys(printed):
    assert [row["impl"] for row in printed] == ["ours", "flwr"] * len(secagg.QUICK_CELLS)
    for row in printed:
        assert set(row) >= KEYS
        assert row["client_s"] > 0
        assert row["server_s"] > 0
        assert row["setup_s"] > 0


def test_bytes_of_a_parameter_are_those_of_the_wire(printed):
    ours, flwr = printed[2:]
    # 3 fields of 21 bits a lane, an advertisement, 7 sealed shares, 8 shares, 2 signatures
    messages = 162 + 7 * 82 + 7 * 33 + 3 * 64 + 64
    assert 8 / 3 < ours["bytes_up_per_param"] < 8 / 3 + 2 * messages / 10_001
    assert flwr["bytes_up_per_param"] > 8


def test_all_rows_have_the_same_keys(printed):
    assert len({tuple(row) for row in printed}) == 1


def test_the_cells_of_the_specification_are_measured():
    wanted = {(8, 1_000_000), (16, 4_000_000), (32, 4_000_000)}
    measured = {(cell.n, cell.d, cell.dropped > 0) for cell in secagg.CELLS}
    assert {(n, d, lost) for n, d in wanted for lost in (False, True)} <= measured
    assert all(cell.dropped == round(cell.n / 10) for cell in secagg.CELLS if cell.dropped)


def test_a_wrong_sum_is_noticed(monkeypatch):
    attempt = secagg_ours.Attempt(SecAggCell(3, 100, 16, 0))
    true = secagg_ours.update(100)
    monkeypatch.setattr(
        secagg_ours.Attempt,
        "_decode",
        lambda self, vector, decode=secagg_ours.Attempt._decode: decode(self, -true),
    )
    with pytest.raises(SecAggError, match="not what it should be"):
        attempt.run()


@pytest.mark.parametrize("lost", [0, 1])
def test_flwrs_code_is_driven_as_it_should_be(lost):
    """With every client in full, its sum is right: the harness measures a round that works."""
    vector = np.linspace(-1, 1, 11).astype(np.float32)
    nodes = range(2, 7)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    strategy = secagg_flwr._Strategy(nodes)
    sites = {node: secagg_flwr._Site(node, vector, None) for node in nodes}
    secagg_flwr._serve(secagg_flwr._Grid(sites, nodes[5 - lost :]), strategy, 4)
    assert strategy.result is not None
    np.testing.assert_allclose(parameters_to_ndarrays(strategy.result)[0], vector, atol=1e-5)


def test_the_least_of_every_figure_is_shown():
    least = secagg._least([Cost(3.0, 1.0, 5, 6), Cost(2.0, 4.0, 5, 6)])
    assert least == Cost(2.0, 1.0, 5, 6)


def test_updates_are_of_norm_one_and_heavy_tailed():
    vector = secagg_ours.update(10_000)
    assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-5)
    assert np.abs(vector).max() > 8 / 100


def test_no_such_cell(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["secagg", "--n", "7"])
    with pytest.raises(SystemExit):
        secagg.main()
    assert "no such cell" in capsys.readouterr().err
