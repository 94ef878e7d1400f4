"""A limit of memory while a file is loaded: what it describes may be larger than what it declares."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline import environment


@contextmanager
def limited() -> Iterator[None]:
    """Let this process take no more memory, while the block lasts, than the machine has free now.

    Beyond it an allocation fails, with a ResourceExhaustedError or a MemoryError; without it the kernel would end
    this process, or another. On Linux alone, and where there is no GPU, whose driver maps memory in its own ways.
    """
    if sys.platform != "linux" or environment.gpus():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    bound()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def bound() -> None:
    """Let this process take no more memory from now on than the machine has free now, as `limited`."""
    if sys.platform != "linux":
        return
    import resource

    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _bytes("/proc/self/status", "VmData") + _bytes("/proc/meminfo", "MemAvailable")
    allowed = [one for one in (before, most, limit) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(allowed), most))


def expendable() -> None:
    """Have the kernel end this process, and not another, where memory runs out; it leaves no image of its memory."""
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _bytes(file: str, key: str) -> int:
    """Return a figure that the kernel gives in kB."""
    lines = Path(file).read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
