"""The stable library: its names, what importing it costs, and the examples in its docstrings."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

import craftsfl.api

HEAVY = {"torch", "flwr", "diffusers", "opacus", "mlflow", "grpc", "transformers", "google"}
# What other programs rely on. A name leaves this list only after the changelog has announced it.
PROMISED = {
    "accounting": {
        *("AccountingError", "Attack", "ConfigError", "CraftsflError", "PoissonGaussian"),
        *("Released", "Study", "calibrate_noise_multiplier", "epsilon", "epsilon_known_to"),
        *("largest_delta", "load_study", "released_epsilon", "tradeoff", "true_positive_rate"),
        *("PooledTerms", "calibrate_local_noise", "calibrated", "local_event", "whole_schedule"),
    },
    "clipping": {
        *("BLANK", "AccountingError", "ClippedSum", "ClippingEngine", "CraftsflError"),
        *("ModelError", "NoiseSource", "PatientGradients", "PhysicalBatch", "Release"),
        *("SystemNoise", "choose_engine", "private_gradient"),
    },
    "encoders": {
        *("CraftsflError", "ImageEncoder", "ImageTextEncoder", "ModelError", "load_encoder"),
        *("load_image_text_encoder", "prepare"),
    },
    "ledger": {
        *("AttemptKey", "Charge", "CraftsflError", "Entry", "Head", "LedgerError"),
        *("LedgerView", "State", "StepMark", "read_ledger"),
    },
    "simulation": {
        *("Arm", "ConfigError", "CraftsflError", "Gain", "Loss", "NoiseSchedule", "Rows"),
        *("SimulationConfig", "SimulationProgress", "SimulationResult", "Strategy"),
        *("denoising", "sample_study", "simulate"),
    },
    "secagg": {
        *("OFFER_VERSION", "Aborted", "Checkpoint", "CraftsflError", "Effects", "Encoding"),
        *("Expected", "Identity", "Ledgers", "MechanismNumber", "Member", "MemoryWitness", "Offer"),
        *("UnmaskedSum", "Refused", "Roster", "SecAggClient", "SecAggError", "SecAggPolicy"),
        *("SecAggServer", "SignedRoster", "Terms", "Witness", "choose_width"),
        *("coordinate_bound", "encoding_of", "most_colluders", "propose_roster", "relative_error"),
        *("add_signature", "threshold", "verify_roster"),
    },
}


def test_the_api_has_the_promised_modules() -> None:
    assert set(craftsfl.api.__all__) == set(PROMISED)


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_every_promised_name_is_there_and_listed(name: str) -> None:
    module = importlib.import_module(f"craftsfl.api.{name}")
    assert set(module.__all__) == PROMISED[name]
    assert len(module.__all__) == len(PROMISED[name])
    for public in module.__all__:
        assert hasattr(module, public)


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_the_examples_in_the_docstring_are_true(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"craftsfl.api.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize(
    "module", ["api", "api.accounting", "api.ledger", "api.secagg"], ids=lambda name: str(name)
)
def test_what_an_auditor_imports_brings_no_heavy_package(module: str) -> None:
    code = f"import sys, craftsfl.{module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
