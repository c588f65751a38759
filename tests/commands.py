"""Whether commands that documents and workflows name exist: parsed as they would be, and not run."""

from __future__ import annotations

import re
import shlex

import pytest

from probebench.cli.main import _parser


def split(text: str) -> list[list[str]]:
    """The words of every command in a few lines of shell."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)  # a variable for the command
        commands.append([])
        for word in words:
            if word in ("&&", "|", ";"):
                commands.append([])
            else:
                commands[-1].append(word)
    return [words for words in commands if words]


def check(words: list[str], config: pytest.Config) -> bool:
    """Whether this was one of our commands; fails if it has an option or a subcommand that does not exist."""
    if words[:3] == ["python", "-m", "probebench"]:
        words = words[2:]
    if words[0] == "probebench":
        try:
            _parser().parse_args(words[1:])
        except SystemExit as error:
            if error.code != 0:
                pytest.fail(f"{shlex.join(words)} is refused")
        return True
    if words[0] == "pytest":
        parser = config._parser
        known = {name for group in (parser._anonymous, *parser._groups) for o in group.options for name in o.names()}
        for word in words[1:]:
            name = word.partition("=")[0]
            if word.startswith("-") and name not in known | {"-n"}:  # xdist is not installed everywhere
                pytest.fail(f"{shlex.join(words)}: there is no {name}")
        return True
    return False
