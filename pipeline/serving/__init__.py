"""A server for one machine: a verified bundle, by the Open Inference Protocol over REST and gRPC.

What it is made of, from the inside: a `model` is a runner of the bundle with sessions in threads and dynamic batching
(`batching`); the `repository` loads, swaps and unloads models; `http` and `grpc` are the protocol's two forms over the
same `service`; `connections`, `bodies`, `interface` and `security` keep out what is too slow, too large, of the wrong
shape, or from strangers.
"""

from pathlib import Path

from pipeline.config import Config
from pipeline.deployment import bundle
from pipeline.errors import BackendUnavailable, first_line


def serve(folder: Path, config: Config) -> None:
    """Serve a bundle until SIGTERM or Ctrl-C; everything taken on by then is answered.

    Raises:
        ArtifactError: the bundle is not as it was made, or nobody trusted has signed it. Nothing of it was loaded.
        BackendUnavailable: the extra is missing, or this machine runs nothing of the bundle that was verified.
        ConfigError: a port is in use, or a token, key or certificate cannot be read.
    """
    try:
        from pipeline.serving import server
    except (ImportError, RuntimeError) as error:  # RuntimeError: what tritonclient makes of an absent grpc
        raise BackendUnavailable(
            f"a library that serving needs is missing: {first_line(error)}",
            "Install the extra: pip install 'keras-tensorrt-pipeline[serve]'.",
        ) from error
    server.run(bundle.opened(folder, config.deploy.trusted_keys, trust=config.model.trust), config)
