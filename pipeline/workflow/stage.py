"""What a stage declares. Nothing is imported here, so that `--help` answers at once."""

from typing import NamedTuple


class Stage(NamedTuple):
    """One step: what it reads, and which part of the configuration it obeys. It is given that and nothing else."""

    name: str
    entry: str
    """`module:function`."""
    needs: tuple[str, ...]
    """Prefixes of the artifacts it reads, `<stage>/<file>`."""
    sections: tuple[str, ...]
    """Sections of the configuration, or single keys as `benchmark.threads`: a change makes the stage run again."""
    hardware: bool
    """Whether another processor, GPU or driver makes it run again."""
    help: str
    optional: tuple[str, ...] = ()
    """Stages among those of `needs` that it can do without."""
    places: tuple[str, ...] = ()
    """Sections or keys that may be read, and whose change does not make it run again: they change no result."""
    on_demand: bool = False
    """Whether `make all` leaves it out."""
