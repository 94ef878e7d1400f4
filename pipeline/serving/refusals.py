"""Why a request is not answered, in the words of both protocols."""

from enum import Enum


class Why(Enum):
    """A reason, with its HTTP status and the name of its gRPC status code."""

    INVALID = (400, "INVALID_ARGUMENT")
    UNAUTHENTICATED = (401, "UNAUTHENTICATED")
    FORBIDDEN = (403, "PERMISSION_DENIED")
    NOT_FOUND = (404, "NOT_FOUND")
    WRONG_METHOD = (405, "UNIMPLEMENTED")
    TOO_LARGE = (413, "RESOURCE_EXHAUSTED")
    WRONG_ENCODING = (415, "INVALID_ARGUMENT")
    FULL = (429, "RESOURCE_EXHAUSTED")
    BROKEN = (500, "INTERNAL")
    UNAVAILABLE = (503, "UNAVAILABLE")
    EXPIRED = (504, "DEADLINE_EXCEEDED")

    def __init__(self, http: int, grpc: str) -> None:
        self.http = http
        self.grpc = grpc


class Refused(Exception):  # noqa: N818  says what happened
    """A request that is not answered; `words` are for whoever sent it."""

    def __init__(self, why: Why, words: str) -> None:
        super().__init__(words)
        self.why = why
        self.words = words


def invalid(words: str) -> Refused:
    """Return the refusal of a request that is not as the protocol or the model wants it."""
    return Refused(Why.INVALID, words)
