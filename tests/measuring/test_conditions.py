"""The state of the machine: read from the real system, from a tree of files, and from a stand-in for NVML's answers."""

import ast
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from pipeline import environment
from pipeline.artifacts.conditions import Conditions, GpuConditions
from pipeline.measuring import conditions

QUIET = Conditions(
    at_s=100.0,
    load_1min=0.1,
    cores=2,
    governor="unknown",
    cpu_mhz=3000.0,
    cpu_quota_cores=None,
    quota_throttled_s=None,
    steal_s=5.0,
    cpu_wait_s=50.0,
    driver=None,
    nvml="no driver",
    gpus=(),
)

GPU = GpuConditions(
    index=0,
    name="NVIDIA H200",
    uuid="GPU-1",
    sm_mhz=1980,
    sm_mhz_max=1980,
    memory_mhz=3201,
    memory_mhz_max=3201,
    temperature_c=40,
    power_w=120.5,
    throttle_reasons=(),
    utilisation_percent=0,
    persistence_mode=True,
    pcie_generation=5,
    pcie_generation_max=5,
    pcie_width=16,
    pcie_width_max=16,
)


def test_reads_this_machine() -> None:
    first, second = conditions.read(), conditions.read()
    assert Conditions.model_validate_json(first.model_dump_json()) == first
    assert first.cores == environment.cpu_count()
    assert second.at_s > first.at_s
    if Path("/proc/stat").exists():
        assert second.steal_s >= first.steal_s >= 0
        assert first.load_1min >= 0
    assert (first.nvml is None) == bool(environment.gpus())


@pytest.mark.skipif(not Path("/proc/pressure/cpu").exists(), reason="this kernel gives no pressure information")
def test_waiting_for_a_core_only_grows() -> None:
    first = conditions.read().cpu_wait_s
    assert 0 < first <= conditions.read().cpu_wait_s < time.monotonic() + 1e6


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(conditions, "PROC", tmp_path / "proc")
    monkeypatch.setattr(conditions, "SYS", tmp_path / "sys")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_system_that_tells_nothing(tree: Path) -> None:
    read = conditions.read()
    assert read.governor == "unknown"
    for key in ("cpu_mhz", "cpu_quota_cores", "quota_throttled_s", "steal_s", "cpu_wait_s"):
        assert getattr(read, key) is None
    assert conditions.changes(read.model_copy(update={"load_1min": None}), read) == []


