"""What stands in for paid models in the programs beside it: a scripted LLM, and a grammar."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, llm, utils

GRAMMAR = """#JSGF V1.0;
grammar words;
public <words> = what is the weather in paris
  | please tell me a long story
  | is there a train to berlin
  | i would like to pay my bill
  | open the window in the kitchen
  | where is the nearest station
  | yes you may record this call;
"""
_INSTRUCTIONS_ID = "lk.agent_task.instructions"


@dataclass
class Call:
    """The model calls a tool."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


Line: TypeAlias = str | Call | Exception | Callable[[llm.ChatContext], str]


class ScriptedLLM(llm.LLM):
    """Answers by a script: the first of its keys in the last thing said or found decides.

    What counts is the last message of the user, the instructions of `generate_reply`, or what a
    tool returned. A tool's result that no key matches is read out, and so is a message.
    """

    def __init__(self, script: Mapping[str, Line] | None = None) -> None:
        super().__init__()
        self.script = dict(script or {})

    @property
    def model(self) -> str:
        return "scripted"

    @property
    def provider(self) -> str:
        return "local"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        tool_choice: Any = None,
        **_: Any,
    ) -> llm.LLMStream:
        stream = _Stream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)
        stream.may_call = tool_choice != "none"
        return stream


class _Stream(llm.LLMStream):
    may_call = True

    async def _run(self) -> None:
        said = _last(self._chat_ctx)
        script = self._llm.script
        line = next((line for key, line in script.items() if key in said.lower()), None)
        if isinstance(line, Exception):
            raise line
        if isinstance(line, Call):
            if self.may_call and line.name in llm.ToolContext(self._tools).function_tools:
                arguments = json.dumps(line.arguments)
                call_id = utils.shortuuid("call_")
                call = llm.FunctionToolCall(name=line.name, arguments=arguments, call_id=call_id)
                self._send(tool_calls=[call])
                return
            line = f"i can not use {line.name}."
        text = line(self._chat_ctx) if callable(line) else line or f"you said {said}."
        for word in text.split(" "):
            self._send(content=f"{word} ")
            # As a model does, give the others a turn between two words.
            await asyncio.sleep(0)
        tokens = len(text.split())
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id="scripted",
                usage=llm.CompletionUsage(
                    completion_tokens=tokens, prompt_tokens=tokens, total_tokens=2 * tokens
                ),
            )
        )

    def _send(self, **delta: Any) -> None:
        choice = llm.ChoiceDelta(role="assistant", **delta)
        self._event_ch.send_nowait(llm.ChatChunk(id="scripted", delta=choice))


def _last(chat_ctx: llm.ChatContext) -> str:
    """Return what is to be answered."""
    for item in reversed(chat_ctx.items):
        if item.type == "function_call_output":
            return item.output
        if item.type == "message" and item.role != "assistant" and item.id != _INSTRUCTIONS_ID:
            return item.text_content or ""
    return ""
