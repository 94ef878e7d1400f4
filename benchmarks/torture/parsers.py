"""Everything that parses, as functions of a file: what comes out is a value, or one of the project's own errors."""

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipeline.errors import PipelineError


class Parser(NamedTuple):
    """What is fuzzed: a module, how it is called with a file that holds the bytes, and valid files to begin with.

    `may` are errors of the module's own, besides the project's.
    """

    module: str
    call: Callable[[Any, Path], object]
    corpus: Callable[[Path], Iterable[bytes]]
    may: tuple[str, ...] = ()

    def errors(self, module: Any) -> tuple[type[BaseException], ...]:
        """Return what may come out of it, but for a value."""
        return (PipelineError, *(getattr(module, name) for name in self.may))


def _saved(*arrays: np.ndarray) -> list[bytes]:
    found = []
    for array in arrays:
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    return found


def _npy(run: Path) -> list[bytes]:
    return _saved(np.zeros((2, 3), np.float32), np.arange(5), np.asfortranarray(np.ones((2, 2), ">i2")), np.array(1.0))


def _npz(run: Path) -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x=np.zeros((4, 2), np.float32), y=np.arange(4))
        found.append(file.getvalue())
    return found


def _idx(run: Path) -> list[bytes]:
    return [
        bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(8),
        bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3]),
    ]


def _pictures(run: Path) -> list[bytes]:
    found = []
    for mode in ("L", "RGB", "RGBA", "P"):
        for kind in ("PNG", "JPEG", "WEBP", "BMP"):
            if kind == "JPEG" and mode in ("RGBA", "P"):
                continue
            file = io.BytesIO()
            Image.linear_gradient("L").resize((8, 8)).convert(mode).save(file, kind)
            found.append(file.getvalue())
    return found


def _configurations(run: Path) -> list[bytes]:
    return [
        (run / "pipeline.toml").read_bytes(),
        b'[engine]\nprofiles = "1,8,64"\n[train]\nepochs = "auto"\nseed = 1\n',
    ]


def _assignments(run: Path) -> list[bytes]:
    return [b"train.epochs=3", b"engine.precisions=fp32,fp16", b'data.name="digits"', b"benchmark.batch_sizes=[1,2]"]


def _records(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((run / "artifacts").rglob("*.json")) if path.stat().st_size < 20_000]


def _manifests(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in (run / "artifacts").glob("*/manifest.json")]


def _graphs(run: Path) -> list[bytes]:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    weights = helper.make_tensor("w", TensorProto.FLOAT, (2, 2), np.ones(4, np.float32).tobytes(), raw=True)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", 2)) for name in "xy"]
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph)
    outside = onnx.ModelProto.FromString(model.SerializeToString())
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.data"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return [model.SerializeToString(), outside.SerializeToString()]


def _archives(run: Path) -> list[bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential"}))
        archive.writestr("metadata.json", "{}")
    return [file.getvalue()]


def _programs(run: Path) -> list[bytes]:
    return [(run / "artifacts/export/saved_model/saved_model.pb").read_bytes()]


def _requests(run: Path) -> list[bytes]:
    request = {"inputs": [{"name": "image", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2]}], "id": "1"}
    return [json.dumps(request).encode(), b'{"inputs": []}', b"[1e400, -0.0]"]


def _compressed(run: Path) -> list[bytes]:
    import gzip
    import zlib

    return [gzip.compress(b"{}" * 50), zlib.compress(b"{}" * 50)]


def _any_record(module: Any, file: Path) -> None:
    for kind in module.PUBLISHED:
        with suppress(PipelineError):
            kind.read(file)


def _request(module: Any, file: Path) -> None:
    from pipeline.serving import datatypes

    for value in module._object(file.read_bytes()).values():
        for shape in ((1, 2), (3,)):
            with suppress(module.Refused):
                datatypes.from_json(value, np.dtype(np.float32), shape, "image")


def _decompressed(module: Any, file: Path) -> None:
    for encoding in (b"gzip", b"deflate"):
        with suppress(module.Refused):
            module._decompressed(file.read_bytes(), encoding, 1 << 20)


def _archive(module: Any, file: Path) -> None:
    with suppress(ValueError, zipfile.BadZipFile, NotImplementedError), zipfile.ZipFile(file) as archive:
        module.refuse_zip(file, archive)


def _picture(module: Any, file: Path) -> None:
    with suppress(OSError):
        module.pixels(file, 3, (None, None))


def _assignment(module: Any, file: Path) -> None:
    module.load(None, file.read_bytes().decode(errors="surrogateescape").split("\x01"))


PARSERS: dict[str, Parser] = {
    "IDX": Parser("pipeline.data.idx", lambda idx, file: idx.read(file), _idx),
    "npy": Parser("pipeline.data.npy", lambda npy, file: npy.load(file), _npy),
    "npz": Parser("pipeline.data.npz", lambda npz, file: npz.load(str(file)), _npz),
    "pictures": Parser("pipeline.data.pictures", _picture, _pictures, ("Unreadable",)),
    "configuration": Parser("pipeline.config.loading", lambda loading, file: loading.load(file), _configurations),
    "--set": Parser("pipeline.config.loading", _assignment, _assignments),
    "records": Parser("pipeline.artifacts", _any_record, _records),
    "manifests": Parser("pipeline.artifacts", lambda artifacts, file: artifacts.Manifest.read(file), _manifests),
    "ONNX": Parser("pipeline.graphs.files", lambda files, file: files.load(file), _graphs),
    "keras archives": Parser("pipeline.models.bombs", _archive, _archives),
    "SavedModel": Parser("pipeline.models.programs", lambda programs, file: programs.reaching_out(file), _programs),
    "requests": Parser("pipeline.serving.http", _request, _requests, ("Refused",)),
    "compressed requests": Parser("pipeline.serving.bodies", _decompressed, _compressed, ("Refused",)),
}
"""By name."""
