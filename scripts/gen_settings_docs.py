"""Makes docs/settings.md from the settings models; `--check` only says whether it is current."""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from voxray.base.settings import ReplicaGroupSettings, Settings
from voxray.base.settings_sources import COMMON_VARIABLES
from voxray.base.tls import TlsSettings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

_HEAD = """\
# Settings

Made from `voxray/base/settings.py` by `scripts/gen_settings_docs.py`; do not edit.

A value comes from the command line, else from the environment, else from `voxray.yaml` in the
working folder (or the file given with `--config`), else it is the default. Everything is checked
as a whole before anything starts; an unknown setting or a bad value is named with its place, and
the command ends with status 2.

Every setting has a variable: `VOXRAY_`, the section, two underscores, the field
(`VOXRAY_HOSTS__SESSIONS_PER_HOST=8`); lists are given as JSON. An empty variable counts as unset.

These variables of other tools mean one of our settings:

"""
_EXAMPLE = """\
## Example

```yaml
app: support
hosts:
  sessions_per_host: 16
  max_hosts: 8
inference:
  groups:
    - name: ears
      engines: [silero, pocketsphinx]
      gpus: 0.5
    - name: voice
      engines: [espeak]
      gpus: 0
      cpus: 1
http:
  port: 8081
```

## Variables that are not settings

| variable | meaning |
| --- | --- |
| `VOXRAY_API` | address of a running app's HTTP API, for `status`, `story` and `drain` |
| `VOXRAY_HOME` | folder for run files and built programs (default `~/.voxray`) |
| `RUST_LOG` | what the native WebRTC runtime of a session host prints (default: errors) |
| `LIVEKIT_RTC_DEBUG` | `1`: all records of that runtime go through the logs, which costs much CPU |
| `VOXRAY_LIVEKIT_SERVER` | the livekit-server program that `voxray demo` starts |
"""


def render() -> str:
    """Return the page's text."""
    common = "".join(
        f"- `{variable}`: `{'.'.join(place)}`\n" for variable, place in COMMON_VARIABLES.items()
    )
    sections = [_section("Top level", "", Settings)]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections.append(_section(f"`{name}`", f"{name}.", field.annotation))
            if name == "inference":
                title = "`inference.groups`, each group"
                sections.append(_section(title, "inference.groups[].", ReplicaGroupSettings))
                sections.append(_section("`inference.tls`", "inference.tls.", TlsSettings))
    return _HEAD + common + "\n" + "\n".join(sections) + "\n" + _EXAMPLE


def _section(title: str, prefix: str, model: type[BaseModel]) -> str:
    doc = inspect.getdoc(model) or ""
    summary = doc.partition("\n")[0]
    meanings = dict(_meanings(doc))
    schema = model.model_json_schema()["properties"]
    lines = [f"## {title}\n", f"{summary}\n", "| setting | values | default | meaning |"]
    lines.append("| --- | --- | --- | --- |")
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        default = (
            "required"
            if field.is_required()
            else _shown(field.get_default(call_default_factory=True))
        )
        values = _values(schema[name])
        lines.append(f"| `{prefix}{name}` | {values} | {default} | {meanings[name]} |")
    return "\n".join(lines) + "\n"


def _meanings(doc: str) -> Iterator[tuple[str, str]]:
    """Read the fields' meanings from the `Attributes:` of a docstring."""
    _, _, attributes = doc.partition("Attributes:\n")
    for entry in re.split(r"\n(?=    \w+: )", attributes.rstrip()):
        name, _, meaning = entry.strip().partition(": ")
        yield name, " ".join(meaning.split()).replace("|", "\\|").rstrip(".")


def _values(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind = {
        "array": "list",
        "integer": "whole number",
        "boolean": "true, false",
        "object": "mapping",
    }.get(schema.get("type", ""), schema.get("type", ""))
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "minItems": "at least {} entry",
        "pattern": "like `{}`",
    }
    limits = [text.format(_number(schema[key])) for key, text in words.items() if key in schema]
    return " ".join([kind, *limits]).replace("|", "\\|")


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(default: object) -> str:
    if isinstance(default, SecretStr) or default in ("", None, {}):
        return "none"
    if isinstance(default, tuple):
        return ", ".join(
            f"one group `{each.name}` with {', '.join(each.engines)}"
            if isinstance(each, ReplicaGroupSettings)
            else str(each)
            for each in default
        )
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == render() else 1)
    PAGE.write_text(render(), encoding="utf-8")
