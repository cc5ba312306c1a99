"""What is wrong with a grammar is said before anything listens for it."""

import pytest

from voxray.pipelines.engines.jsgf import GrammarError, read_grammar

HEAD = "#JSGF V1.0; grammar trains;"


def test_words_and_public_rules_are_found():
    grammar = read_grammar(
        "#JSGF V1.0 UTF-8 en;\n// trains\ngrammar trains;\n"
        "<city> = Berlin | /0.5/ Paris {tag: fr};\n"
        "public <when> = when [does] the train* to (<city> | <NULL>) leave+; /* and */\n"
        "public <yes> = yes;"
    )
    expected = {"Berlin", "Paris", "when", "does", "the", "train", "to", "leave", "yes"}
    assert grammar.words == expected
    assert "public <voxray_top> = <when> | <yes>;" in grammar.text
    assert grammar.text.startswith("#JSGF V1.0; grammar voxray;")
    assert "// trains" not in grammar.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with"),
        ("hello", "begins with"),
        ("#JSGF V1.0; public <a> = b;", "begins with"),
        (f"{HEAD}", "no rule is public"),
        (f"{HEAD} <a> = b;", "no rule is public"),
        (f"{HEAD} public <a> = b", "does not end with `;`"),
        (f"{HEAD} public <a> = when <city>;", "rule <city> is used and not defined"),
        (f"{HEAD} public <a> = b; <a> = c;", "rule <a> is defined twice"),
        (f"{HEAD} public <a> = (b | c;", r"rule <a>: `\(` is never closed"),
        (f"{HEAD} public <a> = b | c);", r"rule <a>: `\)` closes nothing"),
        (f"{HEAD} public <a> = (b];", r"rule <a>: `\]` closes nothing"),
        (f"{HEAD} public <a> = ;", "rule <a> is empty"),
        (f'{HEAD} public <a> = "New York";', "rule <a>: not understood from"),
        (f"{HEAD} public <a> = b <c;", "rule <a>: not understood from `<c`"),
        (f"{HEAD} import <other.*>; public <a> = b;", "imports are not supported"),
        (f"{HEAD} public <q> = <q> yes;", "rule <q> contains itself"),
        (f"{HEAD} public <a> = b <c>; <c> = [<a>];", "rule <a> contains itself"),
        (f"{HEAD} hello world; public <a> = b;", "not a rule"),
        (f"{HEAD} public <voxray_top> = b;", "is taken"),
    ],
)
def test_faults_are_named(text, message):
    with pytest.raises(GrammarError, match=message):
        read_grammar(text)
