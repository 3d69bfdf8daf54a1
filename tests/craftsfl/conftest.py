from __future__ import annotations

from tests.figures import remembered_figures as remembered_figures
