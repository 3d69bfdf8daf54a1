"""Which extra of craftsfl installs a module: named when a command cannot import it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# By import name. tests/test_packages.py compares the table with pyproject.toml.
EXTRA_OF: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("diffusers", "flwr", "google", "grpc", "grpc_health", "httpx", "matplotlib"),
                *("opacus", "peft", "PIL", "psutil", "pyarrow", "safetensors", "torch"),
                "transformers",
            ),
            "site",
        ),
        **dict.fromkeys(("mlflow", "sqlalchemy"), "operator"),
        **dict.fromkeys(
            ("accelerate", "skimage", "sklearn", "torchmetrics", "webdataset"), "model"
        ),
        **dict.fromkeys(("openslide", "openslide_bin"), "slides"),
    }
)
_INCLUDED_IN = {"site": ", which operator and model include"}


def failed_import(error: BaseException) -> ImportError | None:
    """The import that failed, which diffusers and transformers raise anew as a RuntimeError."""
    found = error if isinstance(error, ImportError) else error.__cause__
    return found if isinstance(found, ImportError) else None


def explain_import(error: ImportError) -> tuple[str, str]:
    """What to tell a person: the module is not there, or it is and does not load."""
    if isinstance(error, ModuleNotFoundError):
        return explain_missing(error.name or str(error))
    name = (error.name or "A library").partition(".")[0]
    return (
        f"{name} is installed, and cannot be loaded: {str(error).rstrip('.')}.",
        "Install craftsfl again, in an environment of its own.",
    )


def explain_missing(module: str) -> tuple[str, str]:
    """What to tell a person when `module` cannot be imported: the error and the next step."""
    package = module.partition(".")[0]
    extra = EXTRA_OF.get(package)
    if extra is None:
        return f"{module} is not installed.", "Reinstall craftsfl."
    included = _INCLUDED_IN.get(extra, "")
    return (
        f"{package} is not installed. It comes with the extra {extra}{included}.",
        f'Install it: pip install "craftsfl[{extra}]"; in a checkout: make setup',
    )
