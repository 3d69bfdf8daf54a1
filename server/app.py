"""The ServerApp: a Flower run that carries the run which its configuration names."""

from __future__ import annotations

import runpy
from pathlib import Path

# Before any of our packages is imported. Flower logs the text and marks the run as failed.
if _words := runpy.run_path(str(Path(__file__).resolve().parents[1] / "privacy" / "shadows.py"))[
    "explain_shadow"
]():
    raise ImportError(_words)

import logging

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.exit import ExitCode, flwr_exit

from privacy.errors import ConfigError, CraftsflError
from server.operation import Carried, operate
from server.settings import load_consortium

# In the run configuration: the absolute path of consortium.toml, and the run's number.
SETTINGS_KEY, RUN_KEY = "settings", "run"

app = ServerApp()
_log = logging.getLogger("craftsfl.server")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study to its end. A `CraftsflError` ends the process with its text, no traceback."""
    try:
        path = str(context.run_config.get(SETTINGS_KEY, ""))
        if not path:
            raise ConfigError(
                "The run configuration does not name a settings file.",
                f'Start runs with `craftsfl rounds start`, or set {SETTINGS_KEY}="…" yourself.',
            )
        settings = load_consortium(Path(path))
        _log_to(settings.log_file())
        number = int(str(context.run_config.get(RUN_KEY, 0)))
        operate(settings, Carried(number, context.run_id), grid)
    except CraftsflError as error:
        _log.error("The ServerApp ends: %s", error)
        # Raising would make Flower log a traceback; this marks its run as failed without one.
        flwr_exit(ExitCode.SERVERAPP_EXCEPTION, str(error), emit_telemetry=False)


def _log_to(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _log.addHandler(handler)
