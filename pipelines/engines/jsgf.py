"""Reads a JSGF grammar far enough to say what is wrong with it and which words it uses. Pure.

pocketsphinx itself says only that a grammar is bad, and quietly ignores undefined rules and all
public rules but one. Grammar: https://www.w3.org/TR/jsgf/
"""

import re
from dataclasses import dataclass

_TOP = "voxray_top"
TOP_RULE = f"voxray.{_TOP}"
"""The rule that stands for all public rules of a grammar that was read."""

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_HEADER = re.compile(r"\s*#JSGF\s+V?[\d.]+[^;]*;\s*grammar\s+[^\s;]+\s*;", re.IGNORECASE)
_RULE = re.compile(r"\s*(public\s+)?<([^<>\s]+)>\s*=(.*)", re.DOTALL)
_TOKEN = re.compile(
    r"\s+|<(?P<rule>[^<>\s]+)>|\{[^{}]*\}|/[\d.eE+-]+/|(?P<operator>[()\[\]|*+])"
    r"|(?P<word>[^\s;=|*+<>()\[\]{}/\"]+)"
)
_BUILT_IN = frozenset({"NULL", "VOID"})
_CLOSING = {")": "(", "]": "["}


class GrammarError(ValueError):
    """A grammar is wrong; the message says where."""


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """A grammar whose rules fit together.

    Attributes:
        text: the grammar, under the name of `voxray` and with `TOP_RULE` added.
        words: all words it uses, as it spells them.
    """

    text: str
    words: frozenset[str]


def read_grammar(text: str) -> Grammar:
    """Check a grammar.

    Raises:
        GrammarError: says what is wrong, and in which rule.
    """
    bare = _COMMENT.sub(" ", text)
    header = _HEADER.match(bare)
    if header is None:
        raise GrammarError("a grammar begins with `#JSGF V1.0; grammar NAME;`")
    statements = bare[header.end() :].split(";")
    if statements.pop().strip():
        raise GrammarError("the last rule does not end with `;`")
    rules: dict[str, tuple[set[str], set[str]]] = {}
    public: list[str] = []
    for statement in statements:
        name, is_public, body = _split(statement)
        if name in rules:
            raise GrammarError(f"rule <{name}> is defined twice")
        rules[name] = _read_body(name, body)
        if is_public:
            public.append(name)
    if not public:
        raise GrammarError("no rule is public, so nothing could ever be heard")
    used = set().union(*(references for _, references in rules.values()))
    if undefined := sorted(used - set(rules) - _BUILT_IN):
        raise GrammarError(f"rule <{undefined[0]}> is used and not defined")
    _refuse_recursion({name: references for name, (_, references) in rules.items()})
    words = frozenset().union(*(words for words, _ in rules.values()))
    top = " | ".join(f"<{name}>" for name in public)
    body = bare[header.end() :]
    text = f"#JSGF V1.0; grammar voxray;{body}\npublic <{_TOP}> = {top};\n"
    return Grammar(text=text, words=words)


def _split(statement: str) -> tuple[str, bool, str]:
    shown = " ".join(statement.split())[:60]
    if shown.startswith("import"):
        raise GrammarError(f"imports are not supported: `{shown}`")
    if (match := _RULE.fullmatch(statement)) is None:
        raise GrammarError(f"not a rule (`public <name> = words;`): `{shown}`")
    name = match.group(2)
    if name == _TOP:
        raise GrammarError(f"the rule name <{_TOP}> is taken")
    return name, match.group(1) is not None, match.group(3)


def _refuse_recursion(uses: dict[str, set[str]]) -> None:
    # pocketsphinx drops what recurs on the left without a word; `*` and `+` say the rest.
    settled: set[str] = set(_BUILT_IN)
    while ready := [name for name in uses if name not in settled and uses[name] <= settled]:
        settled.update(ready)
    if recursive := [name for name in uses if name not in settled]:
        raise GrammarError(
            f"rule <{recursive[0]}> contains itself, directly or through others; "
            "repeat with `*` or `+` instead"
        )


def _read_body(name: str, body: str) -> tuple[set[str], set[str]]:
    """Return the words and the rules that a rule uses."""
    words: set[str] = set()
    references: set[str] = set()
    brackets: list[str] = []
    place = 0
    while place < len(body):
        match = _TOKEN.match(body, place)
        if match is None:
            raise GrammarError(f"rule <{name}>: not understood from `{body[place : place + 20]}`")
        place = match.end()
        operator = match.group("operator")
        if match.group("word"):
            words.add(match.group("word"))
        elif match.group("rule"):
            references.add(match.group("rule"))
        elif operator in ("(", "["):
            brackets.append(operator)
        elif operator in _CLOSING and (not brackets or brackets.pop() != _CLOSING[operator]):
            raise GrammarError(f"rule <{name}>: `{operator}` closes nothing")
    if brackets:
        raise GrammarError(f"rule <{name}>: `{brackets[-1]}` is never closed")
    if not words and not references:
        raise GrammarError(f"rule <{name}> is empty")
    return words, references
