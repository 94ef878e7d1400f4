"""TensorRT's timing cache: what it measured of each kernel, so that the next build need not measure it again.

One file for each GPU model, driver and version of TensorRT, since a measurement is true of nothing else. TensorRT for
RTX measures nothing while it builds, and has none. Not yet run on a GPU.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.artifacts.engine import TimingCacheUse
from pipeline.environment import Gpu


def path(folder: Path, version: str, gpu: Gpu) -> Path:
    """Return where the cache for a GPU and a version of TensorRT is kept."""
    key = f"tensorrt-{version}_{gpu.name}_{gpu.compute_capability}_driver-{gpu.driver}"
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', key)}.cache"


class Used:
    """A build's timing cache: loaded from a file where TensorRT takes it, else a new one."""

    def __init__(self, config: Any, file: Path, warn: Callable[[str], None]) -> None:
        self._config, self._file = config, file
        self._timing_cache: Any = None  # TensorRT asks that it outlive the build
        data = file.read_bytes() if file.is_file() else b""
        taken = bool(data) and self._set(data)
        if data and not taken:
            aside = file.with_name(f"{file.name}.refused")
            file.replace(aside)
            warn(f"warning: TensorRT refused the timing cache {file.name}; it is now {aside.name}, and a new one begun")
        if not taken and not self._set(b""):
            warn("warning: TensorRT takes no timing cache: this build measures every kernel, and keeps nothing")
        self.record = TimingCacheUse(file=file.name, bytes_before=len(data) if taken else 0)

    def _set(self, data: bytes) -> bool:
        """Return whether TensorRT takes a cache: it may make none of the data, or refuse another device's."""
        self._timing_cache = self._config.create_timing_cache(data)
        return self._timing_cache is not None and bool(self._config.set_timing_cache(self._timing_cache, False))

    def save(self) -> None:
        """Write the cache with what this build measured: whole or not at all."""
        timing_cache = self._config.get_timing_cache()
        if timing_cache is None:
            return
        serialized = timing_cache.serialize()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(serialized)
            partial.replace(self._file)
        finally:
            partial.unlink(missing_ok=True)
