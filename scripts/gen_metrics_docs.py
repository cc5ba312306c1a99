"""Makes docs/metrics.md from the metrics catalogue; `--check` only says whether it is current."""

import sys
from pathlib import Path

from voxray.observability.catalogue import CATALOGUE

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

_HEAD = """\
# Metrics

Made from `observability/catalogue.py` by `scripts/gen_metrics_docs.py`; do not edit.

Every process serves its own `/metrics`; the dispatcher lists them all at `/sd` for Prometheus's
HTTP service discovery. All durations are in seconds. No label holds a job, a room, an identity or
a process id.

| metric | kind | labels | process | meaning |
| --- | --- | --- | --- | --- |
"""


def render() -> str:
    """Return the page's text."""
    rows = [
        f"| `{spec.name}` | {spec.kind} | {', '.join(spec.labels) or '-'} | {spec.role} "
        f"| {spec.help} |"
        for spec in CATALOGUE
    ]
    buckets = [
        f"- `{spec.name}`: {', '.join(f'{bound:g}' for bound in spec.buckets)}"
        for spec in CATALOGUE
        if spec.buckets
    ]
    return _HEAD + "\n".join(rows) + "\n\n## Buckets\n\n" + "\n".join(buckets) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == render() else 1)
    PAGE.write_text(render(), encoding="utf-8")
