"""Python code that reproduces a run, for "Copy as code"; it runs without changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from workbench.protocol import LogProbConfig, SamplingParams
from workbench.records import Breakpoint
from workbench.widgets.contract import RunLike

_PREAMBLE = """import workbench as wb

bench = wb.Workbench()  # or the workbench that is open
"""


def sampling_code(params: SamplingParams, *, prefix: str = "wb.") -> str:
    """Return the constructor call, with the fields that differ from their defaults."""
    defaults = {name: field.default for name, field in SamplingParams.model_fields.items()}
    values = {name: getattr(params, name) for name in defaults}
    arguments = [f"{name}={_literal(value)}" for name, value in values.items() if value not in (defaults[name], [])]
    return f"{prefix}SamplingParams({', '.join(arguments)})"


def call_code(
    prompt: str,
    *,
    mode: str,
    model: str | None,
    params: SamplingParams,
    logprobs: LogProbConfig,
    breakpoints: Sequence[Breakpoint] = (),
) -> str:
    """Return the code of a run.

    Args:
        prompt: text of the user's turn, or the text to continue.
        mode: ``chat`` or ``completion``.
        model: None leaves the choice to the session.
        params, logprobs, breakpoints: as given to the call.
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
    wait = "run.wait_for_pause()  # then run.resume()" if breakpoints else "run.result()"
    return f"{_PREAMBLE}run = {_call(method, arguments)}\n{wait}"


def read_code(texts: Sequence[str], *, model: str | None, alternatives: int) -> str:
    """Return the code that reads texts and measures their surprisal; arguments as in `call_code`."""
    arguments = [*map(_literal, texts)]
    if model is not None:
        arguments.append(f"model={_literal(model)}")
    return _PREAMBLE + _call("read", [*arguments, f"alternatives={alternatives}"])


def compare_code(
    prompt: str, *, models: Sequence[str], params: Sequence[SamplingParams], mode: str, alternatives: int
) -> str:
    """Return the code of a comparison; one model and one set of parameters for each side."""
    sides = ", ".join(map(_literal, models)), ", ".join(map(sampling_code, params))
    content = [_literal(prompt)] if prompt.strip() else []
    arguments = [*content, f"models=[{sides[0]}]", f"sampling_params=[{sides[1]}]", f"mode={_literal(mode)}"]
    return _PREAMBLE + _call("compare", [*arguments, f"alternatives={alternatives}"])


def _call(method: str, arguments: Sequence[str]) -> str:
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"bench.{method}(\n{lines})"


def branch_code(run: RunLike, *, logprobs: LogProbConfig) -> str:
    """Return the code of a branch: that of its first ancestor, then each branch down to it.

    Args:
        run: a branch of a user's turn or of a text to continue.
        logprobs: as given to the first call.
    """
    if run.parent is None:
        is_chat = not isinstance(run.prompt, str)
        prompt = run.prompt[-1].content if is_chat else run.prompt
        mode = "chat" if is_chat else "completion"
        return call_code(prompt, mode=mode, model=run.model, params=_seeded(run), logprobs=logprobs)
    at = run.branched_at or 0
    arguments = [str(at), *(str(token.token_id) for token in run.tokens[at : at + 1])]
    if _seeded(run) != _seeded(run.parent):
        arguments.append(f"sampling_params={sampling_code(_seeded(run))}")
    chosen = "".join(f"  # {_literal(token.text)}" for token in run.tokens[at : at + 1])
    step = f"run = run.branch({', '.join(arguments)}){chosen}\nrun.result()"
    return f"{branch_code(run.parent, logprobs=logprobs)}\n{step}"


def _seeded(run: RunLike) -> SamplingParams:
    """Return a run's parameters with the seed that it used."""
    params = run.sampling_params
    return params if run.seed is None else params.model_copy(update={"seed": run.seed})


def _logprobs_code(logprobs: LogProbConfig) -> str:
    return f"wb.LogProbConfig(top_k={logprobs.top_k}{', prompt=True' if logprobs.prompt else ''})"


def _breakpoint_code(one: Breakpoint) -> str:
    values = {item.name: getattr(one, item.name) for item in fields(one) if getattr(one, item.name) != item.default}
    return f"wb.Breakpoint({', '.join(f'{name}={_literal(value)}' for name, value in values.items())})"


def _literal(value: Any) -> str:
    """Return a Python literal on one line; text is double-quoted, and non-ASCII characters are not escaped."""
    if isinstance(value, str):
        return _text(str(value))
    if isinstance(value, list):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return repr(value)


def _text(text: str) -> str:
    # JSON's escapes are valid in Python too. Characters that editors do not show are escaped.
    written = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escape(char) for char in written)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
