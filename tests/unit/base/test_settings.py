import contextlib
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from voxray.base.errors import ConfigError
from voxray.base.settings import HostSettings, LiveKitSettings, Settings, load_settings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder without a `voxray.yaml`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, text, name="voxray.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_the_defaults_are_valid_and_complete():
    settings = load_settings({})
    assert settings == Settings()
    assert settings.hosts.sessions_per_host == 12
    assert settings.inference.groups[0].engines == ("silero", "pocketsphinx", "espeak")


def test_flags_over_environment_over_file_over_defaults(folder):
    write(
        folder,
        "app: file\n"
        "http: {port: 1, host: 0.0.0.0}\n"
        "hosts: {sessions_per_host: 1, min_hosts: 2, cpus: 1}\n",
    )
    environment = {
        "VOXRAY_HTTP__PORT": "2",
        "VOXRAY_HOSTS__SESSIONS_PER_HOST": "2",
        "VOXRAY_HOSTS__MIN_HOSTS": "3",
    }
    settings = load_settings(
        environment, flags={"hosts": {"sessions_per_host": 3, "min_hosts": None}, "app": None}
    )
    assert settings.hosts.sessions_per_host == 3  # flag
    assert settings.hosts.min_hosts == 3  # environment: a flag of None was not given
    assert settings.http.port == 2  # environment
    assert settings.http.host == "0.0.0.0"  # file, beside it in the same section
    assert settings.app == "file"
    assert settings.hosts.placement == "pack"  # default


def test_a_named_file_is_read_instead(folder):
    write(folder, "app: here\n")
    other = write(folder, "app: there\n", "other.yaml")
    assert load_settings({}, file=other).app == "there"
    assert load_settings({}).app == "here"


def test_an_empty_file_changes_nothing(folder):
    write(folder, "# nothing yet\n")
    assert load_settings({}) == Settings()


def test_the_variables_of_other_tools():
    settings = load_settings(
        {
            "LIVEKIT_URL": "wss://example.livekit.cloud",
            "LIVEKIT_API_KEY": "key",
            "LIVEKIT_API_SECRET": "secret",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
            "LIVEKIT_SOMETHING": "else",
            "PATH": "/bin",
        }
    )
    assert settings.livekit.url == "wss://example.livekit.cloud"
    assert settings.livekit.api_key == "key"
    assert settings.livekit.api_secret.get_secret_value() == "secret"
    assert settings.telemetry.otlp_endpoint == "http://127.0.0.1:4317"


def test_empty_variables_count_as_unset(folder):
    write(folder, "livekit: {url: 'ws://file:7880'}\n")
    settings = load_settings({"LIVEKIT_URL": "", "VOXRAY_HTTP__PORT": ""})
    assert settings.livekit.url == "ws://file:7880"
    assert settings.http.port == 8081


def test_variables_that_are_no_settings_are_left_alone():
    assert (
        load_settings(
            {"VOXRAY_API": "http://a", "VOXRAY_HOME": "/h", "VOXRAY_LIVEKIT_SERVER": "/s"}
        )
        == Settings()
    )


def test_lists_in_variables_are_json():
    settings = load_settings(
        {"VOXRAY_INFERENCE__GROUPS": '[{"name": "ears", "engines": ["silero"], "gpus": 0}]'}
    )
    (group,) = settings.inference.groups
    assert (group.name, group.engines, group.gpus) == ("ears", ("silero",), 0)


