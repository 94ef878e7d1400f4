"""What every table of the configuration is made of."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator


def from_commas(value: Any) -> Any:
    """Accept `a,b` and a single value where a list is expected, as typed on a command line."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int) else value


def _as_names(value: Any) -> Any:
    """Accept numbers among names, as `0,1` is in a file."""
    values = from_commas(value)
    return [str(one) if isinstance(one, int) else one for one in values] if isinstance(values, list) else values


LARGEST = 2**31 - 1
"""What counts samples, steps or sizes goes through libraries whose numbers have 32 bits."""

YEAR_S = 365 * 24 * 3600.0

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""What NumPy and TensorFlow both take."""

Threads = Annotated[int, Field(ge=1, le=1024)]
"""Threads or processes: more than the largest machines have cores, and fewer than a system lets a user start."""

Seconds = Annotated[float, Field(gt=0, le=YEAR_S)]

Names = Annotated[tuple[str, ...], BeforeValidator(from_commas)]
Devices = Annotated[tuple[str, ...], BeforeValidator(_as_names)]
BatchSizes = Annotated[tuple[Count, ...], BeforeValidator(from_commas), Field(min_length=1)]


class Section(BaseModel):
    """A table of the configuration: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("must not be true or false")
        return value
