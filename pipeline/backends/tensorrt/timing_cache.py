"""TensorRT's timing cache: what it measured of each kernel, so that the next build need not measure it again.

One file for each GPU model, driver and version of TensorRT, since a measurement is true of nothing else. TensorRT for
RTX measures nothing while it builds, and has none. Not yet run on a GPU.
"""

import os
import re
from pathlib import Path
from typing import Any

from pipeline.artifacts.engine import TimingCacheUse
from pipeline.environment import Gpu


def path(folder: Path, version: str, on: Gpu) -> Path:
    """Return where the cache for a GPU and a version of TensorRT is kept."""
    key = f"tensorrt-{version}_{on.name}_{on.compute_capability}_driver-{on.driver}"
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', key)}.cache"


class Used:
    """A build's timing cache: loaded from a file where TensorRT takes it, else a new one."""

    def __init__(self, config: Any, file: Path, words: list[str]) -> None:
        """Have the build use the cache of a file; `words` are what TensorRT logs, and say where it is refused."""
        self._config, self._file, self._words = config, file, words
        self._cache: Any = None  # TensorRT asks that it outlive the build
        data = file.read_bytes() if file.is_file() else b""
        taken = bool(data) and self._set(data)
        if data and not taken:
            aside = file.with_name(f"{file.name}.refused")
            file.replace(aside)
            words.append(f"warning: TensorRT refused the timing cache {file.name}: it is now {aside.name}")
        if not taken and not self._set(b""):
            words.append("warning: TensorRT takes no timing cache: this build measures every kernel")
        self.record = TimingCacheUse(file=file.name, bytes_before=len(data) if taken else 0)

    def _set(self, data: bytes) -> bool:
        """Return whether TensorRT takes a cache. Of one that is damaged or another device's it may only log so."""
        said = len(self._words)
        self._cache = self._config.create_timing_cache(data)
        taken = self._cache is not None and self._config.set_timing_cache(self._cache, False)
        return bool(taken) and len(self._words) == said

    def save(self) -> None:
        """Write the cache with what this build measured, whole or not at all; the engine is there without it."""
        cache = self._config.get_timing_cache()
        if cache is None:
            return
        serialized = cache.serialize()
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}.partial")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(serialized)
            partial.replace(self._file)
        except OSError as error:
            self._words.append(f"warning: the timing cache could not be written: {error}")
        finally:
            partial.unlink(missing_ok=True)
