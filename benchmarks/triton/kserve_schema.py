"""Run in the environment that has KServe: an InferenceService on standard input through KServe's own client classes.

Exit code 0 where every field is one of theirs and of its type, none that they need missing; else 1, with a reason.
"""

import sys
from typing import Any

import kserve
import kubernetes
import yaml


def built(kind: str, given: Any) -> Any:
    """Return an object of KServe's or Kubernetes's class of this name, from plain data.

    Raises:
        ValueError: a field that the class does not have, or one that it refuses.
    """
    if kind.startswith("list["):
        return [built(kind[5:-1], one) for one in given]
    if kind.startswith("dict("):
        return {key: built(kind[5:-1].partition(", ")[2], one) for key, one in given.items()}
    class_ = getattr(kserve, kind, None) or getattr(kubernetes.client, kind, None)
    if class_ is None:
        expected = {"str": str, "int": int, "bool": bool, "float": float}.get(kind)
        if expected is not None and not isinstance(given, expected):
            raise ValueError(f"{given!r} is no {kind}")
        return given
    names = {json: name for name, json in class_.attribute_map.items()}
    if unknown := set(given) - set(names):
        raise ValueError(f"{kind} has no {', '.join(sorted(unknown))}")
    return class_(**{names[key]: built(class_.openapi_types[names[key]], one) for key, one in given.items()})


def main() -> None:
    """Check what is on standard input."""
    document = yaml.safe_load(sys.stdin)
    if (document["apiVersion"], document["kind"]) != ("serving.kserve.io/v1beta1", "InferenceService"):
        raise SystemExit("this is no InferenceService of serving.kserve.io/v1beta1")
    try:
        built("V1beta1InferenceService", document)
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
