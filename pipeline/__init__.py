"""From a Keras model to a verified, timed TensorRT engine: train, export, engine, validate, benchmark, report."""

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime's wheels keep an identifier and usage data in the user's home, and send them to Microsoft; it reads this
# when it is imported, in this process and those it starts.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["__version__", "optimize"]

if TYPE_CHECKING:
    from pipeline.optimizing import optimize


def __getattr__(name: str) -> Any:
    """Import `optimize` where it is asked for: `python -m pipeline --help` answers at once."""
    if name == "optimize":
        from pipeline.optimizing import optimize

        return optimize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
