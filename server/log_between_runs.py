"""The log while no ServerApp has it: what was left for it goes in at once."""

# Why: docs/adr/0065-promotions-and-witnesses.md

from __future__ import annotations

from privacy.study.manifest import Study
from server.clock import SystemClock
from server.life import exclusively
from server.operation import opened_log
from server.own_key import coordinator_key
from server.settings import ConsortiumSettings


def bring_log_up_to_date(settings: ConsortiumSettings, study: Study) -> bool:
    """Write into the log what waits for it; False where a ServerApp has it, and will do so.

    True without a log, or a study that has none. Raises `LogError` for a damaged log, `ConfigError`
    for a key that is not the study's.
    """
    key = coordinator_key(settings.coordinator_key, study)
    if key is None or not settings.transparency_file().exists():
        return True
    with exclusively(settings.lock_file()) as alone:
        if not alone:
            return False
        with opened_log(settings, study, key, SystemClock()) as keeper:
            if keeper is not None and keeper.has_waiting():
                keeper.begin()
                keeper.take_waiting()
                keeper.checkpoint()
        return True
