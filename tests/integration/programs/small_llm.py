"""A language model in a few lines for the programs beside it: it says back what it heard."""

from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, llm, utils


class ParrotLLM(llm.LLM):
    """Greets first; then says what the user said."""

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **_: Any,
    ) -> llm.LLMStream:
        return _ParrotStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _ParrotStream(llm.LLMStream):
    async def _run(self) -> None:
        said = [
            item.text_content or ""
            for item in self._chat_ctx.items
            if item.type == "message" and item.role == "user"
        ]
        text = f"you said {said[-1]}." if said else "hello there."
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id=utils.shortuuid(), delta=llm.ChoiceDelta(role="assistant", content=text)
            )
        )
