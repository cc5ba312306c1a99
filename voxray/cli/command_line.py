"""Keeps secrets off the command line, which every user of the machine and Ray's dashboard see."""

import os
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlparse

# Each flag, and the variable that says the same.
_VARIABLES: Mapping[str, str] = {
    "--api-secret": "LIVEKIT_API_SECRET",
    "--api-key": "LIVEKIT_API_KEY",
    "--api": "VOXRAY_API",
}


def without_secrets(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments without those that carry a secret, and the variables in their place."""
    kept: list[str] = []
    variables: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            kept.append(argument)
            break
        flag, equals, value = argument.partition("=")
        if flag not in _VARIABLES:
            kept.append(argument)
            continue
        given = value if equals else next(rest, None)
        if given is None:
            kept.append(argument)
        elif flag == "--api" and not _carries_token(given):
            kept.extend([argument] if equals else [argument, given])
        else:
            variables[_VARIABLES[flag]] = given
    return [*kept, *rest], variables


def hide_secrets() -> None:
    """Begin this process anew without secrets in its arguments, if there are any.

    Their variables are seen by this user alone, and mean the same to every command.
    """
    arguments = sys.argv[1:]
    kept, variables = without_secrets(arguments)
    before = len(sys.orig_argv) - len(arguments)
    if not variables or sys.orig_argv[before:] != arguments:
        return
    environment = {**os.environ, **variables}
    for name in variables:
        # It would be heeded before the plain one.
        environment.pop(name.replace("LIVEKIT_", "VOXRAY_LIVEKIT__", 1), None)
    interpreter = sys.orig_argv[1:before]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *interpreter, *kept], environment)  # noqa: S606 - our own command line


def _carries_token(address: str) -> bool:
    try:
        return bool(urlparse(address).password)
    except ValueError:
        return False
