import pytest

from voxray.base import errors
from voxray.base.errors import InvalidTransitionError, VoxrayError

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_is_in_the_tree_and_documented(error):
    assert issubclass(error, VoxrayError)
    assert error.__doc__
    assert error.__name__ == "VoxrayError" or error.__name__.endswith("Error")
    assert error.exit_code in {1, 2}


def test_what_the_operator_can_mend_exits_with_2():
    by_code = {code: {e.__name__ for e in ALL if e.exit_code == code} for code in (1, 2)}
    assert by_code[2] == {
        "ConfigError",
        "ProgramError",
        "PortTakenError",
        "CredentialsError",
        "MissingPartError",
        "EngineConfigError",
        "TextTooLongError",
    }


def test_what_may_succeed_later_is_retryable():
    assert {e.__name__ for e in ALL if e.retryable} == {
        "ConnectionFailedError",
        "CapacityError",
        "DeadlineError",
        "PeerFailedError",
        "StreamGivenUpError",
    }


@pytest.mark.parametrize(("story", "text"), [((), "story: none"), (("a", "b"), "story: a | b")])
def test_an_illegal_transition_tells_its_story(story, text):
    error = InvalidTransitionError("AJ_1", "no way", story)
    assert (error.subject, error.story) == ("AJ_1", story)
    assert str(error) == f"no way (on AJ_1; {text})"
