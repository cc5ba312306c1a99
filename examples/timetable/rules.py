"""A small language model without a model: it follows rules, so the example works offline.

It is an ordinary `livekit.agents.llm.LLM`: it gets the chat context and the agent's tools, calls
a tool through the usual protocol, and words an answer from what the tool returned.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from livekit.agents import llm, utils
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)
from timetable import ONES, TENS

GREETING = "Welcome to Union Station. Which train can I help you with?"
REPEAT = "I did not understand that. Could you repeat your question about the trains?"

_NUMBERS = {word: number for number, word in enumerate(ONES)} | {
    word: number for number, word in TENS.items()
}

# Which tool a question asks for; the first match counts.
_INTENTS = (
    ("platform_of", re.compile(r"\bplatform\b")),
    ("journey_time", re.compile(r"\bhow long\b|\b(journey|travel) time\b")),
    ("ticket_price", re.compile(r"\bhow much\b|\bprice\b|\bcosts?\b|\bticket\b")),
    ("changes_on_the_way", re.compile(r"\bchanges?\b|\bdirect\b")),
    ("next_train", re.compile(r"\bwhen\b|\bwhat time\b|\btrain\b")),
)
_ANSWERS = {
    "platform_of": "The {departs} train to {destination} leaves from platform {platform}.",
    "journey_time": "The journey to {destination} takes {duration}.",
    "ticket_price": "A ticket to {destination} costs {price} {currency}.",
    "changes_on_the_way": "The train to {destination} {way}.",
    "next_train": "The train to {destination} leaves at {departs} from platform {platform}.",
}
_DESTINATION = re.compile(
    r".*\bto (?!change\b|get\b|take\b)(?:the )?(?P<name>[a-z]+)", re.DOTALL
)  # Greedy: the last "to" of the sentence names the place.
_AFTER = re.compile(r"\bafter (?P<time>[a-z' ]+)")
_TRAIN_AT = re.compile(r"\bthe (?P<time>[a-z' ]+) train\b")
_DIGITS = re.compile(r"\b(?P<hour>\d{1,2}):(?P<minute>\d{2})\b")


@dataclass(frozen=True, kw_only=True)
class CallTool:
    """The model wants a tool to be called."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Say:
    """The model says something."""

    text: str


def decide(items: Sequence[llm.ChatItem], tools: Iterable[str]) -> CallTool | Say:
    """Return what comes next in a conversation.

    Args:
        items: the conversation so far, oldest first.
        tools: names of the tools that may be called.
    """
    outputs: list[llm.FunctionCallOutput] = []
    for item in reversed(items):
        if item.type == "function_call_output":
            outputs.append(item)
        elif item.type == "message" and item.role == "user":
            if outputs:
                return Say(text=" ".join(_word(output) for output in reversed(outputs)))
            return _understand(item.text_content or "", frozenset(tools))
    return Say(text=GREETING)


def _understand(said: str, tools: frozenset[str]) -> CallTool | Say:
    words = said.lower()
    destination = _DESTINATION.match(words)
    tool = next((name for name, pattern in _INTENTS if pattern.search(words)), None)
    if destination is None or tool is None or tool not in tools:
        return Say(text=REPEAT)
    arguments: dict[str, Any] = {"destination": destination["name"].capitalize()}
    if tool in {"next_train", "platform_of"} and (time := _time_in(words)):
        arguments["not_before"] = time
    return CallTool(name=tool, arguments=arguments)


def _time_in(words: str) -> str | None:
    """Return the time of day in a sentence as `HH:MM`, if there is one."""
    if digits := _DIGITS.search(words):
        return f"{int(digits['hour']):02}:{digits['minute']}"
    for pattern in (_AFTER, _TRAIN_AT):
        if (spoken := pattern.search(words)) and (time := _spoken_time(spoken["time"])):
            return time
    return None


def _spoken_time(spoken: str) -> str | None:
    """Return `nine fifteen` as `09:15`; None when it is no time of day."""
    match [_NUMBERS.get(word, -1) for word in spoken.replace("o'clock", "zero").split()]:
        case [20, 1 | 2 | 3 as past_twenty, *minutes] if minutes:
            hour = 20 + past_twenty
        case [hour, *minutes] if 0 <= hour <= 20:
            pass
        case _:
            return None
    match minutes:
        case [minute] if minute >= 0:
            return f"{hour:02}:{minute:02}"
        case [20 | 30 | 40 | 50 as tens, ones] if 1 <= ones <= 9:
            return f"{hour:02}:{tens + ones:02}"
    return None


def _word(output: llm.FunctionCallOutput) -> str:
    """Return a tool's output as a sentence."""
    if output.is_error:
        return f"I am sorry, {output.output}"
    facts = json.loads(output.output)
    if output.name == "journey_time":
        facts["duration"] = _duration(facts["minutes"])
    elif output.name == "changes_on_the_way":
        facts["way"] = _changes(facts["changes"])
    return _ANSWERS[output.name].format(**facts)


def _duration(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    parts = [_count(hours, "hour")] if hours else []
    parts += [_count(rest, "minute")] if rest else []
    return " and ".join(parts)


def _changes(changes: int) -> str:
    return f"has {_count(changes, 'change')} on the way" if changes else "is direct"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class RuleBasedLLM(llm.LLM[Any]):
    """Understands questions about trains, and nothing else."""

    @property
    def model(self) -> str:
        """The model's name, for metrics."""
        return "timetable-rules"

    @property
    def provider(self) -> str:
        """The model's provider, for metrics."""
        return "timetable"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,  # noqa: ARG002 - part of the protocol
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,  # noqa: ARG002 - part of the protocol
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,  # noqa: ARG002 - part of the protocol
    ) -> llm.LLMStream:
        """Start an answer to the conversation."""
        return _RuleStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _RuleStream(llm.LLMStream):
    async def _run(self) -> None:
        request = utils.shortuuid("rules_")
        step = decide(self.chat_ctx.items, llm.ToolContext(self.tools).function_tools)
        match step:
            case CallTool():
                call = llm.FunctionToolCall(
                    name=step.name,
                    arguments=json.dumps(step.arguments),
                    call_id=utils.shortuuid("call_"),
                )
                self._send(request, llm.ChoiceDelta(role="assistant", tool_calls=[call]))
            case Say():
                # Word by word, as a language model streams.
                for word in re.findall(r"\S+\s*", step.text):
                    self._send(request, llm.ChoiceDelta(role="assistant", content=word))

    def _send(self, request: str, delta: llm.ChoiceDelta) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id=request, delta=delta))
