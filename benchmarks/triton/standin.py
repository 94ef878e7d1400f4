"""A Triton backend that stands in for ONNX Runtime's and TensorRT's, which PyTriton's wheel lacks.

Triton takes `<backends>/onnxruntime/model.py` as the backend `onnxruntime`, written in Python, and likewise `tensorrt`.
This file runs a version's model.onnx in ONNX Runtime on the CPU, with the threads that the configuration names. What
it does not take from Triton's word it compares: that the model has the configuration's inputs and outputs, no more and
no fewer, and that every output has the shape that the configuration promises. Of a plan it says nothing.

It runs in Triton's own process and environment, without this project.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    """A version of a model, by Triton's interface."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model and compare its inputs and outputs with the configuration's."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        threads = config["parameters"].get("intra_op_thread_count", {}).get("string_value", "1")
        options.intra_op_num_threads = int(threads)
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = config["input"], config["output"]
        self.batched = config["max_batch_size"] > 0
        for what, here, there in (
            ("inputs", self.inputs, self.session.get_inputs()),
            ("outputs", self.outputs, self.session.get_outputs()),
        ):
            named, have = {one["name"] for one in here}, {one.name for one in there}
            if named != have:
                raise triton.TritonModelException(f"{what} are {sorted(named)}, and the model's {sorted(have)}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of a batch by one call of the model."""
        taken = [[self._given(request, one) for one in self.inputs] for request in requests]
        feed = {
            one["name"]: np.concatenate(rows) for one, rows in zip(self.inputs, zip(*taken, strict=True), strict=True)
        }
        answers = self.session.run([one["name"] for one in self.outputs], feed)
        responses, start = [], 0
        for rows in taken:
            stop = start + len(rows[0])
            tensors = [self._returned(one, all_[start:stop]) for one, all_ in zip(self.outputs, answers, strict=True)]
            responses.append(triton.InferenceResponse(tensors))
            start = stop
        return responses

    def _given(self, request: Any, one: dict[str, Any]) -> Any:
        rows = triton.get_input_tensor_by_name(request, one["name"]).as_numpy()
        return rows.reshape(self._shape(one, len(rows), "reshape"))

    def _returned(self, one: dict[str, Any], rows: Any) -> Any:
        """Return an output as the configuration has it, which the model's own shape must allow."""
        wanted = self._shape(one, len(rows), "reshape")
        if len(wanted) != rows.ndim or any(
            want not in (-1, size) for want, size in zip(wanted, rows.shape, strict=True)
        ):
            raise triton.TritonModelException(f"{one['name']} has the shape {rows.shape}, and {wanted} is promised")
        outside = self._shape(one, len(rows), "")
        return triton.Tensor(one["name"], rows.reshape([*rows.shape] if "reshape" not in one else outside))

    def _shape(self, one: dict[str, Any], count: int, reshaped: str) -> list[int]:
        """Return the shape of a tensor with the batch: inside the model (`reshape`), or as clients see it."""
        inner = one.get("reshape") if reshaped else None
        dims = [int(size) for size in (inner or one).get("shape" if inner else "dims", [])]
        return [count, *dims] if self.batched else dims
