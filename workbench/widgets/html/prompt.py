"""The static twin of a prompt: its text with control tokens in bold, and a table of its first tokens."""

from __future__ import annotations

from html import escape

from workbench.records import Prompt, PromptToken
from workbench.widgets.html.twins import MOST_ROWS, code, document, line, rest_line, shown
from workbench.widgets.wire.run import label


def prompt_html(prompt: Prompt | None, message: str) -> str:
    if prompt is None:
        return document(line(message))
    # Adjacent tokens may share a character, so runs of tokens are decoded together.
    text = "".join(_stretch(raw, is_control=is_control) for raw, is_control in _stretches(prompt.tokens))
    style = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0.5em 0"
    head = "".join(f'<th scope="col">{name}</th>' for name in ("#", "token", "id", "control token"))
    rows = "".join(_row(index, token) for index, token in enumerate(prompt.tokens[:MOST_ROWS]))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    rest = rest_line(len(prompt.tokens))
    return document(line(prompt_summary(prompt)), f'<pre dir="auto" style="{style}">{text}</pre>', table, rest)


def prompt_summary(prompt: Prompt, most: int | None = None) -> str:
    """Return the number of tokens and their origin.

    Args:
        most: number of tokens shown; None for all.
    """
    count, control = len(prompt.tokens), sum(token.is_control for token in prompt.tokens)
    facts = [f"{count:,} token{'' if count == 1 else 's'}", f"{control} control token{'' if control == 1 else 's'}"]
    facts += [f"first {most:,} shown"] if most is not None and count > most else []
    facts += [f"tool calls: {prompt.tool_syntax}"] if prompt.tool_syntax else []
    facts += [f"template {prompt.template_sha256[:12]}"] if prompt.template_sha256 else []
    return " · ".join(facts)


def _stretches(tokens: tuple[PromptToken, ...]) -> list[tuple[bytes, bool]]:
    """Return the bytes of adjacent text tokens joined, and each control token alone."""
    stretches: list[tuple[bytes, bool]] = []
    for token in tokens:
        if stretches and not token.is_control and not stretches[-1][1]:
            stretches[-1] = (stretches[-1][0] + token.bytes, False)
        else:
            stretches.append((token.text.encode() if token.is_control else token.bytes, token.is_control))
    return stretches


def _stretch(raw: bytes, *, is_control: bool) -> str:
    text = escape(shown(raw.decode(errors="replace")))
    return f"<strong>{text}</strong>" if is_control else text


def _row(index: int, token: PromptToken) -> str:
    cells = [
        str(index + 1),
        code(label(token.text, token.bytes)),
        str(token.token_id),
        "yes" if token.is_control else "–",
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
