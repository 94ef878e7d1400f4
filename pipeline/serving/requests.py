"""A request over REST: JSON, or a JSON header with the tensors' bytes behind it (the binary tensor extension)."""

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.serving import datatypes
from pipeline.serving.interface import Interface, Tensor, size_of
from pipeline.serving.model import Model
from pipeline.serving.refusals import invalid
from pipeline.tensors import Array, Feed

LARGEST_HEADER = 1 << 20
"""Bytes of a JSON header with binary tensors behind it."""

LARGEST_JSON = 16 << 20
"""Bytes of a request that is all JSON: reading it holds up everybody else."""

DIGITS = 32
"""Bytes that a number takes in JSON, blanks included, at most; the more so for bytes of a tensor."""

KEPT, KEPT_BYTES = 256, 4096
"""Headers that a model remembers, and how long each may be."""

SHARED_MEMORY = "shared_memory_region"


@dataclass(frozen=True)
class Wanted:
    """An output that a client asks for: as bytes or JSON, and as its `classes` largest values where not 0."""

    tensor: Tensor
    binary: bool
    classes: int


@dataclass(frozen=True)
class Behind:
    """An input whose bytes lie behind the header."""

    tensor: Tensor
    shape: tuple[int, ...]
    start: int
    """After the end of the header."""


@dataclass
class Parsed:
    """What the JSON of a request says, checked against the model."""

    id: str | None
    rows: int
    timeout_s: float | None
    outputs: tuple[Wanted, ...]
    behind: tuple[Behind, ...]
    given: dict[str, Array]
    """Inputs whose numbers the JSON itself holds."""
    size: int
    """Bytes of all tensors behind it."""
    head: dict[Any, Any] = field(default_factory=dict)
    """For the answers: their header by the outputs' shapes."""

    def feed(self, body: bytes, header: int) -> Feed:
        """Return the inputs of a request with this JSON, whose body it begins with (`header` bytes).

        Raises:
            Refused: the body is shorter or longer than the JSON says.
        """
        if len(body) != header + self.size:
            raise invalid(f"{len(body) - header} bytes follow the JSON, which speaks of {self.size}")
        found = dict(self.given)
        for one in self.behind:
            dtype = one.tensor.dtype
            array = np.ndarray(one.shape, dtype, body, header + one.start)
            found[one.tensor.name] = array if array.flags.aligned else array.copy()
        return found


def largest(model: Model, binary: bool) -> int:
    """Return how many bytes a request has at most: all JSON, or (`binary`) a JSON header with tensors behind it."""
    tensors = model.interface.largest
    if binary:
        return sys.maxsize if tensors is None else LARGEST_HEADER + tensors
    return LARGEST_JSON if tensors is None else min(LARGEST_JSON, LARGEST_HEADER + DIGITS * tensors)


def parsed(model: Model, body: bytes, header: int | None) -> Parsed:
    """Return what a request's JSON says; `header` is its length, None where all of the body is JSON.

    Raises:
        Refused: it is not as the protocol says, or does not fit the model.
    """
    if header is None:
        return _read(model.interface, body)
    if not 0 < header <= min(len(body), LARGEST_HEADER):
        raise invalid(f"Inference-Header-Content-Length is {header}: not within the body, or over {LARGEST_HEADER}")
    text = body[:header]
    known: Parsed | None = model.parsed.get(text)
    if known is not None:
        return known
    found = _read(model.interface, text)
    if not found.given and header <= KEPT_BYTES:
        if len(model.parsed) >= KEPT:
            model.parsed.clear()
        model.parsed[text] = found
    return found


def _read(interface: Interface, text: bytes) -> Parsed:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the request is no JSON: {type(error).__name__}") from error
    if not isinstance(tree, dict):
        raise invalid("the request is no JSON object")
    identity = tree.get("id")
    if identity is not None and not isinstance(identity, str):
        raise invalid("id is no string")
    parameters = _parameters(tree)
    behind: list[Behind] = []
    given: dict[str, Array] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    start = 0
    for one in _objects(tree, "inputs"):
        tensor, shape = interface.checked(one.get("name"), one.get("datatype"), one.get("shape"))
        if tensor.name in shapes:
            raise invalid(f"input {tensor.name} is given twice")
        shapes[tensor.name] = shape
        size = _size(one, tensor, shape)
        if size is None:
            given[tensor.name] = datatypes.from_json(one.get("data"), tensor.dtype, shape, tensor.name)
        else:
            behind.append(Behind(tensor, shape, start))
            start += size
    rows = interface.rows(shapes)
    binary = parameters.get("binary_data_output") is True
    outputs = _outputs(interface, tree, binary)
    return Parsed(identity, rows, timeout_s(parameters.get("timeout")), outputs, tuple(behind), given, start)


def timeout_s(given: Any) -> float | None:
    """Return the parameter `timeout`, in microseconds as Triton has it, in seconds; None where there is none.

    Raises:
        Refused: it is no positive number.
    """
    if given is None or given == 0:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise invalid("the parameter timeout is no number of microseconds")
    return min(given, 10**15) / 1e6


def _size(one: dict[str, Any], tensor: Tensor, shape: tuple[int, ...]) -> int | None:
    """Return how many bytes of an input lie behind the JSON; None where its numbers are in it."""
    parameters = _parameters(one)
    if SHARED_MEMORY in parameters:
        raise invalid("shared memory is not supported: send the tensors' bytes")
    said = parameters.get("binary_data_size")
    if said is None:
        return None
    expected = size_of(shape, tensor.dtype)
    if type(said) is not int or said != expected:
        raise invalid(f"input {tensor.name}: binary_data_size is {str(said)[:20]}, and its shape takes {expected}")
    return expected


def _outputs(interface: Interface, tree: dict[str, Any], binary: bool) -> tuple[Wanted, ...]:
    asked = _objects(tree, "outputs") if tree.get("outputs") else []
    found = []
    for one in asked:
        parameters = _parameters(one)
        if SHARED_MEMORY in parameters:
            raise invalid("shared memory is not supported: leave the outputs to the answer")
        own = parameters.get("binary_data", binary)
        found.append(Wanted(interface.output(one.get("name")), own is True, classes(parameters.get("classification"))))
    if len({one.tensor.name for one in found}) != len(found):
        raise invalid("an output is asked for twice")
    return tuple(found) or tuple(Wanted(one, binary, 0) for one in interface.outputs.values())


def classes(given: Any) -> int:
    """Return the parameter `classification`: how many classes to name; 0 where it is not given.

    Raises:
        Refused: it is no such number.
    """
    if given is None:
        return 0
    if type(given) is not int or given < 0:
        raise invalid("the parameter classification is no number of classes")
    return given


def _parameters(tree: dict[str, Any]) -> dict[str, Any]:
    found = tree.get("parameters", {})
    if not isinstance(found, dict):
        raise invalid("parameters is no JSON object")
    return found


def _objects(tree: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = tree.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise invalid(f"{key} is no list of JSON objects")
    return found