def message_of(environment, **kwargs):
    with pytest.raises(ConfigError) as caught:
        load_settings(environment, **kwargs)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        ("app", "Not A Name", "pattern"),
        ("app", "-dash", "pattern"),
        ("app", "a" * 41, "pattern"),
        ("drain_timeout_s", 0, "greater than 0"),
        ("drain_timeout_s", 86_401, "less than or equal to 86400"),
        ("livekit.url", "localhost:7880", "ws://host:7880"),
        ("livekit.url", "ws://", "ws://host:7880"),
        ("livekit.max_retry", -1, "greater than or equal to 0"),
        ("hosts.sessions_per_host", 0, "greater than or equal to 1"),
        ("hosts.sessions_per_host", 1001, "less than or equal to 1000"),
        ("hosts.sessions_per_host", "many", "valid integer"),
        ("hosts.min_hosts", 0, "greater than or equal to 1"),
        ("hosts.max_hosts", 0, "greater than or equal to 1"),
        ("hosts.idle_hosts", -1, "greater than or equal to 0"),
        ("hosts.placement", "random", "'pack' or 'spread'"),
        ("hosts.cpus", 0, "greater than 0"),
        ("hosts.heartbeat_s", -1, "greater than 0"),
        ("hosts.lease_s", "soon", "valid number"),
        ("inference.coalesce_ms", 101, "less than or equal to 100"),
        ("http.port", 65536, "less than or equal to 65535"),
        ("http.port", -1, "greater than or equal to 0"),
        ("http.metrics_ports", "9000", "pattern"),
        ("http.metrics_ports", "9010-9000", ": must be first-last"),
        ("http.metrics_ports", "9000-99999", ": must be first-last"),
        ("http.metrics_ports", "0-5", ": must be first-last"),
        ("telemetry.log_level", "LOUD", "'TRACE'"),
        ("telemetry.log_format", "xml", "'colored' or 'json'"),
        ("telemetry.otlp_protocol", "carrier-pigeon", "'grpc' or 'http/protobuf'"),
        ("ray.dashboard", "perhaps", "valid boolean"),
        ("ray.logical_gpus", -1, "greater than or equal to 0"),
        ("nothing", 1, "unknown setting"),
        ("hosts.nothing", 1, "unknown setting"),
    ],
)
def test_bad_values_are_named_with_their_place_and_source(folder, place, value, fault):
    keys = place.split(".")
    nested = value
    for key in reversed(keys):
        nested = {key: nested}
    by_flag = message_of({}, flags=nested)
    assert by_flag.startswith(f"command line: {place}: ")
    assert fault in by_flag
    variable = "VOXRAY_" + "__".join(keys).upper()
    by_variable = message_of({variable: str(value)})
    assert by_variable.startswith(f"{variable}: {place}: ")
    assert fault in by_variable
    path = write(folder, f"{{{': {'.join(keys)}: {value!r}{'}' * len(keys)}\n")
    by_file = message_of({}, file=path)
    assert by_file.startswith(f"{path}: {place}: ")
    assert fault in by_file


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"MIN_HOSTS": "5"}, "min_hosts is above max_hosts"),
        ({"MAX_HOSTS": "2", "MIN_HOSTS": "3"}, "min_hosts is above max_hosts"),
        ({"HEARTBEAT_S": "2"}, "heartbeat_s is not below lease_s"),
        ({"LEASE_S": "0.1"}, "heartbeat_s is not below lease_s"),
        ({"TENANT_LIMIT": "1"}, "a limit of tenants needs tenant_key"),
        ({"TENANT_LIMITS": '{"big": 5}'}, "a limit of tenants needs tenant_key"),
    ],
)
def test_settings_that_do_not_fit_together_are_named(folder, fields, fault):
    variables = {f"VOXRAY_HOSTS__{name}": value for name, value in fields.items()}
    message = message_of(variables)
    assert message.startswith(f"{', '.join(sorted(variables))}: hosts: "), message
    assert fault in message
    lines = "".join(f"  {name.lower()}: {value}\n" for name, value in fields.items())
    path = write(folder, f"hosts:\n{lines}")
    assert message_of({}, file=path).startswith(f"{path}: hosts: {fault}")


def test_settings_that_fit_together():
    limits = {"tenant_key": "t", "tenant_limit": 0, "tenant_limits": {"big": 5}}
    flags = {"min_hosts": 4, "max_hosts": 4, "heartbeat_s": 0.5, "lease_s": 0.6, **limits}
    assert load_settings({}, flags={"hosts": flags}).hosts.max_hosts == 4
    for ports in ("1-65535", "9000-9000", ""):
        assert load_settings({}, flags={"http": {"metrics_ports": ports}}).http.host


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"isolation": "process"}, False),
        ({"sessions_per_host": 3}, False),
        ({"heartbeat_s": 5.0, "lease_s": 20.0}, False),
        ({"block_report_s": 0.0}, False),
        ({"max_hosts": 9, "placement": "spread", "lease_s": 9.0, "tenant_key": "t"}, True),
    ],
)
def test_a_host_is_told_from_one_of_other_settings(fields, same):
    """What runs is taken over only if a new one would be the same."""
    other = Settings(hosts=HostSettings(**fields))
    assert (other.for_actors() == Settings().for_actors()) is same


