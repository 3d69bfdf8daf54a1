"""Progress bars of long commands, which a log file shows as well."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.progress import Progress, Task, TaskID

_LOG_SECONDS: Final = 30.0  # between two lines of a file


class LoggedBars(Progress):
    """rich's bars. Where no terminal is to draw them on, a line every half minute instead.

    A command that runs overnight under nohup or a scheduler then says in its log how far it is.
    """

    _logged: float | None = None

    def update(self, task_id: TaskID, **changes: Any) -> None:  # noqa: ANN401 - as rich's
        """See `rich.progress.Progress.update`."""
        super().update(task_id, **changes)
        now = time.monotonic()
        if self._logged is None:
            self._logged = now
        if not self.console.is_terminal and now - self._logged >= _LOG_SECONDS:
            self._logged = now
            self.console.print(_line(self._tasks[task_id]), markup=False, highlight=False)


def _line(task: Task) -> str:
    if task.total is None:
        return f"{task.description} ..."
    return f"{task.description}: {task.completed:.6g} of {task.total:.6g}"
