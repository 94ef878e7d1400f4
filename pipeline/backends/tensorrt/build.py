"""Builds engines with TensorRT 11 and with TensorRT for RTX: one API under two module names.

Both are strongly typed, so the ONNX graph carries the precision; TF32, a builder flag, is the exception. TensorRT for
RTX builds without a GPU; TensorRT needs the GPU that the engine is for. Engines are run by pipeline.backends.tensorrt.

`build` works in this process, which ends where the builder crashes: pipeline.backends.tensorrt.process starts another.

A test holds every name used on an object of TensorRT or cuda.core against the recorded and the installed API. It knows
such an object by its variable's name, so these keep to the test's table (`builder`, `config`, `engine`, …), and a new
one is entered there.
"""

import importlib
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from pipeline import cuda
from pipeline.artifacts.engine import TimingCacheUse
from pipeline.backends import Variant, check_variant
from pipeline.backends.tensorrt import dynamic_axes, failures, features, progress, timing_cache
from pipeline.errors import ArtifactError, BackendUnavailable, BuildError, ConfigError
from pipeline.graphs import files
from pipeline.tensors import Range, Ranges

FLAVOURS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Each flavour with the module it is imported as."""

VARIANTS = dict.fromkeys(FLAVOURS, Variant("engine", "cuda"))

_INSTALL = {
    "tensorrt": "Install the extra `gpu`: pip install 'tensorrt-cu12>=11,<12'.",
    "tensorrt-rtx": "There are wheels for Linux x86-64 and Windows: pip install tensorrt-rtx-cu12.",
}


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    `profiles` are the smallest, the best and the largest batch of each optimization profile: the range of every input's
    first axis that is dynamic. `ranges` has those of other dynamic axes, by input and axis, the same in each profile.
    `targets` are the compute capabilities that an engine of TensorRT for RTX is for, such as "sm89"; none leaves the
    choice to TensorRT, as None does for the limit of scratch memory, `workspace_bytes`, and for the optimization level.
    `features` are keys of pipeline.backends.tensorrt.features. `timing_cache` is the file of what TensorRT measured of
    kernels before.

    Raises:
        ConfigError: an unknown flavour or feature, no profile or an impossible one, an impossible workspace, targets or
            a timing cache for a flavour that takes none.
    """

    flavour: str
    allow_tf32: bool
    profiles: tuple[Range, ...]
    ranges: Ranges = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    features: tuple[str, ...] = ()
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        check_variant("tensorrt", self.flavour, VARIANTS)
        if not self.profiles:
            raise ConfigError("an engine needs an optimization profile: its smallest, best and largest batch")
        for batch in self.profiles:
            dynamic_axes.check("batch", batch)
        features.check(self.features)
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise ConfigError(f"a workspace of {self.workspace_bytes} bytes is impossible")
        if self.targets and self.flavour != "tensorrt-rtx":
            raise ConfigError(
                f"{self.flavour} takes no targets, got {', '.join(self.targets)}",
                "It builds for this machine's GPU. Leave the targets out, or build with tensorrt-rtx.",
            )
        if self.timing_cache and self.flavour != "tensorrt":
            raise ConfigError(f"{self.flavour} has no timing cache: it measures nothing while it builds")


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine; the warnings and errors of parser and builder, in order; the version that built it.

    `taken` has TensorRT's names of the features it was built with, `phases` the seconds of the longest phases.
    """

    engine: memoryview
    """Of bytes, in TensorRT's own memory: no second copy of the weights is made."""
    messages: tuple[str, ...]
    version: str
    taken: tuple[str, ...]
    phases: dict[str, float]
    timing_cache: TimingCacheUse | None


