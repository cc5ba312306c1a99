"""Tokens: what ours allow and for how long, and how an agent's token is renewed."""

import time

import jwt
import pytest
from livekit.api import AccessToken, TokenVerifier, VideoGrants

from voxray.base.errors import CredentialsError, ProtocolError
from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.tokens import (
    ROOM_TOKEN_TTL_S,
    WORKER_TOKEN_TTL_S,
    resign,
    room_token,
    simulated_token,
    worker_token,
)

KEY, SECRET = "key", "s" * 32
SETTINGS = LiveKitSettings(url="ws://x", api_key=KEY, api_secret=SECRET)


def claims(token):
    return jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})


def agent_token(secret=SECRET, **more):
    token = (
        AccessToken(KEY, secret)
        .with_identity("agent-1")
        .with_kind("agent")
        .with_grants(VideoGrants(room_join=True, room="r", agent=True, hidden=True))
        .with_attributes({"k": "v"})
    )
    return jwt.encode({**claims_of(token), **more}, secret, algorithm="HS256")


def claims_of(token):
    return jwt.decode(token.to_jwt(), options={"verify_signature": False})


def test_a_worker_token_lets_a_worker_register_for_a_short_time():
    token = worker_token(SETTINGS)
    video = TokenVerifier(KEY, SECRET).verify(token).video
    assert video.agent
    assert not any((video.room_join, video.room_admin, video.room_list, video.room_create))
    read = claims(token)
    assert read["exp"] - read["nbf"] == WORKER_TOKEN_TTL_S


def test_a_room_token_is_for_one_room_and_one_question():
    token = room_token(SETTINGS, "r")
    video = TokenVerifier(KEY, SECRET).verify(token).video
    assert (video.room_admin, video.room_list, video.room) == (True, True, "r")
    assert not any((video.room_join, video.room_create, video.agent))
    read = claims(token)
    assert read["exp"] - read["nbf"] == ROOM_TOKEN_TTL_S


def test_a_renewed_token_has_the_same_claims_and_a_new_time():
    old = agent_token(sip={"call": True}, own=[1, 2])
    new = resign(old, SECRET, 90, now_s=2_000_000_000.7)
    before, after = claims(old), jwt.decode(new, options={"verify_signature": False})
    assert (after.pop("nbf"), after.pop("exp")) == (2_000_000_000, 2_000_000_090)
    del before["nbf"], before["exp"]
    assert after == before


def test_an_expired_token_can_be_renewed():
    old = agent_token(nbf=1, exp=2)
    verified = TokenVerifier(KEY, SECRET).verify(resign(old, SECRET))
    assert (verified.identity, verified.kind, verified.video.room) == ("agent-1", "agent", "r")
    assert claims(resign(old, SECRET))["exp"] > time.time()


def test_a_token_of_another_secret_is_refused():
    with pytest.raises(CredentialsError, match="LIVEKIT_API_SECRET"):
        resign(agent_token("o" * 32), SECRET)


def test_a_token_without_a_signature_is_refused():
    unsigned = jwt.encode({"sub": "agent-1"}, None, algorithm="none")
    with pytest.raises(ProtocolError):
        resign(unsigned, SECRET)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "ä.ö.ü"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(ProtocolError):
        resign(text, SECRET)


def test_an_agent_of_a_simulated_job_joins_its_room_as_an_agent():
    grants = TokenVerifier(KEY, SECRET).verify(simulated_token(SETTINGS, "lobby", "me"))
    assert (grants.identity, grants.kind) == ("me", "agent")
    video = grants.video
    assert (video.room, video.room_join, video.agent) == ("lobby", True, True)
    # Agents tell their state by attributes of theirs.
    assert video.can_update_own_metadata
