"""On paper: what more GPUs bring to a data-parallel training; `python -m benchmarks.training.scaling` prints the table.

Nothing here is measured. docs/scaling.md says what is assumed and why.
"""

from typing import NamedTuple

NODE = 8
"""GPUs that NVLink joins."""

NVLINK_BYTES_PER_S, NETWORK_BYTES_PER_S = 370e9, 45e9
"""What one GPU sends in an all-reduce: of NVLink 4's 450 GB/s a way, and of one InfiniBand NDR port's 50."""

NVLINK_HOP_S, NETWORK_HOP_S = 3e-6, 6e-6

COUNTS = (1, 8, 64, 1024)


class Training(NamedTuple):
    """A model: its parameters, the seconds of a step on one GPU, and what a step takes in there."""

    name: str
    parameters: float
    step_s: float
    batch: int
    unit: str


TRAININGS = (
    Training("the article's CNN", 54_410, 1e-3, 128, "images"),
    Training("ResNet50", 25.6e6, 256 / 3_000, 256, "images"),
    Training("100 million parameters", 100e6, 16_384 * 6 * 100e6 / 400e12, 16_384, "tokens"),
)


def all_reduce_s(parameters: float, gpus: int) -> float:
    """Return the seconds of a ring all-reduce of FP32 gradients: within each node, then between nodes, each of a share.

    A ring of n sends 2 (n - 1) / n of the bytes, in 2 (n - 1) hops (Patarasuk and Yuan, JPDC 69, 2009).
    """
    size, inside, nodes = 4 * parameters, min(gpus, NODE), max(1, gpus // NODE)
    seconds = 0.0
    if inside > 1:
        seconds += 2 * (inside - 1) / inside * size / NVLINK_BYTES_PER_S + 2 * (inside - 1) * NVLINK_HOP_S
    if nodes > 1:
        seconds += 2 * (nodes - 1) / nodes * size / NODE / NETWORK_BYTES_PER_S + 2 * (nodes - 1) * NETWORK_HOP_S
    return seconds


def main() -> None:
    """Print the table in Markdown."""
    print("| training | GPUs | step, ms | of it all-reduce, ms | efficiency | a second |\n|---|---|---|---|---|---|")
    for one in TRAININGS:
        for gpus in COUNTS:
            lost = all_reduce_s(one.parameters, gpus)
            step = one.step_s + lost
            rate = gpus * one.batch / step
            print(
                f"| {one.name} | {gpus:,} | {1e3 * step:.2f} | {1e3 * lost:.2f} | {100 * one.step_s / step:.0f} % | "
                f"{rate:,.0f} {one.unit} |"
            )


if __name__ == "__main__":
    main()
