"""Makes the Python code of the gRPC contract; `--check` only says whether it is current."""

import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
# Below the package's name, so that the generated modules import each other as `voxray...`.
WIRE = Path("voxray/pipelines/wire")
PROTO = WIRE / "inference.proto"
GENERATED = ("inference_pb2.py", "inference_pb2.pyi", "inference_pb2_grpc.py")


def generate(target: Path) -> None:
    """Write the generated modules below `target`, in the folders of the package.

    Raises:
        RuntimeError: the compiler refused the contract; it has said why on standard error.
    """
    (target / WIRE).mkdir(parents=True, exist_ok=True)
    arguments = [
        "protoc",
        f"--proto_path={ROOT}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        str(ROOT / PROTO),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc could not compile {PROTO}")


def stale() -> list[str]:
    """Return the generated files that differ from what the contract gives now."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        _, differ, missing = filecmp.cmpfiles(
            Path(folder) / WIRE, ROOT / WIRE, GENERATED, shallow=False
        )
    return sorted([*differ, *missing])


def main() -> int:
    """Generate or check; return the exit code."""
    if "--check" in sys.argv[1:]:
        if old := stale():
            print(f"not current: {', '.join(old)}; run python scripts/gen_proto.py")
            return 1
        return 0
    generate(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