def test_every_fault_is_named_at_once(folder):
    write(folder, "http: {port: 70000}\n")
    message = message_of({"VOXRAY_HOSTS__CPUS": "-1"}, flags={"app": "NO"})
    assert "voxray.yaml: http.port: " in message
    assert "VOXRAY_HOSTS__CPUS: hosts.cpus: " in message
    assert "command line: app: " in message
    assert "\n" not in message


def test_a_fault_inside_a_list_is_named(folder):
    write(folder, "inference:\n  groups:\n  - {name: a, engines: [silero], gpus: -1}\n")
    assert "voxray.yaml: inference.groups.0.gpus: " in message_of({})


def test_replica_groups_need_engines_and_names_of_their_own(folder):
    write(folder, "inference: {groups: [{name: a, engines: []}]}\n")
    assert "inference.groups.0.engines: " in message_of({})
    write(folder, "inference: {groups: [{name: a, engines: [x]}, {name: a, engines: [y]}]}\n")
    assert "found twice: a" in message_of({})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [1, 2\n", "voxray.yaml:2:1: is not valid YAML"),
        ("a: b: c\n", "voxray.yaml:1:5: is not valid YAML"),
        ("- 1\n- 2\n", "must hold a mapping of settings, not list"),
        ("just words\n", "must hold a mapping of settings, not str"),
        ("hosts: 3\n", "voxray.yaml: hosts: "),
        ("!!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    ],
)
def test_a_broken_file_is_named_with_its_place(folder, text, fault):
    write(folder, text)
    assert fault in message_of({})


def test_unreadable_files(folder):
    assert "can't be read: No such file" in message_of({}, file=folder / "none.yaml")
    assert "can't be read: Is a directory" in message_of({}, file=folder)
    (folder / "voxray.yaml").write_bytes(b"\xff\xfe\xff")
    assert "is not UTF-8 text" in message_of({})


def test_a_variable_for_a_section_and_one_inside_it():
    message = message_of({"VOXRAY_HTTP": "x", "VOXRAY_HTTP__PORT": "1"})
    assert message.startswith("VOXRAY_HTTP__PORT: http is set as a single value")


def test_the_secret_is_never_shown():
    secret = "do-not-show-this-to-anybody"
    environment = {"LIVEKIT_API_SECRET": secret}
    settings = load_settings(environment)
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert secret not in text
    assert secret not in message_of(environment | {"VOXRAY_HTTP__PORT": "x"})
    assert secret not in message_of({"VOXRAY_LIVEKIT": f'{{"api_secret": ["{secret}"]}}'})
    assert secret not in message_of({"VOXRAY_LIVEKIT": secret})


def test_missing_livekit_values_are_named_with_how_to_give_them():
    with pytest.raises(ConfigError) as caught:
        load_settings({"LIVEKIT_API_KEY": "key"}).livekit.require_complete()
    message = str(caught.value)
    assert "LIVEKIT_URL (or --url)" in message
    assert "LIVEKIT_API_SECRET (or --api-secret)" in message
    assert "LIVEKIT_API_KEY" not in message
    LiveKitSettings(url="ws://a:1", api_key="k", api_secret="s").require_complete()


def test_settings_can_t_be_changed_and_travel_between_processes():
    settings = load_settings({"LIVEKIT_API_SECRET": "s"})
    with pytest.raises(ValidationError, match="frozen"):
        settings.app = "other"
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.livekit.api_secret.get_secret_value() == "s"


texts = st.text(max_size=20)


@given(
    environment=st.dictionaries(
        st.sampled_from(
            [
                "VOXRAY_APP",
                "VOXRAY_HTTP__PORT",
                "VOXRAY_HOSTS",
                "VOXRAY___",
                "VOXRAY_",
                "VOXRAY_A__B",
            ]
        ),
        texts,
    )
)
def test_no_environment_ends_in_anything_but_settings_or_a_config_error(environment):
    with contextlib.suppress(ConfigError):
        assert isinstance(load_settings(environment), Settings)


def test_an_engines_settings_go_with_a_group_that_hosts_it():
    group = {"name": "voice", "engines": ["piper"], "engine_settings": {"piper": {"voices": ["a"]}}}
    environment = {"VOXRAY_INFERENCE__GROUPS": json.dumps([group])}
    settings = load_settings(environment)
    assert settings.inference.groups[0].engine_settings == {"piper": {"voices": ["a"]}}
    group["engine_settings"]["espeak"] = {}
    environment = {"VOXRAY_INFERENCE__GROUPS": json.dumps([group])}
    with pytest.raises(ConfigError, match="engine_settings of espeak, which the group does not"):
        load_settings(environment)
