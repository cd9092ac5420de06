"""What a template is, what it can do, and what becomes of turns that it does not take."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.fakes.models import byte_tokenizer
from tests.fakes.templates import FAMILIES, NO_SYSTEM, PLAIN, Family
from workbench.errors import ContextLengthError, InvalidRequestError
from workbench.prompts.encoding import PromptEncoder
from workbench.prompts.template_process import Limits
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.prompts.turns import native_turns
from workbench.protocol import (
    BuiltinTool,
    CompletionMessage,
    Message,
    StopReason,
    SystemMessage,
    ToolCall,
    ToolDefinition,
    ToolParamDefinition,
    ToolPromptFormat,
    ToolResponseMessage,
    UserMessage,
)

WEATHER = Toolset.of(
    [
        ToolDefinition(
            tool_name="get_weather",
            description="The weather now.",
            parameters={"location": ToolParamDefinition(param_type="string", description="A city.")},
        )
    ]
)


def answer(text: str, *calls: ToolCall) -> CompletionMessage:
    return CompletionMessage(content=text, stop_reason=StopReason.end_of_turn, tool_calls=list(calls))


def call(location: str, call_id: str = "a1") -> ToolCall:
    return ToolCall(call_id=call_id, tool_name="get_weather", arguments={"location": location, "at": [True, None]})


def result(text: str, call_id: str = "a1") -> ToolResponseMessage:
    return ToolResponseMessage(call_id=call_id, tool_name="get_weather", content=text)


# ----------------------------------------------------------------------------------------------------- what it can do


@pytest.mark.parametrize(
    "family, takes_system, native",
    [
        ("plain", True, None),
        ("tagged", True, ToolSyntax.tool_call_tag),
        ("no system", False, None),
        ("headers", True, ToolSyntax.json),
        ("brackets", True, ToolSyntax.mistral),
    ],
)
def test_what_a_template_can_do_is_found_out_by_rendering(
    family: str, takes_system: bool, native: ToolSyntax | None
) -> None:
    template = FAMILIES[family].encoder().template
    assert template is not None
    assert template.takes_system == takes_system
    assert template.native_syntax == native


@pytest.mark.parametrize(
    "template",
    [
        PLAIN + "{# tools tool_call <tool_call> #}{% if false %}{{ tools }}{% endif %}",
        PLAIN + "{% if tools %}{{ tools | length }} tools{% endif %}",
        PLAIN + "{% if tools %}{{ tools | tojson }}{% endif %}",  # shows tools, and calls nowhere
        PLAIN + "{% if tools %}{{ raise_exception('no tools') }}{% endif %}",
        PLAIN + "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_only_speaks_of_tools_takes_none(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "of", lambda messages, characters: Limits(cpu_s=0.2))  # is it refused, not when
    chat = Family(template, ("<|im_start|>", "<|im_end|>")).encoder().template
    assert chat is not None
    assert chat.native_syntax is None


def test_the_hash_is_that_of_the_template_as_it_stands() -> None:
    template = FAMILIES["plain"].encoder().template
    assert template is not None
    assert template.sha256 == hashlib.sha256(PLAIN.encode()).hexdigest()
    other = Family(PLAIN + " ", ("<|im_start|>",)).encoder().template
    assert other is not None
    assert other.sha256 != template.sha256


def test_of_several_templates_the_one_for_tools_is_used_with_tools() -> None:
    tokenizer = byte_tokenizer(template=None)
    tagged = FAMILIES["tagged"].template
    tokenizer.chat_template = {"default": "{{ messages[0].content }}", "tool_use": tagged}
    encoder = PromptEncoder(tokenizer, "two")
    assert encoder.chat_prompt([UserMessage(content="Hi")]).text == "Hi"
    assert "get_weather" in encoder.chat_prompt([UserMessage(content="Hi")], WEATHER).text
    assert encoder.tool_syntax() is ToolSyntax.tool_call_tag


def test_templates_by_other_names_alone_make_no_chat() -> None:
    tokenizer = byte_tokenizer(template=None)
    tokenizer.chat_template = {"rag": "{{ messages[0].content }}"}
    with pytest.raises(InvalidRequestError, match="rag"):
        PromptEncoder(tokenizer, "odd").chat_prompt([UserMessage(content="Hi")])


# --------------------------------------------------------------------------------------- turns that it does not take


def test_a_system_message_stands_in_the_first_turn_of_the_user_where_the_template_has_no_such_role() -> None:
    encoder = FAMILIES["no system"].encoder()
    text = encoder.chat_prompt([SystemMessage(content="Be brief."), UserMessage(content="Hi")]).text
    assert text == "<start_of_turn><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n"


def test_a_template_that_drops_the_system_message_in_silence_has_no_such_role_either() -> None:
    template = "{% for m in messages if m.role != 'system' %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    encoder = Family(template, ("<x>",)).encoder()
    messages: list[Message] = [
        SystemMessage(content="Be brief."),
        UserMessage(content="Hi"),
        answer("Yo"),
        UserMessage(content="?"),
    ]
    assert encoder.chat_prompt(messages).text == "[user] Be brief.\n\nHi\n[assistant] Yo\n[user] ?\n"
    with pytest.raises(InvalidRequestError, match="leaves out the content of a system message") as caught:
        encoder.chat_prompt([UserMessage(content="Hi"), SystemMessage(content="Be brief.")])
    assert caught.value.given == ["user", "system"]


def test_a_system_message_that_stands_before_the_last_turn_of_the_user_is_folded_where_there_is_a_tools_result() -> (
    None
):
    encoder = FAMILIES["brackets"].encoder()
    system = SystemMessage(content="Be brief.")
    assert "[INST] Be brief.\n\nRome?[/INST]" in encoder.chat_prompt([system, UserMessage(content="Rome?")]).text
    loop: list[Message] = [system, UserMessage(content="Rome?"), answer("", call("Rome")), result("20 C")]
    text = encoder.chat_prompt(loop, WEATHER).text
    assert text.startswith("[INST][INST] Be brief.\n\nRome?[/INST][TOOL_CALLS]")
    assert text.count("Be brief.") == 1


@pytest.mark.parametrize(
    "shown, text",
    [
        ("m.content.replace('/no_think', '')", " Hi\n\nthere"),
        ("m.content.replace('\n\n', '\n')", "/no_think Hi\nthere"),
        ("m.content | upper", "/NO_THINK HI\n\nTHERE"),
        ("m.content.split() | join('_')", "/no_think_Hi_there"),
        ("m.content[-5:]", "there"),
    ],
)
def test_a_message_that_is_shown_in_part_or_in_another_form_is_shown(shown: str, text: str) -> None:
    template = "{% for m in messages %}<x>{{ " + shown + " }}{% endfor %}"
    encoder = Family(template, ("<x>",)).encoder()
    messages: list[Message] = [SystemMessage(content="System"), UserMessage(content="/no_think Hi\n\nthere")]
    assert encoder.chat_prompt(messages).text.split("<x>")[2] == text


@pytest.mark.parametrize(
    "shown, messages, role",
    [
        ("m.content.split('</think>')[-1]", [UserMessage(content="all of it</think>")], "user"),
        ("m.content if m.role != 'tool'", [UserMessage(content="?"), answer("", call("x")), result("20")], "tool"),
        ("m.content | length", [UserMessage(content="12")], "user"),
    ],
)
def test_a_message_of_which_nothing_is_shown_is_refused(shown: str, messages: list[Message], role: str) -> None:
    """A tool's result by a template that shows it in one conversation, and not in another."""
    tools = "{{ tools | tojson if tools }}{{ messages[2].content if messages | length == 3 and not tools }}"
    encoder = Family("{% for m in messages %}<x>{{ " + shown + " }}{% endfor %}" + tools, ("<x>",)).encoder()
    template = encoder.template
    assert template is not None
    turns = native_turns(messages, ToolSyntax.json, "messages")
    with pytest.raises(InvalidRequestError, match=f"leaves out the content of a {role} message"):
        template.prompt(turns, [{"type": "function"}], "messages")


