"""On which devices a model is trained: on one, or on several that each take an equal share of every batch."""

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from pipeline import environment, hosts
from pipeline.config import AUTO
from pipeline.errors import BackendUnavailable, ConfigError
from pipeline.tensors import CPU, Device

VIRTUAL = re.compile(r"cpu:(\d+)")
"""A part of this machine's processor: with several of them, training on several devices is tried without a GPU."""


@dataclass(frozen=True)
class Devices:
    """Where a model is trained, by address; `strategy` distributes it over several, and is None for one."""

    addresses: tuple[str, ...]
    strategy: Any = None

    @property
    def fed_ahead(self) -> str | None:
        """The GPU that batches are brought to ahead of time, as TensorFlow calls it; a strategy sees to its own."""
        alone = self.strategy is None and self.addresses == (str(Device("cuda")),)
        return "/gpu:0" if alone else None

    def scope(self) -> AbstractContextManager[object]:
        """Return a block in which a model is made that is trained on these devices."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def __len__(self) -> int:
        return len(self.addresses)


def chosen(asked: tuple[str, ...]) -> Devices:
    """Return the devices of `train.devices`. Nothing of TensorFlow may have run before where they are virtual.

    Raises:
        BackendUnavailable: a GPU that is not there, or that TensorFlow cannot use.
        ConfigError: these are no devices.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if world := hosts.current():
        tf.config.set_visible_devices([], "GPU")  # they are JAX's, and TensorFlow would take their memory
        return Devices(world.devices)
    if asked == (AUTO,):
        return Devices((str(Device("cuda") if gpus else CPU),))
    if asked and all(VIRTUAL.fullmatch(one) for one in asked):
        return _virtual(asked)
    if asked == ("all",):
        numbers = list(range(len(gpus)))
    elif asked and all(one.isdigit() for one in asked):
        numbers = list(dict.fromkeys(map(int, asked)))
    else:
        raise ConfigError(
            f"train.devices = {','.join(asked)} are no devices",
            "Use auto, all, numbers of GPUs as 0,1, or parts of the processor as cpu:0,cpu:1.",
        )
    if not numbers or max(numbers) >= len(gpus):
        raise BackendUnavailable(
            f"train.devices = {','.join(asked)}: TensorFlow sees {len(gpus)} GPUs here, and nvidia-smi "
            f"{len(environment.gpus())}",
            "Leave train.devices at auto, or see `make doctor`.",
        )
    addresses = tuple(str(Device("cuda", number)) for number in numbers)
    if numbers == [0]:
        return Devices(addresses)
    return Devices(addresses, tf.distribute.MirroredStrategy([f"GPU:{number}" for number in numbers]))


def _virtual(asked: tuple[str, ...]) -> Devices:
    count = 1 + max(int(one.partition(":")[2]) for one in asked)
    try:
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    except RuntimeError as error:
        raise ConfigError(
            f"train.devices = {','.join(asked)} cannot be made any more: {error}", "Train in a process of its own."
        ) from error
    return Devices(asked, tf.distribute.MirroredStrategy([one.upper() for one in asked]))
