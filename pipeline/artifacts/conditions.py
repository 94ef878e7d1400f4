"""The state of the machine at a moment."""

from pipeline.artifacts.record import Record


class GpuConditions(Record):
    """One GPU as NVML tells it; null: it does not tell."""

    index: int
    name: str | None
    uuid: str | None
    sm_mhz: int | None
    sm_mhz_max: int | None
    memory_mhz: int | None
    memory_mhz_max: int | None
    temperature_c: int | None
    power_w: float | None
    throttle_reasons: tuple[str, ...] | None
    utilisation_percent: int | None
    persistence_mode: bool | None
    pcie_generation: int | None
    pcie_generation_max: int | None
    pcie_width: int | None
    pcie_width_max: int | None


class Conditions(Record):
    """What moves a benchmark's numbers, read in a few milliseconds; null: the machine does not tell."""

    at_s: float
    """By a monotonic clock."""
    load_1min: float | None
    """This process counts too."""
    cores: int
    governor: str
    cpu_mhz: float | None
    cpu_quota_cores: float | None
    """How many cores' time the container may use; null: no limit."""
    quota_throttled_s: float | None
    """For how long a quota held this container back; only grows, as the next two do."""
    steal_s: float | None
    """Time that the hypervisor gave to others, over all cores."""
    cpu_wait_s: float | None
    """Time in which something that could run waited for a core (pressure stall information)."""
    driver: str | None
    nvml: str | None
    """Why `gpus` is empty."""
    gpus: tuple[GpuConditions, ...]
