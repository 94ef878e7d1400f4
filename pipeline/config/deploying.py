"""The sections about what happens to a verified model: the bundle, the server, scoring."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.config.section import Count, Seconds, Section, Threads, from_commas

Paths = Annotated[tuple[Path, ...], BeforeValidator(from_commas)]

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Deploy(Section):
    """What goes into the bundle, who signs it, and whose signature is trusted."""

    goal: Literal["latency", "throughput"] = Field("latency", description="which of the benchmark's recommendations")
    batch: Count | None = Field(
        None, description="for which batch size it recommends; unset: the smallest that was timed"
    )
    original: bool = Field(True, description="take the original model along, to be seen beside the fast one")
    keep_versions: Count = Field(2, description="how many versions the Triton repository holds, this one included")
    triton_release: str = Field(
        "26.08", pattern=r"^\d\d\.\d\d$", description="the Triton container that the plan is to be built and run in"
    )
    key: Path | None = Field(
        None, description="PEM file with the private key (ECDSA, P-256, -384 or -521) that signs; unset: unsigned"
    )
    certificates: Paths = Field(
        (), description="PEM files: the key's certificate, then those that signed it, up to the root's"
    )
    trusted_keys: Paths = Field(
        (),
        description="PEM files with public keys or root certificates: verify, serve and score take no bundle that "
        "none of them has signed",
    )

    @model_validator(mode="after")
    def _certified_key(self) -> "Deploy":
        if self.certificates and self.key is None:
            raise ValueError("certificates: set deploy.key, too, to the key of the first of them")
        return self


class Serve(Section):
    """The server: where it listens, who may ask, and how much it takes on."""

    host: str = Field("127.0.0.1", description="another address than this machine's own needs a token or a client_ca")
    http_port: int = Field(8000, ge=0, le=65535, description="REST, the page and /metrics; 0: any free one")
    grpc_port: int = Field(8001, ge=0, le=65535, description="0: any free one")
    token_file: Path | None = Field(None, description="file with the secret that clients send as a bearer token")
    certificate: Path | None = Field(
        None, description="PEM file: the server's certificate, for HTTPS and gRPC with TLS"
    )
    key: Path | None = Field(None, description="PEM file: its private key")
    client_ca: Path | None = Field(None, description="PEM file: clients need a certificate that one of these signed")
    max_request_mib: float = Field(64.0, gt=0, le=2047, description="a larger request is refused before it is read")
    queue: Count = Field(256, description="requests that may wait; one more is refused (429, RESOURCE_EXHAUSTED)")
    max_batch: Count | None = Field(
        None, description="samples that requests are put together to at most; unset: the largest batch timed"
    )
    workers: Threads | None = Field(None, description="sessions, each in a thread; unset: as the tuning record says")
    timeout_s: Seconds = Field(30.0, description="a request that waited this long is dropped (504)")
    drain_s: Seconds = Field(20.0, description="after SIGTERM, how long the requests taken on may still run")
    page: bool = Field(True, description="whether / shows the page to try the model on")
    trace_endpoint: str = Field(
        "", description="OpenTelemetry collector, as http://127.0.0.1:4318/v1/traces; needs the extra otel"
    )

    @model_validator(mode="after")
    def _not_open_to_all(self) -> "Serve":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key: set both, or neither")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca: set certificate and key, too")
        if self.host not in LOOPBACK and not (self.token_file or self.client_ca):
            raise ValueError(
                f"host = {self.host!r} lets others in: set serve.token_file, or serve.client_ca with a certificate"
            )
        return self


class Score(Section):
    """Scoring many samples: in how many processes, and how much is lost when one is killed."""

    workers: Threads | None = Field(None, description="processes, or with --ray actors; unset: one for each core")
    batch_size: Count | None = Field(None, description="samples per inference; unset: the best that was timed")
    rows_per_file: Count = Field(
        4096, description="rows of an output file: what a killed run does again at most, in each worker"
    )
    id_column: str = Field("id", description="a column of the Parquet input whose values are unique, if it has it")
