"""The configuration of a model in Triton: from the signature, what was judged and what was measured.

Example:
    wanted = Wanted(record.name, "onnxruntime", record.signature, Batching.of(record), versions=(1, 2))
    print(schema.text(build(wanted)))
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.artifacts.bundle import BundleRecord, Measured
from pipeline.deployment.triton import schema
from pipeline.errors import BuildError
from pipeline.tensors import Signature, TensorSpec, fixed_batch

LONGEST_DELAY_US = 5000


@dataclass(frozen=True)
class Batching:
    """How requests are put together. `largest` 0: not at all, since the model takes batches of one size alone."""

    largest: int
    preferred: tuple[int, ...] = ()
    delay_us: int = 0

    @classmethod
    def of(cls, record: BundleRecord, largest: int | None = None) -> "Batching":
        """Return the batching that was judged and measured; `largest` is an engine's largest batch, where it has one.

        The largest batch is the largest that was judged and that the model takes. Sizes above 1 that were timed are
        preferred: were 1 one of them, Triton would send single requests on although more are waiting. A request waits
        for others no longer than the recommended runner's median at the smallest batch timed, so that a lone client's
        latency at most doubles, and never longer than 5 ms.
        """
        if fixed_batch(record.signature.inputs):
            return cls(0)
        best = record.runners[0]
        limits = [max(record.batch_sizes)]
        limits += [best.runner.batches.largest] if best.runner.batches else []
        limits += [largest] if largest else []
        preferred = tuple(size for size in record.batch_sizes if 1 < size <= min(limits))
        return cls(min(limits), preferred, _delay(best.measured))


def _delay(measured: tuple[Measured, ...]) -> int:
    timed = [(one.batch, one.p50_us) for one in measured if one.p50_us is not None]
    return min(round(min(timed)[1]), LONGEST_DELAY_US) if timed else 0


@dataclass(frozen=True)
class Wanted:
    """What a configuration says.

    `labels` names the file with the classes of an output. `sizes` are those of the dynamic axes but the batch, by
    input and axis, that warm-up requests have: without them there is none for such an input. `profiles` counts the
    optimization profiles of a plan, `threads` are those of one operator on the CPU (None: the library's choice).
    """

    name: str
    backend: str
    signature: Signature
    batching: Batching
    versions: tuple[int, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    profiles: int = 0
    threads: int | None = None


def build(wanted: Wanted) -> Any:
    """Return Triton's ModelConfig.

    Raises:
        BuildError: Triton has no type for an input or output.
        BackendUnavailable: `tritonclient` is not installed.
    """
    config = schema.messages().ModelConfig(
        name=wanted.name, backend=wanted.backend, max_batch_size=wanted.batching.largest
    )
    batched = wanted.batching.largest > 0
    for spec in wanted.signature.inputs:
        _tensor(config.input.add(), spec, batched)
    for spec in wanted.signature.outputs:
        output = config.output.add()
        _tensor(output, spec, batched)
        output.label_filename = wanted.labels.get(spec.name, "")
    config.version_policy.specific.versions.extend(wanted.versions)
    # One, of whatever kind the machine has: named, KIND_GPU fails where there is no GPU.
    group = config.instance_group.add(count=1)
    if wanted.profiles > 1:
        group.profile.extend(str(number) for number in range(wanted.profiles))
    if wanted.batching.largest > 1:
        config.dynamic_batching.preferred_batch_size.extend(wanted.batching.preferred)
        config.dynamic_batching.max_queue_delay_microseconds = wanted.batching.delay_us
    if wanted.threads:
        config.parameters["intra_op_thread_count"].string_value = str(wanted.threads)
    _warm_up(config, wanted)
    return config


def _tensor(tensor: Any, spec: TensorSpec, batched: bool) -> None:
    """Describe an input or output: without the batch where Triton adds it."""
    tensor.name = spec.name
    tensor.data_type = _type(spec)
    dims = [-1 if size is None else size for size in (spec.shape[1:] if batched else spec.shape)]
    tensor.dims.extend(dims or [1])  # Triton wants a dimension: a sample that is one number is reshaped
    if not dims:
        tensor.reshape.SetInParent()


def _type(spec: TensorSpec) -> Any:
    name = schema.type_name(spec.dtype)
    if name is None:
        raise BuildError(f"Triton has no type for {spec}", "Change the model, or serve it with `make serve`.")
    return schema.messages().DataType.Value(name)


def _warm_up(config: Any, wanted: Wanted) -> None:
    """Ask for a request of the smallest and one of the largest batch, of zeros, before a version answers clients."""
    batched = wanted.batching.largest > 0
    dims = {}
    for spec in wanted.signature.inputs:
        sizes = wanted.sizes.get(spec.name, {})
        found = [sizes.get(axis) if size is None else size for axis, size in enumerate(spec.shape)]
        kept = found[1:] if batched else found
        if None in kept:
            return  # a request of a made-up size may be none that the model can take
        dims[spec.name] = kept or [1]
    for batch in sorted({1, max(1, wanted.batching.largest)}):
        request = config.model_warmup.add(name=f"batch of {batch}", batch_size=batch)
        for spec in wanted.signature.inputs:
            one = request.inputs[spec.name]
            one.data_type = _type(spec)
            one.dims.extend(dims[spec.name])
            one.zero_data = True  # an index of zero is always within its table; a random one is not
