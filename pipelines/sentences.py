"""Cuts a text that is spoken into sentences, by livekit-agents' own tokenizer."""

from collections.abc import Iterator

from livekit.agents import tokenize

_LONGEST = 1000
# Characters; about a minute of speech. More of what has no end of a sentence is cut at a word.

_tokenizer = tokenize.blingfire.SentenceTokenizer()


def sentences(text: str) -> Iterator[str]:
    """Yield a text's sentences in order, short ones together with the next.

    Nothing but white space is lost. A sentence of more than 1,000 characters is cut between words,
    or where it must be.
    """
    for sentence in _tokenizer.tokenize(text):
        rest = sentence
        while len(rest) > _LONGEST:
            at = rest.rfind(" ", 1, _LONGEST + 1)
            at = at if at > 0 else _LONGEST
            yield rest[:at]
            rest = rest[at:].lstrip()
        if rest:
            yield rest
