"""Has livekit-server ready before the tests start: building it takes longer than a test may."""

import os
import sys

from voxray.base.errors import VoxrayError
from voxray.cli.home import build_home
from voxray.loadtest.livekit_server import find_or_install


def main() -> int:
    """Find or build the server; return the exit status."""
    try:
        program = find_or_install(build_home(os.environ), progress=_say)
    except VoxrayError as error:
        _say(f"voxray: error: {error}")
        return error.exit_code
    _say(f"livekit-server: {program}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