def test_governor_and_frequency_of_every_core(tree: Path) -> None:
    for core, (governor, khz) in enumerate([("performance", 2_000_000), ("powersave", 3_000_000)]):
        write(tree / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", f"{governor}\n")
        write(tree / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{khz}\n")
    read = conditions.read()
    assert read.governor == "performance+powersave"
    assert read.cpu_mhz == 2500


def test_counters_of_proc(tree: Path) -> None:
    write(tree / "proc/stat", "cpu  1 2 3 4 5 6 7 800 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    write(tree / "proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0 total=7\n")
    write(tree / "proc/cpuinfo", "model name\t: x\ncpu MHz\t\t: 2000.5\n\ncpu MHz\t\t: 3000.5\n")
    read = conditions.read()
    assert read.steal_s == pytest.approx(800 / conditions.os.sysconf("SC_CLK_TCK"))
    assert read.cpu_wait_s == 2.5
    assert read.cpu_mhz == 2500.5


@pytest.mark.parametrize("inside_container", [False, True])
def test_the_tightest_quota_of_control_groups_version_2(tree: Path, inside_container: bool) -> None:
    groups = tree / "sys/fs/cgroup"
    write(tree / "proc/self/cgroup", "0::/outer/inner\n")
    if inside_container:  # its own group is mounted at the top
        write(groups / "cpu.max", "150000 100000\n")
        write(groups / "cpu.stat", "usage_usec 5\nthrottled_usec 2500000\n")
    else:
        write(groups / "outer/cpu.max", "150000 100000\n")
        write(groups / "outer/cpu.stat", "usage_usec 5\nthrottled_usec 2500000\n")
        write(groups / "outer/inner/cpu.max", "max 100000\n")
        write(groups / "outer/inner/cpu.stat", "usage_usec 5\nthrottled_usec 0\n")
    read = conditions.read()
    assert (read.cpu_quota_cores, read.quota_throttled_s) == (1.5, 2.5)


@pytest.mark.parametrize(("quota", "cores"), [("-1", None), ("50000", 0.5)])
def test_a_quota_of_control_groups_version_1(tree: Path, quota: str, cores: float | None) -> None:
    write(tree / "proc/self/cgroup", "4:memory:/a\n2:cpu,cpuacct:/a\n")
    group = tree / "sys/fs/cgroup/cpu,cpuacct/a"
    write(group / "cpu.cfs_quota_us", f"{quota}\n")
    write(group / "cpu.cfs_period_us", "100000\n")
    write(group / "cpu.stat", "nr_periods 1\nthrottled_time 3000000000\n")
    read = conditions.read()
    assert (read.cpu_quota_cores, read.quota_throttled_s) == (cores, 3.0)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ({"load_1min": 1.5}, {}, "the load average was 1.5 on 2 cores before the timing began"),
        ({}, {"load_1min": 9.0}, None),  # the benchmark's own
        ({}, {"cpu_wait_s": 52.5}, "something waited for a core in 25% of the time"),
        ({}, {"cpu_wait_s": 50.5}, None),
        ({}, {"steal_s": 6.0}, "the hypervisor gave 5.0% of the CPU time to others"),
        ({}, {"steal_s": 5.1}, None),
        ({"quota_throttled_s": 1.0}, {"quota_throttled_s": 1.5}, "quota throttled its processes for 0.50 s"),
        ({}, {"cpu_mhz": 2500.0}, "frequency fell from 3000 to 2500 MHz"),
        ({}, {"cpu_mhz": 2900.0}, None),
        ({}, {"governor": "schedutil"}, "governor is schedutil"),
        ({}, {"governor": "performance"}, None),
    ],
)
def test_what_a_reader_must_know(start: dict[str, Any], end: dict[str, Any], words: str | None) -> None:
    found = conditions.changes(QUIET.model_copy(update=start), QUIET.model_copy(update={"at_s": 110.0} | end))
    assert len(found) == (words is not None)
    assert not words or words in found[0]


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ({}, {"throttle_reasons": ("power cap",)}, "was throttled: power cap"),
        ({"throttle_reasons": ("idle",)}, {"throttle_reasons": ("application clocks",)}, None),
        ({}, {"sm_mhz": 1410}, "SM clock fell from 1980 to 1410 MHz"),
        ({}, {"sm_mhz": 345, "throttle_reasons": ("idle",)}, None),  # it clocks down when it has nothing to do
        ({}, {"memory_mhz": 1600}, "memory clock fell from 3201 to 1600 MHz"),
        ({}, {"temperature_c": 71}, "warmed from 40 to 71 °C"),
        ({"temperature_c": None}, {"temperature_c": 71}, None),
        ({"utilisation_percent": 80}, {}, "was 80 % busy before the timing began"),
        ({}, {"utilisation_percent": 99}, None),
        ({}, {"pcie_width": 4}, "is connected by 4 of 16 PCIe lanes"),
        (dict.fromkeys(GpuConditions.model_fields.keys() - {"index", "name", "uuid"}), {}, None),
    ],
)
def test_what_a_reader_must_know_of_a_gpu(start: dict[str, Any], end: dict[str, Any], words: str | None) -> None:
    first, last = (
        QUIET.model_copy(update={"gpus": (GpuConditions(**GPU.model_dump() | state),)}) for state in (start, end)
    )
    expected = [f"GPU 0 (NVIDIA H200) {words}"] if words else []
    assert conditions.changes(first, last) == expected
    of_a_cell = [remark for remark in expected if "busy" not in remark]  # the load is the benchmark's
    assert conditions.gpu_changes(first, last) == of_a_cell


