"""Several processes that train one model together, on one host or many: joined by JAX, before Keras is imported.

`mpirun`, `srun` or a Kubernetes job starts the same command as often as there are processes. JAX finds the others by
its own detection of the cluster; process 0 publishes, and the others only compute.
"""

import os
import sys
from typing import NamedTuple, NoReturn

from pipeline import environment, temporary
from pipeline.errors import BackendUnavailable, ConfigError

STARTED_BY = ("OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""How many processes mpirun and srun have started, where one of them started this one."""

LOST_AFTER_S = 30
"""After so many seconds without a sign of life of another process this one ends, too."""


class World(NamedTuple):
    """A process among all: its number, how many there are, and the devices of all, by what to call them."""

    rank: int
    size: int
    devices: tuple[str, ...]


_joined: list[World] = []
"""This process's, once it has joined."""


def current() -> World | None:
    """Return the processes that this one has joined, or None where it is alone."""
    return _joined[0] if _joined else None


def several(asked: str) -> bool:
    """Tell whether the training is to be one of several processes: `train.hosts`."""
    if asked != "auto":
        return asked == "all"
    return any(int(os.environ.get(name, "1")) > 1 for name in STARTED_BY)


def join() -> World:
    """Join the other processes, and have Keras run on JAX.

    Raises:
        BackendUnavailable: JAX is not installed, or finds no other process.
        ConfigError: Keras runs on something else already.
    """
    if _joined:
        return _joined[0]
    if "keras" in sys.modules:
        raise ConfigError("Keras is imported already, and cannot be moved to JAX", "Train by `python -m pipeline`.")
    try:
        import jax
    except ImportError as error:
        raise BackendUnavailable(
            f"training by several processes needs JAX: {error}",
            "pip install 'keras-tensorrt-pipeline[hosts]', or train.hosts=one for one process.",
        ) from error
    environment.run_keras_on("jax")
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=LOST_AFTER_S)
    except (RuntimeError, ValueError) as error:
        raise BackendUnavailable(
            f"JAX cannot join the other processes: {error}", "Start them by mpirun or srun, or set train.hosts=one."
        ) from error
    devices = tuple(f"{one.platform} of process {one.process_index}" for one in jax.devices())
    _joined.append(World(jax.process_index(), jax.process_count(), devices))
    return _joined[0]


def end(code: int) -> NoReturn:
    """End a process whose work failed. One that has joined others ends at once: JAX would have it wait for them.

    They, in turn, may wait for this one's share of a step; that it is gone is what they notice.
    """
    if not _joined:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    temporary.remove()
    os._exit(code)
