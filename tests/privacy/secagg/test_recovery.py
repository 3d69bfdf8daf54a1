import itertools
import subprocess
import sys

import pytest

from privacy.secagg.recovery import MAX_SUBSETS, recover_secret
from privacy.secagg.shamir import split_secret

SECRET = bytes(range(32))


def shares_of(n: int, threshold: int, false: tuple[int, ...] = ()) -> dict[int, bytes]:
    shares = dict(enumerate(split_secret(SECRET, n, threshold), 1))
    return {x: bytes([0, *bytes(31), x]) if x in false else share for x, share in shares.items()}


def is_secret(secret: bytes) -> bool:
    return secret == SECRET


@pytest.mark.parametrize("false", [(), *itertools.combinations(range(1, 9), 1)], ids=str)
def test_every_single_false_share_is_found(false):
    found = recover_secret(shares_of(8, 6, false), 6, is_secret)
    assert found is not None
    assert found.secret == SECRET
    assert found.false == set(false)


@pytest.mark.parametrize("false", list(itertools.combinations(range(1, 9), 2)), ids=str)
def test_as_many_false_shares_as_there_are_to_spare_are_found(false):
    found = recover_secret(shares_of(8, 6, false), 6, is_secret)
    assert found is not None
    assert found.false == set(false)


@pytest.mark.parametrize("false", [(1, 2), (1, 50, 100), (1, 34, 67, 100)], ids=str)
def test_false_shares_that_lie_apart_are_found_among_a_hundred(false):
    found = recover_secret(shares_of(100, 67, false), 67, is_secret)
    assert found is not None
    assert found.false == set(false)


@pytest.mark.parametrize(("n", "threshold", "false"), [(3, 3, (2,)), (8, 6, (1, 4, 8))])
def test_one_false_share_more_and_there_is_no_secret(n, threshold, false):
    assert recover_secret(shares_of(n, threshold, false), threshold, is_secret) is None


def test_sites_that_were_caught_are_tried_last():
    tried = []

    def accept(secret: bytes) -> bool:
        tried.append(secret)
        return is_secret(secret)

    found = recover_secret(shares_of(8, 6, (1, 3)), 6, accept, distrusted=(1, 3))
    assert found is not None
    assert found.false == {1, 3}
    assert len(tried) == 1


def test_a_search_without_end_is_cut_off():
    tried = []
    shares = shares_of(100, 67, tuple(range(1, 100, 2)))
    assert recover_secret(shares, 67, lambda secret: bool(tried.append(secret))) is None
    assert len(tried) <= MAX_SUBSETS


def test_text_shows_no_secret():
    assert SECRET.hex() not in repr(recover_secret(shares_of(3, 3), 3, is_secret))
    assert str(SECRET) not in repr(recover_secret(shares_of(3, 3), 3, is_secret))


def test_importing_the_machines_loads_nothing_heavy():
    code = (
        "import privacy.secagg.client, privacy.secagg.server, sys;"
        "print([m for m in ('torch', 'flwr', 'grpc', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
