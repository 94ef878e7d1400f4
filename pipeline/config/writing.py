"""Writing the configuration down, every key with its meaning."""

import json
from typing import Any

from pipeline.config import Config, sections


def to_toml(config: Config) -> str:
    """Return the configuration as TOML, every key with its meaning: a file for `--config`."""
    tree = config.model_dump(mode="json", by_alias=True)
    lines: list[str] = []

    def entry(key: str, value: Any, description: str | None) -> None:
        comment = f"  # {description}" if description else ""
        # JSON's numbers, strings, booleans and lists are TOML's; a key without a value is left out of TOML.
        shown = "…" if value is None else json.dumps(value, ensure_ascii=False)
        lines.append(f"{'# ' if value is None else ''}{key} = {shown}{comment}")

    entry("artifacts", tree["artifacts"], Config.model_fields["artifacts"].description)
    for name, section in sections():
        lines += ["", f"# {section.__doc__}", f"[{name}]"]
        for key, info in section.model_fields.items():
            entry(key, tree[name][key], info.description)
    return "\n".join(lines) + "\n"
