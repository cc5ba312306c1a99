"""Holds the architecture: who may import whom, who may touch what, and how large a module may be.

Every rule is a function from a module to its faults, and is proved by modules that break it.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
# Each layer may import itself and what stands after it.
LAYERS = ("cli", "loadtest", "dispatcher", "actors", "pipelines", "observability", "base")
TOP_FOLDERS = LAYERS[1:6]
LARGEST_MODULE = 350
GENERATED = ("_pb2.py", "_pb2_grpc.py")
# Loads the user's program; used by what runs it, and by the command line.
APP_USERS = ("actors", "cli")
# Where Ray is touched: the two shells, the dispatcher's own, the fleet, and the command line.
RAY_MODULES = (
    "actors/session_actor.py",
    "actors/inference_actor.py",
    "dispatcher/ray_errors.py",
    "dispatcher/ray_actors.py",
    "dispatcher/ray_fleet.py",
    "dispatcher/ray_replicas.py",
    "dispatcher/dispatcher_actor.py",
)
# The modules that may use private names: of livekit-agents the first two, of livekit.rtc the last.
LIVEKIT_PRIVATE = (
    "actors/livekit_compat.py",
    "actors/livekit_cli_compat.py",
    "actors/livekit_options.py",
    "actors/rtc_compat.py",
)
# Private by its spelling only: what a RecognizeStream's input channel carries at a flush. Every STT
# plugin of livekit-agents uses it.
LIVEKIT_PLUGIN_NAMES = ("_FlushSentinel",)
# Where the environment is read, beside the command line.
ENVIRONMENT_MODULES = (
    "base/settings.py",
    # Ray pins a replica to its GPU by a variable of the process.
    "actors/inference_actor.py",
    # Gives the program its environment before it is imported, and asks for livekit-agents' own
    # switch of what spans may hold.
    "actors/host_process.py",
    # Gives the engines of third parties theirs.
    "actors/inference_host.py",
    # Asked by the program, when it makes a session: TURN_DETECTION_* and OpenAI's.
    "pipelines/plugins/pipeline.py",
    # Starts foreign programs (Go, livekit-server), which take our environment over.
    "loadtest/livekit_binary.py",
    "loadtest/child_process.py",
)


@dataclass(frozen=True)
class Module:
    """A module of the package: its path inside `voxray/`, and its source."""

    path: str
    source: str

    @property
    def layer(self) -> str:
        """The folder that it is in; empty for `voxray/` itself."""
        return self.path.partition("/")[0] if "/" in self.path else ""

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)


@dataclass(frozen=True)
class Imported:
    """A name that a module imports, `voxray.base.ids.JobId`, and where."""

    name: str
    line: int


def imports(module: Module) -> Iterator[Imported]:
    """Yield every import, those inside functions and under TYPE_CHECKING too."""
    package = ["voxray", *module.path.split("/")[:-1]]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Imported(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Imported(f"{origin}.{alias.name}", node.lineno)


def wrong_direction(module: Module) -> Iterator[str]:
    """Imports go down the layers only."""
    if module.path in ("__init__.py", "__main__.py"):
        return  # The one exports names of every layer, lazily; the other is the command line.
    for each in imports(module):
        parts = each.name.split(".")
        if parts[0] != "voxray" or len(parts) == 1:
            continue
        target = parts[1]
        if target == "app":
            if module.layer not in APP_USERS and module.path != "app.py":
                yield f"line {each.line}: {each.name}: only {APP_USERS} may load programs"
        elif module.path == "app.py":
            # It reads a program into what actors/contracts.py describes.
            if target not in ("actors", "base"):
                yield f"line {each.line}: {each.name}: app.py stands beside actors"
        elif target not in LAYERS:
            yield f"line {each.line}: {each.name} is in no layer"
        elif module.layer not in LAYERS or LAYERS.index(target) < LAYERS.index(module.layer):
            yield f"line {each.line}: {module.layer} may not import {each.name}"


def bare_names(module: Module) -> Iterator[str]:
    """Our folders are imported as part of `voxray`: the bare name may be a user's package."""
    for each in imports(module):
        if each.name.split(".")[0] in TOP_FOLDERS:
            yield f"line {each.line}: {each.name} must be voxray.{each.name}"


