"""From a Keras model to a verified, timed TensorRT engine: train, export, engine, validate, benchmark, report."""

from typing import TYPE_CHECKING, Any

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