# --- NVML: a stand-in for its answers, and its names in the installed package -----------------------------------------


class Nvml:
    """Answers as NVML would for one GPU; functions left out raise, as those do that a driver does not have."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name not in self._answers:
            raise AttributeError(name)
        answer = self._answers[name]
        return lambda *arguments: answer(*arguments) if callable(answer) else answer


def not_supported(*_: object) -> int:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


ANSWERS: dict[str, Any] = {
    "nvmlDeviceGetCount": 1,
    "nvmlDeviceGetHandleByIndex": lambda index: f"handle{index}",
    "nvmlDeviceGetName": b"NVIDIA H200",
    "nvmlDeviceGetUUID": "GPU-1",
    "nvmlDeviceGetClockInfo": lambda _, kind: {1: 1980, 2: 3201}[kind],
    "nvmlDeviceGetMaxClockInfo": lambda _, kind: {1: 1980, 2: 3201}[kind],
    "nvmlDeviceGetTemperature": lambda *_: 40,
    "nvmlDeviceGetPowerUsage": 120_500,
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0, memory=0),
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetCurrPcieLinkGeneration": 5,
    "nvmlDeviceGetMaxPcieLinkGeneration": 5,
    "nvmlDeviceGetCurrPcieLinkWidth": 16,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlSystemGetDriverVersion": "595.10",
}


def answered(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> Conditions:
    monkeypatch.setattr(conditions, "_nvml", lambda: (Nvml(**answers), None))
    return conditions.read()


def test_what_nvml_answers_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    read = answered(monkeypatch, **ANSWERS)
    assert read.gpus == (GPU,)
    assert (read.driver, read.nvml) == ("595.10", None)


@pytest.mark.parametrize("missing", [name for name in ANSWERS if name != "nvmlDeviceGetCount"])
@pytest.mark.parametrize("refusing", [False, True])
def test_what_nvml_does_not_tell_is_none_and_stops_nothing(
    missing: str, refusing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {name: answer for name, answer in ANSWERS.items() if name != missing}
    read = answered(monkeypatch, **answers, **({missing: not_supported} if refusing else {}))
    # The clocks are asked for twice; the stand-in answers for any handle.
    untold = {"nvmlDeviceGetClockInfo": 2, "nvmlDeviceGetMaxClockInfo": 2, "nvmlDeviceGetHandleByIndex": 0}
    assert [*read.gpus[0].model_dump().values(), read.driver].count(None) == untold.get(missing, 1)
    conditions.changes(read, read)


def test_an_older_driver_has_the_older_name_for_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ANSWERS | {
        "nvmlDeviceGetCurrentClocksEventReasons": not_supported,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x44 | 1 << 40,
    }
    reasons = answered(monkeypatch, **answers).gpus[0].throttle_reasons
    assert reasons == ("power cap", "hardware thermal slowdown", "0x10000000000")


def test_every_reason_of_the_installed_package_has_a_name() -> None:
    bits = {
        value
        for name, value in vars(pynvml).items()
        if name.startswith(("nvmlClocksEventReason", "nvmlClocksThrottleReason")) and not name.endswith(("All", "None"))
    }
    assert bits == set(conditions.REASONS)
    assert pynvml.nvmlClocksEventReasonSwPowerCap == 0x4
    assert pynvml.nvmlClocksEventReasonHwThermalSlowdown == 0x40


def test_every_name_is_in_the_installed_package() -> None:
    tree = ast.parse(Path(conditions.__file__).read_text(encoding="utf-8"))
    functions = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("nvml")
    } - {"nvml"}
    attributes = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("nvml", "pynvml")
    }
    assert functions == {*ANSWERS, "nvmlDeviceGetCurrentClocksThrottleReasons"}
    assert attributes == {"NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU", "nvmlInit"}
    for name in functions | attributes:
        assert hasattr(pynvml, name), name