def ray_outside_its_edge(module: Module) -> Iterator[str]:
    """Ray is imported where actors are started and called, nowhere else."""
    if module.path in RAY_MODULES or module.layer == "cli":
        return
    for each in imports(module):
        if each.name.split(".")[0] == "ray":
            yield f"line {each.line}: imports {each.name}"


def livekit_private_names(module: Module) -> Iterator[str]:
    """LiveKit's private modules and names are used in one place."""
    if module.path in LIVEKIT_PRIVATE:
        return
    for each in imports(module):
        parts = each.name.split(".")
        if parts[0] == "livekit" and any(_private(part) for part in parts):
            yield f"line {each.line}: imports {each.name}"
    aliases = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "livekit")
        or (isinstance(node, ast.Import) and alias.name.split(".")[0] == "livekit")
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and _private(node.attr):
            if node.attr in LIVEKIT_PLUGIN_NAMES:
                continue
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in aliases:
                yield f"line {node.lineno}: uses {ast.unparse(node)}"


def environment_reads(module: Module) -> Iterator[str]:
    """Settings come in as parameters; the environment is read in few places."""
    if module.path in ENVIRONMENT_MODULES or module.layer == "cli":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"):
            if isinstance(node.value, ast.Name) and node.value.id == "os":
                yield f"line {node.lineno}: uses os.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            names = {alias.name for alias in node.names} & {"environ", "environb", "getenv"}
            yield from (f"line {node.lineno}: imports os.{name}" for name in sorted(names))


def too_large(module: Module) -> Iterator[str]:
    """A module has one idea and is read in one go."""
    lines = module.source.count("\n")
    if lines > LARGEST_MODULE:
        yield f"{lines} lines, more than {LARGEST_MODULE}"


def no_docstring(module: Module) -> Iterator[str]:
    """A module says in its first line what it owns."""
    first = (ast.get_docstring(module.tree) or "").partition("\n")[0]
    if not first.endswith((".", "?", ":")) or len(first) > 100:
        yield "its docstring must begin with one whole line"


RULES: tuple[Callable[[Module], Iterator[str]], ...] = (
    wrong_direction,
    bare_names,
    ray_outside_its_edge,
    livekit_private_names,
    environment_reads,
    too_large,
    no_docstring,
)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _modules() -> list[Module]:
    """Return every module of the package, links followed, generated code left out."""
    package = PROJECT / "voxray"
    folders = [package, *(package / layer for layer in LAYERS)]
    files = {
        file
        for folder in folders
        for file in (folder.glob("*.py") if folder == package else folder.rglob("*.py"))
        if not file.name.endswith(GENERATED)
    }
    return [
        Module(str(file.relative_to(package)), file.read_text(encoding="utf-8"))
        for file in sorted(files)
    ]


MODULES = _modules()


def test_every_layer_is_looked_at():
    assert {module.layer for module in MODULES} == {"", *LAYERS}
    assert set(RAY_MODULES) - {module.path for module in MODULES} == set()
    assert set(LIVEKIT_PRIVATE) - {module.path for module in MODULES} == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule):
    faults = [f"voxray/{module.path}: {fault}" for module in MODULES for fault in rule(module)]
    assert not faults, "\n".join(faults)