def test_control_tokens_may_be_put_together_of_the_role_and_of_nothing_that_is_said() -> None:
    template = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|' ~ m.content ~ '|>' }}{% endfor %}"
    encoder = Family(template, ("<|user|>", "<|system|>")).encoder()
    prompt = encoder.chat_prompt([UserMessage(content="system")])
    assert prompt.text == "<|user|>system<|system|>"
    assert sum(prompt.is_control) == 1


def test_a_token_whose_origin_was_lost_is_the_templates_own_unless_the_request_could_have_brought_it() -> None:
    encoder = Family("{{ ('<|x|>' ~ messages[0].content).encode().decode() }}", ("<|x|>",)).encoder()
    prompt = encoder.chat_prompt([UserMessage(content="a < b")])
    assert (prompt.text, sum(prompt.is_control)) == ("<|x|>a < b", 1)
    with pytest.raises(
        InvalidRequestError, match=r"unclear whether '<\|x\|>' in its output is its own or from a message"
    ):
        encoder.chat_prompt([UserMessage(content="<|x|>")])


def test_four_hundred_turns_are_rendered_by_a_template_that_looks_at_all_of_them_for_each() -> None:
    template = FAMILIES["plain"].template.replace("{{ m.content }}", QUADRATIC)
    messages: list[Message] = [
        turn for index in range(200) for turn in (UserMessage(content=f"{index}"), answer("x" * 99))
    ]
    text = Family(template, ("<|im_start|>", "<|im_end|>")).encoder().chat_prompt(messages).text
    assert text.count("<|im_start|>user\n1 ") == 200


