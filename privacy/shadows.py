"""Whether `client`, `model`, `privacy`, `server` and `strategies` are craftsfl's own packages.

Their names are plain (ADR 4), and Python takes the first that it finds: a `client.py` in the
working folder, as in every Flower tutorial, or whatever PYTHONPATH names. Our programs check before
they import any of them. So this file imports only the standard library and is run by its path,
since `privacy` may be the package that is hidden:

    words = runpy.run_path("…/privacy/shadows.py")["explain_shadow"]()
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

OWN_PACKAGES = ("client", "model", "privacy", "server", "strategies")
_ID = "package-hidden"  # ErrorId.PACKAGE_HIDDEN
_ROOT = Path(__file__).resolve().parents[1]


def explain_shadow(root: Path = _ROOT) -> str:
    """What hides one of our packages and what to do about it; "" if nothing does.

    `root`: the folder that holds our packages. Imports none of them. A package that cannot be found
    at all is not reported: importing it will say so.
    """
    for name in OWN_PACKAGES:
        other = _elsewhere(name, root)
        if other:
            return (
                f"Error: Python finds another `{name}` than craftsfl's: {other}.\n"
                "Next: Start craftsfl in another folder, or as python -P -m craftsfl; remove what "
                "hides the package from PYTHONPATH.\n"
                f"Id: {_ID} (docs/errors.md)"
            )
    return ""


def _elsewhere(name: str, root: Path) -> str:
    """Where Python finds the package `name`, unless that is in `root`; then ""."""
    spec = find_spec(name)
    if spec is None:
        return ""
    places = [str(Path(spec.origin).parent)] if spec.origin else []
    places += spec.submodule_search_locations or []  # all that a folder without __init__.py has
    if any(Path(place).resolve() == root / name for place in places):
        return ""
    return spec.origin or ", ".join(places)