DOC = '"""What it owns."""\n'
BROKEN = [
    (wrong_direction, "base/x.py", "import voxray.observability.events"),
    (wrong_direction, "observability/x.py", "from voxray.pipelines import audio"),
    (wrong_direction, "pipelines/engines/x.py", "from voxray.actors.contracts import Endpoint"),
    (wrong_direction, "actors/x.py", "from ..dispatcher import core"),
    (wrong_direction, "dispatcher/x.py", "def f():\n    from voxray.loadtest import report"),
    (wrong_direction, "dispatcher/x.py", "from voxray import loadtest"),
    (wrong_direction, "loadtest/x.py", "import voxray.cli.main"),
    (
        wrong_direction,
        "base/x.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from voxray.actors import a",
    ),
    (wrong_direction, "dispatcher/x.py", "from voxray.app import load_program"),
    (wrong_direction, "app.py", "from voxray.dispatcher import core"),
    (wrong_direction, "actors/x.py", "from voxray.elsewhere import thing"),
    (bare_names, "cli/x.py", "import dispatcher.core"),
    (bare_names, "cli/x.py", "from actors import contracts"),
    (bare_names, "actors/x.py", "def f():\n    import pipelines"),
    (ray_outside_its_edge, "dispatcher/core.py", "import ray"),
    (ray_outside_its_edge, "actors/session_host.py", "def f():\n    from ray.util import state"),
    (ray_outside_its_edge, "app.py", "import ray.exceptions as errors"),
    (livekit_private_names, "actors/x.py", "from livekit.agents.ipc import _x"),
    (livekit_private_names, "actors/x.py", "from livekit.rtc._ffi_client import FfiClient"),
    (livekit_private_names, "actors/x.py", "from livekit import rtc\nrtc.Room._listen"),
    (livekit_private_names, "cli/x.py", "import livekit.rtc\nlivekit.rtc._proto.room"),
    (livekit_private_names, "cli/x.py", "from livekit import rtc as r\nr.a._b.c"),
    (environment_reads, "pipelines/x.py", "import os\nos.environ['A']"),
    (environment_reads, "actors/x.py", "import os\ndef f():\n    return os.getenv('A')"),
    (environment_reads, "dispatcher/x.py", "from os import environ"),
    (environment_reads, "app.py", "from os import path, getenv"),
    (too_large, "actors/x.py", "x = 1\n" * 350),
    (no_docstring, "actors/x.py", None),
    (no_docstring, "actors/x.py", '"""not a sentence"""'),
]


@pytest.mark.parametrize(("rule", "path", "code"), BROKEN)
def test_a_rule_sees_what_breaks_it(rule, path, code):
    source = "x = 1\n" if code is None else code if code.startswith('"""') else DOC + code
    assert list(rule(Module(path, source)))


KEPT = [
    (wrong_direction, "__init__.py", "from voxray.pipelines import plugins"),
    (wrong_direction, "cli/x.py", "from voxray.app import load_program\nimport voxray"),
    (wrong_direction, "actors/x.py", "from voxray.app import load_program"),
    (wrong_direction, "app.py", "from voxray.actors.contracts import ProgramInfo"),
    (wrong_direction, "dispatcher/x.py", "from . import core\nfrom ..base import ids"),
    (bare_names, "actors/x.py", "from voxray.pipelines import audio\nimport pipelinesque"),
    (ray_outside_its_edge, "dispatcher/ray_fleet.py", "import ray"),
    (ray_outside_its_edge, "dispatcher/x.py", "import raylet_like"),
    (livekit_private_names, "actors/livekit_compat.py", "from livekit.agents.ipc import _x"),
    (livekit_private_names, "pipelines/x.py", "from livekit import a\na.B._FlushSentinel"),
    (livekit_private_names, "actors/x.py", "from livekit import rtc\nself._rtc = rtc.__name__"),
    (environment_reads, "base/settings.py", "import os\nos.environ['A']"),
    (environment_reads, "actors/x.py", "def f(os):\n    return environ"),
    (too_large, "actors/x.py", "x = 1\n" * 348),
    (no_docstring, "actors/x.py", "x = 1"),
]


@pytest.mark.parametrize(("rule", "path", "code"), KEPT)
def test_a_rule_lets_pass_what_keeps_it(rule, path, code):
    assert not list(rule(Module(path, DOC + code)))
