"""A run as the Python that makes it, for "Copy as code"; it runs as it stands after ``import workbench as wb``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from workbench.protocol import LogProbConfig, SamplingParams
from workbench.steering import Breakpoint


def sampling_code(params: SamplingParams, *, prefix: str = "wb.") -> str:
    """The constructor call, with the fields that differ from their defaults."""
    defaults = {name: field.default for name, field in SamplingParams.model_fields.items()}
    given = {name: getattr(params, name) for name in defaults}
    arguments = [f"{name}={_literal(value)}" for name, value in given.items() if value not in (defaults[name], [])]
    return f"{prefix}SamplingParams({', '.join(arguments)})"


def call_code(
    prompt: str,
    *,
    mode: str,
    model: str | None,
    params: SamplingParams,
    logprobs: LogProbConfig,
    breakpoints: Sequence[Breakpoint] = (),
    session: str = "bench",
) -> str:
    """The facade call of a run.

    Args:
        prompt: text of the user's turn, or the text to continue.
        mode: ``chat`` or ``completion``.
        model: None leaves the choice to the session.
        params, logprobs, breakpoints: as given to the call.
        session: name of the variable that holds the ``Workbench``.
    """
    method, content = ("completion", _literal(prompt))
    if mode == "chat":
        method, content = "chat_completion", f"[wb.UserMessage(content={_literal(prompt)})]"
    arguments = [content]
    if model is not None:
        arguments.append(f"model={_literal(model)}")
    arguments += [f"sampling_params={sampling_code(params)}", f"logprobs={_logprobs_code(logprobs)}"]
    if breakpoints:
        arguments.append(f"breakpoints=[{', '.join(map(_breakpoint_code, breakpoints))}]")
    return f"run = {_call(f'{session}.{method}', arguments)}\nrun.result()"


def read_code(texts: Sequence[str], *, model: str | None, alternatives: int, session: str = "bench") -> str:
    """The facade call that shows how surprising texts are; arguments as in `call_code`."""
    arguments = [*map(_literal, texts)]
    if model is not None:
        arguments.append(f"model={_literal(model)}")
    return _call(f"{session}.read", [*arguments, f"alternatives={alternatives}"])


def compare_code(
    prompt: str,
    *,
    models: Sequence[str],
    params: Sequence[SamplingParams],
    mode: str,
    alternatives: int,
    session: str = "bench",
) -> str:
    """The facade call that compares; one model and one set of parameters for each side."""
    sides = ", ".join(map(_literal, models)), ", ".join(map(sampling_code, params))
    arguments = [_literal(prompt), f"models=[{sides[0]}]", f"sampling_params=[{sides[1]}]", f"mode={_literal(mode)}"]
    return _call(f"{session}.compare", [*arguments, f"alternatives={alternatives}"])


def _call(function: str, arguments: Sequence[str]) -> str:
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"{function}(\n{lines})"


def _logprobs_code(logprobs: LogProbConfig) -> str:
    return f"wb.LogProbConfig(top_k={logprobs.top_k}{', prompt=True' if logprobs.prompt else ''})"


def _breakpoint_code(one: Breakpoint) -> str:
    given = {item.name: getattr(one, item.name) for item in fields(one) if getattr(one, item.name) != item.default}
    return f"wb.Breakpoint({', '.join(f'{name}={_literal(value)}' for name, value in given.items())})"


def _literal(value: Any) -> str:
    """A Python literal on one line; text in double quotes, with other scripts left readable."""
    if isinstance(value, str):
        return _text(str(value))
    if isinstance(value, list):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return repr(value)


def _text(text: str) -> str:
    # JSON's escapes are Python's too. Characters that no editor shows are written out.
    written = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escape(char) for char in written)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