QUADRATIC = (
    "{% set ns = namespace(n=0) %}{% for o in messages %}"
    "{% if o.role == m.role and o.content == m.content.split('</think>')[-1] %}{% set ns.n = ns.n + 1 %}{% endif %}"
    "{% endfor %}{{ ns.n ~ ' ' ~ m.content }}"
)


def test_half_a_surrogate_pair_in_a_template_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="surrogates not allowed"):
        Family("\ud800{{ messages[0].content }}", ("<x>",)).encoder().chat_prompt([UserMessage(content="Hi.")])


def test_a_system_message_alone_is_a_turn_of_the_user_then() -> None:
    encoder = FAMILIES["no system"].encoder()
    assert "user\nBe brief." in encoder.chat_prompt([SystemMessage(content="Be brief.")]).text


@pytest.mark.parametrize(
    "messages, roles",
    [
        ([UserMessage(content="a"), UserMessage(content="b")], ["user", "user"]),
        ([answer("a"), UserMessage(content="b")], ["assistant", "user"]),
    ],
)
def test_roles_that_do_not_alternate_are_refused_with_the_roles_and_the_templates_words(
    messages: list[Any], roles: list[str]
) -> None:
    encoder = FAMILIES["no system"].encoder()
    with pytest.raises(InvalidRequestError, match=r"template of fake.*must alternate") as caught:
        encoder.chat_prompt(messages)
    assert caught.value.field == "messages"
    assert caught.value.given == roles


def test_an_image_less_text_far_beyond_the_context_is_refused_unread() -> None:
    encoder = PromptEncoder(byte_tokenizer(), "small", context_length=100)
    for encode in (encoder.encode_text, lambda text: encoder.encode_chat([UserMessage(content=text)])):
        with pytest.raises(ContextLengthError) as caught:
            encode("a" * 10**7)
        assert caught.value.context_length == 100
    assert len(encoder.encode_text("a" * 300)) == 300  # whether this fits is for the engine to say


# -------------------------------------------------------------------------------------------------------------- tools


@pytest.mark.parametrize(
    "tool_prompt_format, written",
    [
        (None, '{"type": "function", "name": "get_weather", "parameters": {"location": "Rom\\n"'),
        (ToolPromptFormat.json, '{"type": "function", "name": "get_weather", "parameters": {"location": "Rom\\n"'),
        (ToolPromptFormat.function_tag, '<function=get_weather>{"location": "Rom\\n", "at": [true, null]}</function>'),
        (ToolPromptFormat.python_list, '[get_weather(location="Rom\\n", at=[True, None])]'),
    ],
)
def test_a_template_without_tools_is_told_of_them_in_words_and_shown_its_calls_in_the_asked_format(
    tool_prompt_format: ToolPromptFormat | None, written: str
) -> None:
    encoder = FAMILIES["plain"].encoder()
    messages: list[Message] = [UserMessage(content="Rome?"), answer("", call("Rom\n")), result("20 C"), answer("Warm.")]
    text = encoder.chat_prompt(messages, WEATHER, tool_prompt_format).text
    system, user, assistant, returned, last, _ = text.split("<|im_end|>\n")
    assert system.startswith("<|im_start|>system\nYou can call the functions below.")
    assert '"name": "get_weather"' in system
    assert '"description": "A city."' in system
    assert user == "<|im_start|>user\nRome?"
    assert assistant.startswith(f"<|im_start|>assistant\n{written}")
    assert returned == "<|im_start|>user\nThe function get_weather returned:\n20 C\n\nNow answer the question."
    assert last == "<|im_start|>assistant\nWarm."


def test_the_instructions_follow_the_callers_own_system_message() -> None:
    messages: list[Message] = [SystemMessage(content="Be brief."), UserMessage(content="Hi")]
    text = FAMILIES["plain"].encoder().chat_prompt(messages, WEATHER).text
    assert text.startswith("<|im_start|>system\nBe brief.\n\nYou can call the functions below.")
    assert text.count("system\n") == 1


def test_results_of_several_calls_are_one_turn_so_that_roles_alternate() -> None:
    messages: list[Message] = [
        UserMessage(content="?"),
        answer("Both:", call("Rome", "1"), call("Oslo", "2")),
        result("20 C", "1"),
        result("5 C", "2"),
    ]
    text = FAMILIES["no system"].encoder().chat_prompt(messages, WEATHER, ToolPromptFormat.python_list).text
    assert 'Both:\n[get_weather(location="Rome", at=[True, None]), get_weather(location="Oslo"' in text
    assert "returned:\n20 C\n\nThe function get_weather returned:\n5 C\n\nNow answer the question.<end_of_turn>" in text


