"""Every module of the folder is a syntax, and every prompt format of the protocol is one of them."""

from __future__ import annotations

import pkgutil

import pytest

from workbench.prompts.tools import syntaxes
from workbench.prompts.tools.rendering import calls_text
from workbench.prompts.tools.syntaxes import SYNTAXES, ToolSyntax
from workbench.protocol import ToolPromptFormat


def test_the_modules_of_the_folder_and_the_names_agree() -> None:
    assert {module.name for module in pkgutil.iter_modules(syntaxes.__path__)} == set(ToolSyntax) == SYNTAXES.keys()


def test_every_prompt_format_of_the_protocol_is_a_syntax() -> None:
    assert {prompt_format.value for prompt_format in ToolPromptFormat} <= set(ToolSyntax)


@pytest.mark.parametrize("syntax", ToolSyntax)
def test_the_example_in_the_instructions_is_what_calls_look_like(syntax: ToolSyntax) -> None:
    text = calls_text([("NAME", {"PARAMETER": "VALUE"})], syntax)
    assert SYNTAXES[syntax].example == text.replace('"VALUE"', "VALUE")
