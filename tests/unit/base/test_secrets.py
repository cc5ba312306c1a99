"""Values that are not to be seen, and the token that an app's processes share."""

import pickle

import pytest

from voxray.base.app_token import app_token
from voxray.base.sealed import Sealed

SECRET = "k" * 40


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, "%s".__mod__])
def test_a_sealed_value_is_not_shown(show):
    assert SECRET not in show(Sealed({"LIVEKIT_API_SECRET": SECRET}))


def test_a_sealed_value_goes_to_another_process_with_its_value():
    there = pickle.loads(pickle.dumps(Sealed({"a": SECRET})))
    assert there.open() == {"a": SECRET}
    assert there == Sealed({"a": SECRET})
    assert there != Sealed({"a": "other"})


def test_the_token_belongs_to_the_app_and_its_secret():
    assert app_token("desk", SECRET) == app_token("desk", SECRET)
    tokens = {app_token("desk", SECRET), app_token("shop", SECRET), app_token("desk", "other")}
    assert len(tokens) == 3
    assert all(len(token) == 43 and SECRET not in token for token in tokens)
