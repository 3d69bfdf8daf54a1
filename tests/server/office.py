"""A consortium's office: its files around a tiny base, and sites that answer for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import tomli_w
from flwr.app import Message

from model.adapters import layout_of
from model.digest import folder_digest
from privacy.secagg.chain import write_rosters
from privacy.study.manifest import Study, load_study
from server.inprocess import InProcessGrid
from server.operation import Carried, operate
from server.runs import Runs
from server.settings import load_consortium
from tests.server.fakes import FLOWER_RUN, NODES, RUN, ImpatientClock
from tests.server.masked import FOUR, MaskedSite, study_of_four


def drawn(base: Path, adapter: Path, samples: Any, out: Path, device: Any) -> None:
    """Instead of sampling, which has a test of its own."""
    assert adapter.exists()
    out.write_bytes(b"picture of " + samples.prompts[0].encode())


class Office:
    """Files of a consortium around a tiny base, and sites that answer for it."""

    def __init__(self, folder: Path, base: Path, values: dict[str, Any]) -> None:
        values["base"] = {"digest": folder_digest(base), "source": str(base)}
        study = study_of_four(values, bound=64.0, privacy={"attempts": 2})
        whole = study.model_dump(mode="json", exclude_none=True)
        (folder / "study.toml").write_text(tomli_w.dumps(whole), "utf-8")
        write_rosters(folder / "roster.cfl", [FOUR.signed])
        self.file = folder / "consortium.toml"
        self.file.write_text(
            'study = "study.toml"\nstate = "."\nroster = "roster.cfl"\njoin_deadline = 20.0\n',
            "utf-8",
        )
        self.settings = load_consortium(self.file)
        self.study: Study = load_study(self.settings.study)
        self.layout = layout_of(base, self.study.adapter)
        self.clock = ImpatientClock()
        self.sites = {
            name: MaskedSite(
                name, self.study, layout=self.layout, roster=FOUR.roster, clock=self.clock.time
            )
            for name in NODES
        }
        self.handlers = {NODES[name]: site.handle for name, site in self.sites.items()}
        with Runs(self.settings.database_url(), self.clock) as runs:
            self.name = runs.begin(self.study, after=RUN - 1)

    def begin_anew(self) -> None:
        """End the run, and begin one of the study as it is now."""
        with Runs(self.settings.database_url(), self.clock) as runs:
            runs.stopped(self.name)
            self.name = runs.begin(load_study(self.settings.study), after=RUN - 1)

    def grid(self) -> InProcessGrid:
        return InProcessGrid(self.handlers, run_id=FLOWER_RUN, clock=self.clock.monotonic)

    def operate(self) -> None:
        operate(self.settings, Carried(RUN, FLOWER_RUN), self.grid(), clock=self.clock)

    def operate_until(self, calls: int) -> None:
        """Serve the run until Flower gives this ServerApp up."""
        grid = LostGrid(self, calls, unauthorised())
        operate(self.settings, Carried(RUN, FLOWER_RUN), grid, clock=self.clock)

    def result(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.settings.result_file().read_text("utf-8"))
        return content


@pytest.fixture
def office(
    tmp_path: Path,
    tiny_base: Path,
    study_values: dict[str, Any],
    empty_mlflow: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> Office:
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow)
    module = ModuleType("server.samples")
    module.draw_samples = drawn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server.samples", module)
    return Office(tmp_path, tiny_base, study_values)


class LostGrid(InProcessGrid):
    """A grid whose SuperLink no longer serves this ServerApp, from the `calls`th call on."""

    def __init__(self, office: Office, calls: int, error: httpx.HTTPError) -> None:
        super().__init__(office.handlers, run_id=FLOWER_RUN, clock=office.clock.monotonic)
        self.calls, self.error = calls, error

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return super().pull_messages(message_ids)


def unauthorised() -> httpx.HTTPError:
    request = httpx.Request("POST", "https://127.0.0.1/v1/runtime/pull-messages")
    return httpx.HTTPStatusError("401", request=request, response=httpx.Response(401))
