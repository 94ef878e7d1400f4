"""What the protocol says of the server and its models: metadata, configuration, statistics.

Each is one of the protocol's own messages, as gRPC sends it; REST sends the same as JSON.
"""

from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2

from pipeline import environment
from pipeline.serving.interface import Tensor
from pipeline.serving.model import Model
from pipeline.serving.repository import Entry
from pipeline.serving.statistics import Total

NAME = "keras-tensorrt-pipeline"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)


def server() -> Any:
    """Return the server's ServerMetadataResponse."""
    return service_pb2.ServerMetadataResponse(name=NAME, version=environment.version(NAME) or "", extensions=EXTENSIONS)


def metadata(model: Model) -> Any:
    """Return a model's ModelMetadataResponse."""
    return service_pb2.ModelMetadataResponse(
        name=model.name,
        versions=[model.version],
        platform=_platform(model),
        inputs=_tensors(model.interface.inputs.values()),
        outputs=_tensors(model.interface.outputs.values()),
    )


def config(model: Model) -> Any:
    """Return a model's ModelConfig."""
    runner = model.runs.runner
    said = {
        "runner": runner.name,
        "precision": runner.precision,
        "verdict": model.runs.verdict,
        "reason": model.runs.reason,
        "sha256": runner.sha256 or "",
    }
    return model_config_pb2.ModelConfig(
        name=model.name,
        platform=_platform(model),
        backend=runner.backend,
        max_batch_size=model.max_batch,
        input=[
            model_config_pb2.ModelInput(name=one.name, data_type=_config_type(one), dims=one.dims)
            for one in model.interface.inputs.values()
        ],
        output=[
            model_config_pb2.ModelOutput(name=one.name, data_type=_config_type(one), dims=one.dims)
            for one in model.interface.outputs.values()
        ],
        dynamic_batching=model_config_pb2.ModelDynamicBatching(),
        instance_group=[model_config_pb2.ModelInstanceGroup(name=model.name, count=model.workers, kind=_kind(model))],
        parameters={key: model_config_pb2.ModelParameter(string_value=value) for key, value in said.items()},
    )


def statistics(models: Iterable[Model]) -> Any:
    """Return the ModelStatisticsResponse of some models."""
    return service_pb2.ModelStatisticsResponse(model_stats=[_statistics(one) for one in models])


def index(entries: Iterable[Entry]) -> Any:
    """Return the RepositoryIndexResponse."""
    made = service_pb2.RepositoryIndexResponse.ModelIndex
    return service_pb2.RepositoryIndexResponse(
        models=[made(name=one.name, version=one.version, state=one.state, reason=one.reason) for one in entries]
    )


def as_json(message: Any) -> dict[str, Any]:
    """Return a message as REST has it: the names as they are, and what is 0 or empty, too."""
    found: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _numbers(found)  # type: ignore[no-any-return]


def _numbers(tree: Any) -> Any:
    """Return JSON with its whole numbers as numbers: protobuf writes those of 64 bits as strings."""
    if isinstance(tree, dict):
        return {key: value if key in _WORDS else _numbers(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_numbers(one) for one in tree]
    if isinstance(tree, str) and tree.lstrip("-").isdigit():
        return int(tree)
    return tree


_WORDS = frozenset({"name", "version", "versions", "platform", "backend", "reason", "string_value"})
"""Fields that are strings, whatever they hold."""


def _statistics(model: Model) -> Any:
    counted = model.statistics
    return service_pb2.ModelStatistics(
        name=model.name,
        version=model.version,
        last_inference=counted.last_ms,
        inference_count=counted.samples,
        execution_count=counted.executions,
        inference_stats=service_pb2.InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.fail),
            queue=_duration(counted.queue),
            compute_infer=_duration(counted.infer),
        ),
        batch_stats=[
            service_pb2.InferBatchStatistics(batch_size=size, compute_infer=_duration(total))
            for size, total in sorted(counted.batches.items())
        ],
    )


def _duration(total: Total) -> Any:
    return service_pb2.StatisticDuration(count=total.count, ns=total.ns)


def _tensors(tensors: Iterable[Tensor]) -> list[Any]:
    made = service_pb2.ModelMetadataResponse.TensorMetadata
    return [made(name=one.name, datatype=one.datatype, shape=[-1, *one.dims]) for one in tensors]


def _platform(model: Model) -> str:
    """Return the protocol's word for what is run, where it has one."""
    runner = model.runs.runner
    if runner.file.endswith(".onnx"):
        return "onnxruntime_onnx" if runner.backend == "onnxruntime" else f"{runner.backend}_onnx"
    known = {"tensorrt": "tensorrt_plan", "tensorflow": "tensorflow_savedmodel"}
    return known.get(runner.backend, runner.backend)


def _kind(model: Model) -> Any:
    kinds = model_config_pb2.ModelInstanceGroup
    return kinds.KIND_CPU if (model.runs.device or "cpu") == "cpu" else kinds.KIND_GPU


def _config_type(tensor: Tensor) -> Any:
    return model_config_pb2.DataType.Value(f"TYPE_{tensor.datatype}")