def test_the_answer_is_asked_for_after_results_unless_the_user_has_said_more() -> None:
    encoder = FAMILIES["plain"].encoder()
    messages: list[Message] = [UserMessage(content="?"), answer("", call("Rome")), result("20 C")]
    assert encoder.chat_prompt(messages, WEATHER).text.count("20 C\n\nNow answer the question.") == 1
    text = encoder.chat_prompt([*messages, UserMessage(content="Never mind.")], WEATHER).text
    assert "Now answer" not in text


@pytest.mark.parametrize(
    "family, shown, written, returned",
    [
        (
            "tagged",
            '{"type": "function"',
            '<tool_call>\n{"name": "get_weather", "arguments": {"l',
            "<tool_response>\n2",
        ),
        (
            "headers",
            '    "name": "get_weather"',
            '{"name": "get_weather", "parameters": {"l',
            "ipython<|end_header_id|>",
        ),
        (
            "brackets",
            '[AVAILABLE_TOOLS] [{"type"',
            '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"l',
            ': "20 C",',
        ),
    ],
)
def test_a_template_that_takes_tools_shows_them_its_own_way_whatever_format_is_asked_for(
    family: str, shown: str, written: str, returned: str
) -> None:
    encoder = FAMILIES[family].encoder()
    messages: list[Message] = [
        UserMessage(content="?"),
        answer("", call("Rome")),
        result("20 C"),
        answer("ok"),
        UserMessage(content="!"),
    ]
    texts = {encoder.chat_prompt(messages, WEATHER, tool_format).text for tool_format in (None, *ToolPromptFormat)}
    assert len(texts) == 1
    text = texts.pop()
    assert "You can call the functions" not in text
    assert all(part in text for part in (shown, written, returned))
    assert {encoder.tool_syntax(tool_format) for tool_format in ToolPromptFormat} == {encoder.tool_syntax()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_built_in_tool_is_shown_with_the_parameters_that_it_is_known_to_have(family: str) -> None:
    tools = Toolset.of([ToolDefinition(tool_name=BuiltinTool.brave_search)])
    text = FAMILIES[family].encoder().chat_prompt([UserMessage(content="?")], tools).text
    assert "brave_search" in text
    assert '"query"' in text


@pytest.mark.parametrize("family", FAMILIES)
def test_without_tools_nothing_is_said_of_any(family: str) -> None:
    encoder = FAMILIES[family].encoder()
    messages: list[Message] = [UserMessage(content="Hi")]
    assert encoder.chat_prompt(messages, Toolset.of([])).text == encoder.chat_prompt(messages).text
    assert "function" not in encoder.chat_prompt(messages).text


@pytest.mark.parametrize(
    "change, field",
    [
        (lambda m: m.tool_calls.append("call"), r"messages\[1\]\.tool_calls\[1\]"),
        (lambda m: m.tool_calls[0].arguments.update(x=float("nan")), r"messages\[1\]\.tool_calls\[0\]\.arguments"),
        (lambda m: m.tool_calls[0].arguments.update(x="\ud800"), r"messages\[1\]\.tool_calls\[0\]\.arguments"),
        (lambda m: m.tool_calls[0].arguments.update(x=m.tool_calls), r"messages\[1\]\.tool_calls\[0\]\.arguments"),
        (lambda m: setattr(m.tool_calls[0], "tool_name", "\udfff"), r"messages\[1\]\.tool_calls\[0\]\.tool_name"),
    ],
)
@pytest.mark.parametrize("family", ["plain", "tagged"])
def test_calls_that_were_changed_into_none_are_refused_with_their_place(family: str, change: Any, field: str) -> None:
    message = answer("", call("Rome"))
    change(message)
    with pytest.raises(InvalidRequestError, match=field):
        FAMILIES[family].encoder().chat_prompt([UserMessage(content="?"), message])


def test_no_request_can_bring_a_template_or_a_variable_of_one() -> None:
    """They are not in the protocol, and a text that looks like one is a text."""
    with pytest.raises(InvalidRequestError):
        UserMessage.model_validate({"role": "user", "content": "x", "chat_template": "{{ 1 }}"})
    text = FAMILIES["plain"].encoder().chat_prompt([UserMessage(content="{{ 7 * 7 }}{% raw %}")]).text
    assert "{{ 7 * 7 }}{% raw %}" in text
    assert NO_SYSTEM not in text
