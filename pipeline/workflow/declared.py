"""The configuration as one stage may read it: what it did not declare raises."""

from typing import Any

from pipeline.config import Config
from pipeline.config.section import Section
from pipeline.workflow.stage import Stage


class Undeclared:
    """Stands for a section of which a stage declared only some keys, or none: reading another is a bug.

    So a stage cannot depend on what would not make it run again.
    """

    def __init__(self, stage: str, section: str, values: dict[str, Any]) -> None:
        self.__dict__.update(_stage=stage, _section=section, **values)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)  # what pickle and copy ask of every object
        raise RuntimeError(
            f"stage {self.__dict__.get('_stage')} reads {self.__dict__.get('_section')}.{key}, undeclared"
        )


def view(config: Config, stage: Stage) -> Config:
    """Return the configuration with the stage's declared sections and keys, and nothing else."""
    allowed = (*stage.sections, *stage.places)
    values: dict[str, Any] = {}
    for field, info in Config.model_fields.items():
        name, section = info.alias or field, getattr(config, field)
        if isinstance(section, Section) and name not in allowed:
            keys = [one.partition(".")[2] for one in allowed if one.startswith(f"{name}.")]
            values[field] = Undeclared(stage.name, name, {key: getattr(section, key) for key in keys})
    return config.model_copy(update=values)


def obeyed(config: Config, stage: Stage) -> dict[str, Any]:
    """Return the declared sections and keys, other than places, as plain data, for the manifest."""
    found: dict[str, Any] = {}
    for one in stage.sections:
        name, _, key = one.partition(".")
        section = config.section(name)
        if key:
            found.setdefault(name, {})[key] = section[key]
        else:
            found[name] = {key: value for key, value in section.items() if f"{name}.{key}" not in stage.places}
    return found
