"""Triton's own messages for a model's configuration, and what its types are called in NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import BackendUnavailable

FILE = "config.pbtxt"

INSTALL = "Install the extra `serve`: pip install 'keras-tensorrt-pipeline[serve]'."

_TYPES = {
    "bool": "TYPE_BOOL",
    **{f"uint{bits}": f"TYPE_UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"TYPE_INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"TYPE_FP{bits}" for bits in (16, 32, 64)},
    "bfloat16": "TYPE_BF16",
    "object": "TYPE_STRING",
}


def messages() -> Any:
    """Return the module of Triton's protobuf messages.

    Raises:
        BackendUnavailable: `tritonclient` is not installed.
    """
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise BackendUnavailable(f"Triton's messages are unavailable: {error}", INSTALL) from error
    return model_config_pb2


def type_name(dtype: npt.DTypeLike) -> str | None:
    """Return what Triton calls a type; None where it lacks it."""
    return _TYPES.get(np.dtype(dtype).name)


def text(config: Any) -> str:
    """Return a configuration as the text that Triton reads."""
    from google.protobuf import text_format

    found: str = text_format.MessageToString(config)
    return found


def parsed(path: Path) -> Any:
    """Return the configuration in a file.

    Raises:
        ValueError: it is not one; the message says where and why.
        OSError: it cannot be read.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), messages().ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(str(error)) from error
