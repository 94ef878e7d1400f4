"""The program that the other environment's Python runs: a `.keras` file in, an ONNX file out.

It is started as `python child.py REQUEST ANSWER`, two JSON files, and imports nothing of this project, which is not
installed there. Keras runs on PyTorch (`KERAS_BACKEND=torch`).
"""

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TRACED = (3, 32)
"""The sizes that a dynamic batch, and any other dynamic axis, have while the model is traced."""

ALIASES = {
    **{"multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div", "not_equal": "ne"},
    **{"greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le"},
}


def main(request: dict[str, Any]) -> None:
    """Do what the request says: see `pipeline.exporters.pytorch.Request`."""
    _limit_memory(request["memory_bytes"])
    import keras
    import torch

    for module in request["imports"]:
        importlib.import_module(module)
    model = keras.saving.load_model(request["model"], compile=False, safe_mode=True)
    network = _named(model)
    tensors = tuple(_sample(torch, one) for one in request["inputs"])
    # DYNAMIC, and not AUTO: an axis that tracing has fixed is an error then, and no silent constant.
    dynamic = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(one["shape"]) if size is None}
        for one in request["inputs"]
    )
    with torch.no_grad():
        traced = torch.export.export(network, tensors, dynamic_shapes=(dynamic,), strict=False)
        program = torch.onnx.export(
            traced.run_decompositions(_same_operators(torch)),
            dynamo=True,
            opset_version=request["opset"],
            input_names=[one["name"] for one in request["inputs"]],
            output_names=request["outputs"],
            verbose=False,
        )
    program.save(request["output"], external_data=False)
    _name_nodes(request["output"], model)


def _same_operators(torch: Any) -> dict[Any, Any]:
    """Return PyTorch's other names of operators, which Keras uses, with the names that its exporter knows.

    Under the other names it does not bring the operands to one type: `2 * x` became a product of int64 and float32.
    """
    aten = torch.ops.aten
    found = {}
    for other, name in ALIASES.items():
        for overload in ("Tensor", "Scalar"):
            if hasattr(getattr(aten, other), overload) and hasattr(getattr(aten, name), overload):
                found[getattr(getattr(aten, other), overload)] = getattr(getattr(aten, name), overload)
    return found


def _limit_memory(size: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _sample(torch: Any, one: dict[str, Any]) -> Any:
    shape = [TRACED[min(axis, 1)] if size is None else size for axis, size in enumerate(one["shape"])]
    return torch.zeros(shape, dtype=getattr(torch, one["dtype"]))


def _layers(layers: Sequence[Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a model's layers with their names, as `pipeline.graphs.keras_layers.names` does."""
    for layer in layers:
        yield f"{above}{layer.name}", layer
        inner = getattr(layer, "layers", ())
        if isinstance(inner, list | tuple) and all(hasattr(one, "name") for one in inner):
            yield from _layers(inner, f"{above}{layer.name}/")


def _named(model: Any) -> Any:
    """Return the model as a PyTorch module with a submodule for each layer.

    PyTorch records in which module something is computed. Keras's layers are modules too, but are not called as such.
    """
    import keras
    import torch

    class Scope(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not installed where the types are checked
        def __init__(self, call: Any) -> None:
            super().__init__()
            self.call = call

        def forward(self, *arguments: Any, **options: Any) -> Any:
            return self.call(*arguments, **options)

    class Network(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.scopes = torch.nn.ModuleList()
            for _, layer in _layers(model.layers):
                scope = Scope(layer.call)
                self.scopes.append(scope)
                vars(layer)["call"] = lambda *arguments, scope=scope, **options: scope(*arguments, **options)

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            taken = tensors[0] if isinstance(model, keras.Sequential) else None
            if taken is None:
                taken = keras.tree.pack_sequence_as(model._inputs_struct, list(tensors))
            return tuple(keras.tree.flatten(model(taken, training=False)))

    return Network().eval()


def _name_nodes(path: str, model: Any) -> None:
    """Name each node `model/layer_1/…/operation`, in the way that TensorFlow names those of a traced model.

    TensorFlow numbers each layer's scope, since Keras opens it twice, and our names of layers are read from that.
    """
    import onnx

    names = [name for name, _ in _layers(model.layers)]
    graph = onnx.load(path)
    for number, node in enumerate(graph.graph.node):
        properties = {one.key: one.value for one in node.metadata_props}
        scopes = [part for part in properties.get("namespace", "").split("/") if part.startswith("scopes.")]
        if scopes:
            layer = names[int(scopes[-1].partition(":")[0].removeprefix("scopes."))]
            numbered = "/".join(f"{name}_1" for name in layer.split("/"))
            node.name = f"{model.name}/{numbered}/{node.name}"
        node.name = f"{node.name}_{number}"  # those of an operator that PyTorch wrote as several are not unique
        del node.metadata_props[:]
        node.ClearField("doc_string")
    onnx.save(graph, path)


if __name__ == "__main__":
    request_file, answer_file = map(Path, sys.argv[1:])
    answer = {"error": "", "message": ""}
    try:
        main(json.loads(request_file.read_text(encoding="utf-8")))
    except Exception as error:  # whatever Keras, the user's own layers and PyTorch raise
        answer = {"error": type(error).__name__, "message": str(error)}
    answer_file.write_text(json.dumps(answer), encoding="utf-8")
