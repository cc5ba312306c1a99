#!/bin/sh
# Print a Python that voxray can be set up with, or say in one line what is missing.
# $PYTHON, if set, is the only one tried.

works='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
complete='import ensurepip, venv'
without_venv=

for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
  if "$candidate" -c "$works" >/dev/null 2>&1; then
    if "$candidate" -c "$complete" >/dev/null 2>&1; then
      command -v "$candidate"
      exit 0
    fi
    without_venv=${without_venv:-$candidate}
  fi
done

if [ -n "$without_venv" ]; then
  echo "voxray: error: $without_venv has no venv module: install it" \
    "(Debian, Ubuntu: python3-venv), or name another one: make PYTHON=/path/to/python" >&2
elif [ -n "$PYTHON" ]; then
  echo "voxray: error: PYTHON=$PYTHON is not a Python from 3.11 to 3.13 that runs here" >&2
else
  echo "voxray: error: found no Python from 3.11 to 3.13: install one," \
    "or name it: make PYTHON=/path/to/python" >&2
fi
exit 2
