"""The same adapter, bit for bit: on other processors, beside torch, and in plain Python."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from tests.strategies import same_bits
from tests.strategies.scalars import Scalars, factor_of

ROOT = Path(__file__).resolve().parents[2]
# Sums, state (adapter and moments), published adapter after 30 steps. numpy 2.0.0 gives the same:
# OTHER/bin/python -m tests.strategies.same_bits
KNOWN = {
    "momentum": (
        "dbb58ee8dddb36be2d488e771383cac59b6dc88022f840f617aac224b6a404a8 "
        "670e3294b651e50b9c6d576e497f3f1dfcdee28ad277f952ee4514972179281b "
        "bcb27fd00c3da40c8b42dab9161d24d4970c16370ff57e44bd57900b57220231"
    ),
    "momentum, averaged": (
        "86595a23402f4d806a3bde2cbe72cc5235b8da0a6d20a3258ce28901dd78a1d5 "
        "355c7281402ef5ff05a9455800482a7e9543f4d257b7833c6654b12219529d85 "
        "c983b28fa766811cb1f12f8f73e0a04a2250e8d702a5c11b687e912d88fa2a5b"
    ),
    "adam": (
        "d51cb17343085c5b1899c7051c25d0fde5beb4160fcba8364f7f3bfa6277d14a "
        "62b51653dddc9e637be49c0747cca6e60f98de9b50081d990d1faadc835af42d "
        "57356a79744831bc3432a9e382244d121e6d24becc2a3ea7c0acb6487e2f31e7"
    ),
    "adam, averaged": (
        "e619c36ab527a2e17d6ea5a1eaab905517deafc2df71471f4245eebfb058cb28 "
        "d58dedd76056753b3e5771373a58ebd3088bf84e813eaa315be7db9f4a28e3eb "
        "21078348f4f0d854fc84fb7883b5e34fb896a7b6cf15d560d4763ebe0d84d09a"
    ),
    "adam, averaged, on a grid": (
        "369d2b6e5f8d4b4d7a9e3bfe979336ba859337293e6e8b083bac508ca8e71423 "
        "435cf8537edc279eafcef90cfeb35768019b2f54ffa695e18b0a3fd46cdd67b3 "
        "5ba479e3e851eeab09702b58bdc5a660a3658476bf1c5b34301a7e02e3c8a88c"
    ),
}
EXACT = ("exact", "rule", "descent", "scale", "chain", "kept_chain")
# Each is elementwise and fixed by IEEE 754, or moves bytes, or tells whether something is so.
ALLOWED = {
    "abs", "array", "ascontiguousarray", "dtype", "empty_like", "errstate", "float32", "float64",
    "frombuffer", "int64", "isfinite", "maximum", "sqrt", "uint32", "where", "zeros",
}  # fmt: skip
FORBIDDEN_METHODS = {"dot", "mean", "std", "var", "prod", "cumsum", "trace", "power", "exp", "sum"}


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return same_bits.answers()


@pytest.fixture(scope="module")
def factors() -> dict[int, float]:
    """By how much each step's sum is shortened, worked out by the oracle."""
    links = (same_bits.link(step) for step in range(1, same_bits.STEPS + 1))
    return {link.step: factor_of(link, same_bits.scale(link.members)) for link in links}


def test_thirty_steps_have_the_known_answers(here: dict[str, str]) -> None:
    assert here == KNOWN


def features() -> list[str]:
    """What this processor has above numpy's baseline, the lowest first."""
    return [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]


@pytest.mark.parametrize("kept", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_processor_with_less_gives_the_same(here: dict[str, str], kept: int) -> None:
    found = features()[kept:]
    if not found:
        pytest.skip("this processor has nothing that could be switched off")
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.strategies.same_bits"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "".join(f"{name}: {digests}\n" for name, digests in here.items())


def test_a_thread_that_flushes_to_zero_gives_the_same(here: dict[str, str]) -> None:
    """torch switches it on for the thread that asks; a coordinator has torch in its process."""
    found: list[dict[str, str]] = []
    flushed: list[bool] = []

    def beside_torch() -> None:
        assert torch.set_flush_denormal(True)
        flushed.append(bool((np.array([2.0**-1070]) * 2.0**100)[0] == 0))
        found.append(same_bits.answers())

    thread = threading.Thread(target=beside_torch)
    thread.start()
    thread.join()
    assert flushed == [True]  # or the test would show nothing
    assert found == [here]


@pytest.mark.parametrize("name", sorted(same_bits.RULES))
def test_one_number_at_a_time_gives_the_same(name: str, factors: dict[int, float]) -> None:
    """Python's own floats, which no vector unit ever touches, follow the docstring's formulas."""
    rule = same_bits.RULES[name]
    wanted = same_bits.chain_of(name)
    for i in (0, 1, 17, 32_767, 32_768, same_bits.PARAMETERS - 1):
        scalars = Scalars(rule, float(same_bits.start()[i]))
        for step in range(1, same_bits.STEPS + 1):
            link = same_bits.link(step)
            scalars.step(link, same_bits.scale(link.members), factors[step], i)
        assert scalars.x == wanted.adapter[i]
        assert scalars.m == wanted.descent.first[i]
        if rule.kind == "adam":
            assert scalars.v == wanted.descent.second[i]
        assert scalars.published == wanted.published[i]


def test_the_forged_sum_alone_is_shortened(factors: dict[int, float]) -> None:
    assert [step for step, factor in factors.items() if factor < 1] == [17]


def violations(source: str) -> list[str]:
    """What a module does in floating point beyond + - x / and the root, element by element."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.BinOp(op=ast.MatMult()):
                found.append("@")
            case ast.BinOp(op=ast.Pow(), left=ast.Constant()):
                pass  # a constant, folded by the compiler
            case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2), left=ast.Name("deviation")):
                pass  # an int
            case ast.BinOp(op=ast.Pow()) if not _is_integer_square(node):
                found.append("**")
            case ast.Attribute(value=ast.Name(id="np"), attr=name) if name not in ALLOWED:
                found.append(f"np.{name}")
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name != "isqrt":
                found.append(f"math.{name}")
            case ast.Call(func=ast.Name(id=("pow" | "sum") as name)):
                found.append(name)
            case ast.Call(func=ast.Attribute(attr=name)) if name in FORBIDDEN_METHODS:
                found.append(f".{name}()")
    return found


def _is_integer_square(node: ast.BinOp) -> bool:
    """(centre_scale * patients)^2: both are ints."""
    return ast.unparse(node) == "(self.centre_scale * self.patients) ** 2"


@pytest.mark.parametrize("name", EXACT)
def test_only_exact_operations_occur(name: str) -> None:
    source = (ROOT / "strategies" / f"{name}.py").read_text("utf-8")
    found = violations(source)
    if name == "exact":  # three sums of int64
        assert found == [".sum()"] * 3
    else:
        assert found == []


@pytest.mark.parametrize(
    "planted",
    ["a @ b", "np.dot(a, b)", "x**t", "x**2", "np.exp(a)", "a.sum()", "sum(a)", "math.sqrt(a)"],
)
def test_what_is_not_exact_is_seen(planted: str) -> None:
    assert violations(planted)