def installed_version(flavour: str) -> str | None:
    """Return the version of the flavour's package without importing it, or None where it is not installed."""
    for distribution in (flavour, f"{flavour}-cu12", f"{flavour}-cu13"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None


def module(flavour: str) -> Any:
    """Import the flavour's module, which may be absent; raise BackendUnavailable where it is, or is too old."""
    check_variant("tensorrt", flavour, VARIANTS)
    try:
        trt = importlib.import_module(FLAVOURS[flavour])
    except (ImportError, OSError) as error:  # OSError: the wheel is there, a library it loads is not
        raise BackendUnavailable(f"{flavour} cannot be imported: {error}", _INSTALL[flavour]) from error
    if flavour == "tensorrt" and int(trt.__version__.split(".")[0]) < 11:
        raise BackendUnavailable(f"TensorRT {trt.__version__} is too old, 11 is needed", _INSTALL[flavour])
    return trt


def probe_build(flavour: str) -> None:
    """Raise BackendUnavailable, with the reason and the remedy, where an engine of `flavour` cannot be built."""
    module(flavour)
    if flavour == "tensorrt":
        cuda.device()


@cache
def logger_of(flavour: str) -> Any:
    """Return the flavour's only logger: TensorRT keeps the first one it meets for the whole process."""
    trt = module(flavour)
    kept = {trt.ILogger.INTERNAL_ERROR: "internal error", trt.ILogger.ERROR: "error", trt.ILogger.WARNING: "warning"}

    class Words(trt.ILogger):  # type: ignore[misc, name-defined]  # imported at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # super().__init__() would leave the C++ part unmade
            self.words: list[str] = []
            self.copy: TextIO | None = None

        def log(self, severity: object, message: str) -> None:
            if severity in kept:
                self.words.append(f"{kept[severity]}: {message}")
                if self.copy:
                    print(self.words[-1], file=self.copy, flush=True)

    return Words()


@contextmanager
def captured(flavour: str) -> Iterator[list[str]]:
    """Collect what TensorRT logs at warning and above, each line prefixed with its severity."""
    logger = logger_of(flavour)
    logger.words = []
    yield logger.words


def build(
    model: Path,
    options: BuildOptions,
    layers: failures.Layers | None = None,
    watch: progress.Watch | None = None,
) -> BuiltEngine:
    """Build an engine from an ONNX model, whose external weights, if any, lie beside it.

    `layers` has the Keras layer of each node by the node's name, to be named in errors. `watch` is told of progress.

    Raises:
        ArtifactError: the model is not there, or its weights are damaged or not in its folder.
        BackendUnavailable: the flavour cannot build on this machine.
        BuildError: with the operator and the layer where they are known, and the parser's or builder's own words.
        ConfigError: an unknown target, an option or feature that TensorRT does not take, a dynamic axis without a
            range, or with sizes that the model cannot take.
    """
    if not model.is_file():
        raise ArtifactError(f"{model} does not exist", "Run `make export engine`.")
    probe_build(options.flavour)
    trt = module(options.flavour)
    with captured(options.flavour) as words:
        builder = trt.Builder(logger_of(options.flavour))
        network = builder.create_network()
        parser = trt.OnnxParser(network, logger_of(options.flavour))
        if not parser.parse(files.verified(model), path=str(model.resolve())):
            complaints = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
            raise failures.unparsed(model, complaints, words, layers or {})
        if not network.num_outputs:
            raise BuildError(f"{model}: the graph is empty")  # an empty file parses to this
        config = _configure(trt, builder, network, options)
        taken = features.apply(trt, config, options.features, words)
        used = timing_cache.Used(config, options.timing_cache, words) if options.timing_cache else None
        phases = progress.Phases(watch)
        monitor = config.progress_monitor = progress.monitor(trt, phases)
        serialized = builder.build_serialized_network(network, config)
        del monitor  # TensorRT asks that it outlive the build
        failures.check_sizes(model, words, layers or {})
        if serialized is None:
            raise failures.unbuilt(model, words, layers or {}, options.features)
        if used:
            used.save()
    return BuiltEngine(
        engine=memoryview(serialized).cast("B"),
        messages=tuple(words),
        version=trt.__version__,
        taken=taken,
        phases=phases.seconds(),
        timing_cache=used.record if used else None,
    )


def _describe(parser_error: Any) -> failures.Complaint:
    return failures.Complaint(parser_error.node_operator(), parser_error.node_name(), parser_error.desc())


def _configure(trt: Any, builder: Any, network: Any, options: BuildOptions) -> Any:
    """Return the configuration, every option read back: TensorRT ignores or clamps what it does not accept."""
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector gives each layer's types
    if options.allow_tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # it is on by default, and then FP32 is not FP32
    if config.get_flag(trt.BuilderFlag.TF32) is not options.allow_tf32:
        raise BuildError(f"TensorRT did not take allow_tf32={options.allow_tf32}")
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
        if config.builder_optimization_level != options.optimization_level:
            raise ConfigError(f"TensorRT has no optimization level {options.optimization_level}", "Choose from 0 to 5.")
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        if config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) != options.workspace_bytes:
            raise ConfigError(f"TensorRT refuses a workspace of {options.workspace_bytes} bytes")
    if options.targets:
        _set_targets(trt, config, options.targets)
    _add_profiles(builder, network, config, options)
    return config


def _set_targets(trt: Any, config: Any, targets: tuple[str, ...]) -> None:
    """Name the compute capabilities to build for. What only TensorRT for RTX has is used here and nowhere else."""
    known = {name.lower(): value for name, value in trt.ComputeCapability.__members__.items() if name != "NONE"}
    if unknown := [target for target in targets if target.lower() not in known]:
        raise ConfigError(f"unknown targets: {', '.join(unknown)}", f"Choose from: {', '.join(known)}.")
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(known[target.lower()], index):
            raise ConfigError(
                f"TensorRT refuses target {target} among {', '.join(targets)}", "`current` must be the only target."
            )


def _add_profiles(builder: Any, network: Any, config: Any, options: BuildOptions) -> None:
    """Give every dynamic axis of an input the range of sizes the engine is for, in each profile.

    Profiles that the network does not tell apart, since no first axis is dynamic, are one.
    """
    inputs: dict[str, tuple[int, ...]] = {}  # with -1 where an axis is dynamic
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.is_shape_tensor:
            raise BuildError(
                f"the numbers in input {tensor.name!r} are the sizes of another tensor, which is not supported",
                "Have the model take sizes from the shapes of its inputs, or fix them.",
            )
        inputs[tensor.name] = tuple(tensor.shape)
    added: list[object] = [{}]
    for batch in options.profiles:
        dynamic = dynamic_axes.shapes(inputs, batch, options.ranges)
        if dynamic in added:
            continue
        profile = builder.create_optimization_profile()
        for name, sizes in dynamic.items():
            profile.set_shape(name, *sizes)
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(f"TensorRT refuses inputs of these shapes (smallest, best, largest): {dynamic}")
        added.append(dynamic)
