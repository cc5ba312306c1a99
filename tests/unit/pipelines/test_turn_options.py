"""The end-of-turn settings: where they come from, what they become, and what is refused."""

import pytest

from voxray.base.errors import ConfigError
from voxray.pipelines.turn_options import PREFIX, TurnOptions, turn_options


def test_what_is_not_given_is_left_to_livekit_agents():
    options = turn_options(None, {})
    assert options.for_vad() == {}
    assert options.for_session() == {}


def test_every_setting_reaches_its_place():
    environment = {
        "TURN_DETECTION_MODE": "vad",
        "TURN_DETECTION_SILENCE_MS": "200",
        "TURN_DETECTION_MAX_SILENCE_MS": "4000",
        "TURN_DETECTION_MIN_SPEECH_MS": "80",
        "TURN_DETECTION_PREFIX_PADDING_MS": "300",
        "TURN_DETECTION_THRESHOLD": "0.6",
        "TURN_DETECTION_INTERRUPTIONS": "true",
        "TURN_DETECTION_INTERRUPTION_MS": "700",
        "TURN_DETECTION_INTERRUPTION_WORDS": "2",
        "TURN_DETECTION_FALSE_INTERRUPTION_MS": "1500",
        "TURN_DETECTION_PREEMPTIVE": "off",
        "SOMETHING_ELSE": "x",
    }
    assert {name.removeprefix(PREFIX).lower() for name in environment} >= set(
        TurnOptions.model_fields
    )
    options = turn_options(None, environment)
    assert options.for_vad() == {
        "activation_threshold": 0.6,
        "min_speech_duration": 0.08,
        "min_silence_duration": 0.2,
        "prefix_padding_duration": 0.3,
    }
    assert options.for_session() == {
        "turn_detection": "vad",
        "endpointing": {"min_delay": 0.2, "max_delay": 4.0},
        "interruption": {
            "enabled": True,
            "min_duration": 0.7,
            "min_words": 2,
            "false_interruption_timeout": 1.5,
        },
        "preemptive_generation": {"enabled": False},
    }


def test_a_long_silence_leaves_the_vad_as_quick_as_it_is():
    assert turn_options({"silence_ms": 900}, {}).for_vad() == {}


def test_a_program_is_over_the_environment():
    environment = {"TURN_DETECTION_SILENCE_MS": "900", "TURN_DETECTION_THRESHOLD": "0.4"}
    options = turn_options(TurnOptions(silence_ms=500), environment)
    assert (options.silence_ms, options.threshold) == (500, 0.4)


def test_the_model_is_what_finds_the_end_where_it_is_asked_for():
    model = object()
    options = turn_options({"mode": "model"}, {})
    assert options.for_session(model)["turn_detection"] is model
    assert turn_options({"mode": "stt"}, {}).for_session(model)["turn_detection"] == "stt"


@pytest.mark.parametrize(
    ("given", "environment", "reason"),
    [
        ({}, {"SILENCE_MS": "soon"}, r"TURN_DETECTION_SILENCE_MS: .*integer.*not 'soon'"),
        ({}, {"SILENCE_MS": "-1"}, r"TURN_DETECTION_SILENCE_MS: .*greater than or equal to 0"),
        ({}, {"THRESHOLD": "1.5"}, r"TURN_DETECTION_THRESHOLD: .*less than 1, not '1.5'"),
        ({}, {"THRESHOLD": "nan"}, r"TURN_DETECTION_THRESHOLD"),
        ({}, {"MODE": "psychic"}, r"TURN_DETECTION_MODE: .*'vad', 'stt', 'model' or 'manual'"),
        ({}, {"SILENCE": "500"}, r"TURN_DETECTION_SILENCE: there is no such option.*silence_ms"),
        ({}, {"INTERRUPTIONS": "perhaps"}, r"TURN_DETECTION_INTERRUPTIONS: .*boolean"),
        ({"silence_ms": "soon"}, {"SILENCE_MS": "300"}, r"turn detection: silence_ms: "),
        ({"silence": 3}, {}, r"silence: there is no such option"),
        ({"silence_ms": 500}, {"MAX_SILENCE_MS": "300"}, r"max_silence_ms \(300\) is less"),
        ({"mode": "model", "silence_ms": 100}, {}, r"less than 250"),
    ],
)
def test_a_bad_value_is_named_with_its_place(given, environment, reason):
    variables = {PREFIX + name: value for name, value in environment.items()}
    with pytest.raises(ConfigError, match=reason):
        turn_options(given, variables)
