import fcntl
import threading

import pytest

from voxray.base.errors import MissingPartError
from voxray.loadtest import livekit_binary as module
from voxray.loadtest.livekit_binary import find_or_install, go_version, server_version

SERVER = "#!/bin/sh\necho livekit-server version 1.13.5\n"
# Stands in for the Go client: "builds" a server, and leaves word of how it was asked.
GO = f"""#!/bin/sh
if [ "$1" = version ]; then echo go version go1.26.8 linux/amd64; exit 0; fi
echo go: downloading github.com/pion/ice v4
echo "$@ CGO=$CGO_ENABLED GOOS=$GOOS GOFLAGS=$GOFLAGS" >> "$ASKED"
cat > "$GOBIN/server" <<'END'
{SERVER}END
chmod +x "$GOBIN/server"
"""


@pytest.fixture
def path(tmp_path):
    """A PATH with the shell's own tools and a folder of the test's."""
    folder = tmp_path / "path"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(path, tmp_path):
    return {"PATH": str(path), "HOME": str(tmp_path), "ASKED": str(tmp_path / "asked")}


def put(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def with_shell(environment):
    return environment | {"PATH": f"{environment['PATH']}:/usr/bin:/bin"}


def test_the_named_file_comes_first(path, tmp_path, environment):
    put(path / "livekit-server", SERVER)
    named = put(tmp_path / "mine", SERVER)
    environment["VOXRAY_LIVEKIT_SERVER"] = str(named)
    assert find_or_install(tmp_path / "home", environment=environment) == named


@pytest.mark.parametrize("text", ["#!/bin/sh\necho hello\n", "#!/bin/sh\nexit 3\n", None])
def test_a_named_file_that_is_no_server_is_an_error(text, tmp_path, environment):
    named = tmp_path / "mine"
    if text:
        put(named, text)
    environment["VOXRAY_LIVEKIT_SERVER"] = str(named)
    with pytest.raises(MissingPartError, match=r"VOXRAY_LIVEKIT_SERVER=.*mine is no livekit"):
        find_or_install(tmp_path / "home", environment=environment)


def test_the_path_comes_before_what_was_built(path, tmp_path, environment):
    put(tmp_path / "home/bin/livekit-server-1.13.5", SERVER)
    on_path = put(path / "livekit-server", SERVER)
    assert find_or_install(tmp_path / "home", environment=environment) == on_path


def test_one_on_the_path_that_does_not_run_is_passed_over(path, tmp_path, environment):
    put(path / "livekit-server", "#!/bin/sh\nexit 1\n")
    built = put(tmp_path / "home/bin/livekit-server-1.13.5", SERVER)
    assert find_or_install(tmp_path / "home", environment=environment) == built


def test_builds_once_with_go(path, tmp_path, environment):
    put(path / "go", GO)
    home, said = tmp_path / "home", []
    odd = with_shell(environment) | {"GOOS": "plan9", "GOFLAGS": "-mod=vendor"}
    first = find_or_install(home, environment=odd, progress=said.append)
    assert first == home / "bin/livekit-server-1.13.5"
    assert server_version(first) == "1.13.5"
    assert [entry.name for entry in first.parent.iterdir() if entry.name != ".lock"] == [first.name]
    assert said[0].startswith("building livekit-server 1.13.5")
    assert said[-1].endswith("is built")
    (path / "go").unlink()
    assert find_or_install(home, environment=with_shell(environment)) == first
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        "install -v github.com/livekit/livekit-server/cmd/server@v1.13.5 CGO=0 GOOS= GOFLAGS="
    ]


def test_two_at_once_build_once(path, tmp_path, environment):
    put(path / "go", GO)
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    waiting, results = threading.Event(), []

    def second():
        def say(line):
            if "another process" in line:
                waiting.set()

        results.append(find_or_install(home, environment=with_shell(environment), progress=say))

    with (home / "bin/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        put(home / "bin/livekit-server-1.13.5", SERVER)
    thread.join(10)
    assert results == [home / "bin/livekit-server-1.13.5"]
    assert not (tmp_path / "asked").exists()


def test_a_failed_build_says_why_and_leaves_nothing(path, tmp_path, environment):
    put(path / "go", GO.replace("echo go: downloading", "echo no route to proxy; exit 1 #"))
    home = tmp_path / "home"
    with pytest.raises(MissingPartError, match="could not be built: no route to proxy; put live"):
        find_or_install(home, environment=with_shell(environment))
    assert [entry.name for entry in (home / "bin").iterdir()] == [".lock"]


def test_a_build_past_its_deadline_is_ended(path, tmp_path, environment, monkeypatch):
    put(path / "go", GO.replace("echo go: downloading", "sleep 600 #"))
    monkeypatch.setattr(module, "_BUILD_DEADLINE_S", 0.2)
    monkeypatch.setattr(module, "_PROGRESS_EVERY_S", 0.1)
    said = []
    with pytest.raises(MissingPartError, match="ended with status -9"):
        find_or_install(
            tmp_path / "home", environment=with_shell(environment), progress=said.append
        )
    assert any("modules loaded" in line for line in said)


def test_neither_server_nor_go(tmp_path, environment):
    with pytest.raises(MissingPartError) as caught:
        find_or_install(tmp_path / "home", environment=environment)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("livekit-server on the PATH", "VOXRAY_LIVEKIT_SERVER", "Go 1.26"):
        assert part in message
    assert caught.value.exit_code == 2


def test_an_old_go(path, tmp_path, environment):
    put(path / "go", "#!/bin/sh\necho go version go1.22.1 linux/amd64\n")
    with pytest.raises(MissingPartError, match=r"go is too old to build it \(version 1\.22\)"):
        find_or_install(tmp_path / "home", environment=environment)


def test_a_home_that_can_t_be_made(path, tmp_path, environment):
    put(path / "go", GO)
    (tmp_path / "home").write_text("a file")
    with pytest.raises(MissingPartError, match=r"can't be built into .*home/bin"):
        find_or_install(tmp_path / "home", environment=with_shell(environment))


def test_versions(tmp_path):
    assert go_version(put(tmp_path / "go", "#!/bin/sh\necho what\n")) is None
    assert go_version(tmp_path / "none") is None
    assert server_version(put(tmp_path / "s", SERVER)) == "1.13.5"
