"""What a terminal shows: the text that it was given."""

from __future__ import annotations

import shlex

import pytest

from hpolab.console import PlainConsole, command_line


@pytest.mark.parametrize(
    "text",
    ["resnet[bs=32]", "dir[/b]", "[red]x[/red]", "[link=a]b", ":fire:", "\\[x]", "a\nb", "x" * 500],
)
def test_text_is_shown_as_it_is(text, capsys):
    console = PlainConsole()
    console.print(text)
    console.print(text, markup=True, emoji=True)
    console.say("Error:", text, style="red")
    assert capsys.readouterr().out == f"{text}\n{text}\nError: {text}\n"


def test_what_a_terminal_would_obey_is_not_sent(capsys):
    PlainConsole(stderr=True).print("a\x1b[2Jb\rc\ud800")
    assert capsys.readouterr().err == "a�[2Jb�c�\n"


@pytest.mark.parametrize("name", ["my study (2)", "it's", "$HOME", "a;b", "-n", "--help", "*"])
def test_a_command_names_the_study_in_a_shell(name):
    url = "sqlite:///exp?n_tokens=3/a b.db"
    words = shlex.split(command_line("status", name, "-f", "yaml", storage=url))
    assert words[:2] == ["hpolab", "status"]
    assert words[words.index("-s") + 1] == url
    assert name in words
    assert not name.startswith("-") or words[-2:] == ["--", name]
