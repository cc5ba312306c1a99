"""The options of a stream, as they travel."""

import json
from collections.abc import Mapping
from typing import Any

from voxray.base.errors import ProtocolError


def read_json_options(text: str) -> Mapping[str, Any]:
    """Return the options in a JSON object; no text means none.

    Raises:
        ProtocolError: it is no JSON, or no object.
    """
    try:
        options = json.loads(text, parse_constant=_no_number) if text else {}
    except (ValueError, RecursionError) as error:
        raise ProtocolError("got options that are no JSON") from error
    if not isinstance(options, dict):
        raise ProtocolError(f"got options that are no JSON object but {type(options).__name__}")
    return options


def _no_number(text: str) -> None:
    # Python reads NaN and the infinities, JSON has none of them, and no engine wants one.
    raise ValueError(f"{text} is no JSON")
