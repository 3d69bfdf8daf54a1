"""The stable library: what other programs may import (docs/adr/0027-stable-api.md).

    from craftsfl.api import accounting, secagg

| module | what |
|---|---|
| `accounting` | a study's events, epsilon, noise calibration, what an attacker could tell |
| `ledger` | reading and verifying a site's record of spending |
| `secagg` | both sides of secure aggregation, without I/O |
| `clipping` | per-patient gradients, clipped and noised (needs the extra `site`) |
| `encoders` | frozen image and text encoders (needs the extra `site`) |
| `simulation` | a whole study in one process (needs the extra `operator`) |

`accounting`, `ledger` and `secagg` work from the base install. Importing this package imports none
of them: each module loads what it needs when it is imported itself. Everything else in the project
may change without notice; a name listed in one of these modules' `__all__` stays for at least one
minor version after the changelog has announced its end.
"""

from __future__ import annotations

__all__ = ["accounting", "clipping", "encoders", "ledger", "secagg", "simulation"]
