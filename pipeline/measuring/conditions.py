"""The state of the machine at a moment: what moves a benchmark's numbers, and what a reader must know of it.

Everything is read from files of the system and from NVML (nvidia-ml-py), in a few milliseconds. What a machine does not
report is None: a benchmark is never stopped by a reading. A test compares the names by which GPUs are read with the
installed nvidia-ml-py.
"""

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import environment
from pipeline.artifacts.conditions import Conditions, GpuConditions

PROC, SYS = Path("/proc"), Path("/sys")

REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability limit",
}
"""Why a GPU's clocks are not higher, by the bits of nvmlClocksEventReasons in nvml.h."""

HARMLESS = {"idle", "application clocks", "display clocks", "sync boost"}
"""Reasons that slow no timed work down, unless someone set them so."""

LOAD, WAIT, STEAL, DROP, WARMER_C, BUSY_PERCENT = 0.25, 0.10, 0.01, 0.10, 10, 5
"""When `changes` speaks: load per core; shares of time waited, time stolen, frequency lost; °C; a GPU's load."""


def read() -> Conditions:
    """Return the state of the machine now."""
    quota, throttled_s = _quota()
    gpus, driver, nvml = _gpus()
    return Conditions(
        at_s=time.monotonic(),
        load_1min=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        cores=environment.cpu_count(),
        governor=_governor(),
        cpu_mhz=_cpu_mhz(),
        cpu_quota_cores=quota,
        quota_throttled_s=throttled_s,
        steal_s=_steal_s(),
        cpu_wait_s=_cpu_wait_s(),
        driver=driver,
        nvml=nvml,
        gpus=gpus,
    )


def changes(start: Conditions, end: Conditions) -> list[str]:
    """Return what a reader of timings taken between two readings must know, in plain words; empty where all was well.

    The load of the CPU and of the GPUs is judged by the first reading, taken before anything was timed: later it is the
    benchmark's own.
    """
    found = []
    elapsed_s, cores = end.at_s - start.at_s, start.cores
    waited_s, stolen_s = _grown(start.cpu_wait_s, end.cpu_wait_s), _grown(start.steal_s, end.steal_s)
    throttled_s = _grown(start.quota_throttled_s, end.quota_throttled_s)
    if start.load_1min is not None and start.load_1min > LOAD * cores:
        found.append(f"the load average was {start.load_1min:.1f} on {cores} cores before the timing began")
    if elapsed_s > 0 and waited_s > WAIT * elapsed_s:
        found.append(f"something waited for a core in {waited_s / elapsed_s:.0%} of the time")
    if elapsed_s > 0 and stolen_s > STEAL * elapsed_s * cores:
        found.append(f"the hypervisor gave {stolen_s / elapsed_s / cores:.1%} of the CPU time to others")
    if throttled_s > 0:
        found.append(f"the container's CPU quota throttled its processes for {throttled_s:.2f} s")
    if start.cpu_mhz and end.cpu_mhz and end.cpu_mhz < (1 - DROP) * start.cpu_mhz:
        found.append(f"the CPU's frequency fell from {start.cpu_mhz:.0f} to {end.cpu_mhz:.0f} MHz")
    if end.governor not in ("performance", "unknown"):
        found.append(f"the CPU governor is {end.governor}: the frequency follows the load")
    for gpu in start.gpus:
        if gpu.utilisation_percent is not None and gpu.utilisation_percent > BUSY_PERCENT:
            found.append(f"GPU {gpu.index} ({gpu.name}) was {gpu.utilisation_percent} % busy before the timing began")
    return found + gpu_changes(start, end)


def _grown(start: float | None, end: float | None) -> float:
    return 0.0 if start is None or end is None else end - start


def gpu_changes(start: Conditions, end: Conditions) -> list[str]:
    """Return what of `changes` is about the GPUs, but for their load: between rounds it is the benchmark's own."""
    before = {gpu.uuid: gpu for gpu in start.gpus}
    return [
        f"GPU {gpu.index} ({gpu.name}) {what}" for gpu in end.gpus for what in _gpu_changes(before.get(gpu.uuid), gpu)
    ]


def _gpu_changes(start: GpuConditions | None, end: GpuConditions) -> Iterator[str]:
    reasons = {reason for gpu in (start, end) if gpu for reason in gpu.throttle_reasons or ()} - HARMLESS
    if reasons:
        yield f"was throttled: {', '.join(sorted(reasons))}"
    if end.pcie_width and end.pcie_width_max and end.pcie_width < end.pcie_width_max:
        yield f"is connected by {end.pcie_width} of {end.pcie_width_max} PCIe lanes"
    if start is None:
        return
    if not any("idle" in (gpu.throttle_reasons or ()) for gpu in (start, end)):  # an idle GPU clocks down by itself
        clocks = (("SM", start.sm_mhz, end.sm_mhz), ("memory", start.memory_mhz, end.memory_mhz))
        for name, before_mhz, after_mhz in clocks:
            if before_mhz and after_mhz and after_mhz < (1 - DROP) * before_mhz:
                yield f"{name} clock fell from {before_mhz} to {after_mhz} MHz"
    before_c, after_c = start.temperature_c, end.temperature_c
    if before_c is not None and after_c is not None and after_c - before_c > WARMER_C:
        yield f"warmed from {before_c} to {after_c} °C"


# --- the CPU ----------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def _frequency_files(name: str) -> list[str]:
    """Return what the processors' cpufreq files of this name say; empty where there are none."""
    texts = (_text(path) for path in sorted(SYS.glob(f"devices/system/cpu/cpu[0-9]*/cpufreq/{name}")))
    return [text.strip() for text in texts if text]


def _governor() -> str:
    """Return the frequency governor, several joined by +."""
    return "+".join(sorted(set(_frequency_files("scaling_governor")))) or "unknown"


def _cpu_mhz() -> float | None:
    """Return the processors' mean frequency."""
    found = [int(khz) / 1000 for khz in _frequency_files("scaling_cur_freq") if khz.isdigit()]
    if not found:
        lines = (_text(PROC / "cpuinfo") or "").splitlines()
        found = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return sum(found) / len(found) if found else None


def _steal_s() -> float | None:
    """Return the time since boot, summed over the cores, in which the hypervisor ran something else (proc(5))."""
    # "cpu", then the ticks: user nice system idle iowait irq softirq steal …
    fields = (_text(PROC / "stat") or "").partition("\n")[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None


def _cpu_wait_s() -> float | None:
    """Return the time since boot in which something waited for a core (Documentation/accounting/psi.rst, `some`)."""
    some = (_text(PROC / "pressure" / "cpu") or "").partition("\n")[0]
    return int(some.rpartition("total=")[2]) / 1e6 if "total=" in some else None


def _quota() -> tuple[float | None, float | None]:
    """Return how many cores' time the control groups around this process allow, and how long a quota held one back.

    The tightest counts. Both versions of control groups are read. Inside a container the group's own path may not be
    there: its limit then stands at the top.
    """
    quotas, throttled = [], []
    for line in (_text(PROC / "self" / "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = SYS / "fs" / "cgroup" / controllers
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            limit, period = _limit(folder)
            if limit is not None and limit > 0 and period:
                quotas.append(limit / period)
            if (held_back_s := _throttled_s(folder)) is not None:
                throttled.append(held_back_s)
    return min(quotas, default=None), max(throttled, default=None)


def _limit(folder: Path) -> tuple[float | None, float | None]:
    """Return a control group's quota and period, in µs; no quota where it has no limit."""
    if text := _text(folder / "cpu.max"):  # version 2: "max 100000" or "150000 100000"
        limit, period = text.split()
        return None if limit == "max" else float(limit), float(period)
    found = [_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]  # version 1: a quota of -1 is none
    quota, period_us = (float(text) if text else None for text in found)
    return quota, period_us


def _throttled_s(folder: Path) -> float | None:
    """Return how long a control group's quota has held it back."""
    pairs = dict(line.split(maxsplit=1) for line in (_text(folder / "cpu.stat") or "").splitlines() if " " in line)
    if "throttled_usec" in pairs:  # version 2
        return int(pairs["throttled_usec"]) / 1e6
    return int(pairs["throttled_time"]) / 1e9 if "throttled_time" in pairs else None


# --- GPUs -------------------------------------------------------------------------------------------------------------


@cache
def _nvml() -> tuple[Any, str | None]:
    """Return nvidia-ml-py's module, initialised once for the process, or None and the reason."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # ImportError, or one of NVML's: no driver, no permission
        return None, f"{error}"
    return pynvml, None


def _gpus() -> tuple[tuple[GpuConditions, ...], str | None, str | None]:
    """Return what NVML reports of every GPU, the driver's version, and why there is nothing to report."""
    nvml, reason = _nvml()
    if nvml is None:
        return (), None, reason

    def ask(name: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, name)(*arguments)
        except Exception:  # this GPU, driver or release of the package does not report it
            return None

    gpus = []
    for index in range(ask("nvmlDeviceGetCount") or 0):
        handle = ask("nvmlDeviceGetHandleByIndex", index)
        power_mw = ask("nvmlDeviceGetPowerUsage", handle)
        utilisation = ask("nvmlDeviceGetUtilizationRates", handle)
        bits = ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:  # drivers before 535 have the older name only
            bits = ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        gpus.append(
            GpuConditions(
                index=index,
                name=_decoded(ask("nvmlDeviceGetName", handle)),
                uuid=_decoded(ask("nvmlDeviceGetUUID", handle)),
                sm_mhz=ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
                sm_mhz_max=ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
                memory_mhz=ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
                memory_mhz_max=ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_MEM),
                temperature_c=ask("nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
                power_w=None if power_mw is None else power_mw / 1000,
                throttle_reasons=None if bits is None else tuple(_reasons(bits)),
                utilisation_percent=None if utilisation is None else utilisation.gpu,
                persistence_mode=None if (on := ask("nvmlDeviceGetPersistenceMode", handle)) is None else bool(on),
                pcie_generation=ask("nvmlDeviceGetCurrPcieLinkGeneration", handle),
                pcie_generation_max=ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
                pcie_width=ask("nvmlDeviceGetCurrPcieLinkWidth", handle),
                pcie_width_max=ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
            )
        )
    return tuple(gpus), _decoded(ask("nvmlSystemGetDriverVersion")), None


def _decoded(text: Any) -> str | None:
    """Return a text of NVML's, which releases before 12 gave as bytes."""
    return text.decode() if isinstance(text, bytes) else text


def _reasons(bits: int) -> list[str]:
    """Return the names of the reasons in a mask; a bit that has no name here stands for itself."""
    return [REASONS.get(1 << bit, hex(1 << bit)) for bit in range(bits.bit_length()) if bits >> bit & 1]
