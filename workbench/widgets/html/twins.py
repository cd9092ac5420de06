"""Static twins of the views of a run: HTML without scripts or external resources, with all text escaped.

A notebook shows them without a kernel: on GitHub, in nbconvert and in print. Hosts may strip styles, so the numbers are
in a table too, and color only adds to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from workbench.protocol import SamplingParams
from workbench.records import Alternative, ModelCard, TokenRecord
from workbench.widgets.branches import perplexity
from workbench.widgets.contract import RunLike
from workbench.widgets.format import (
    STATE_WORDS,
    duration,
    fixed,
    in_unit,
    information,
    parameter_count,
    percent,
    percent_of,
    stop_words,
    strength,
    surprisal,
    token_count,
    visible,
)
from workbench.widgets.sampling_words import sampling_phrases
from workbench.widgets.wire.run import error_text, label, prompt_pieces, steps_of, whole_pieces

# A longer table is cut and marked as such, to keep notebooks readable.
MOST_ROWS = 60
# MathJax would typeset a dollar sign in a model's text; both names are its own opt-outs.
_UNTOUCHED = "mathjax_ignore tex2jax_ignore"
_HEAT = "217,119,6"
_COOL = "79,110,190"
_BAR = "91,127,181"
_SHOWN_ALTERNATIVES = 3


def run_html(run: RunLike, unit: str = "bits") -> str:
    """Return a run as HTML: its text with each token's probability, its metrics, and a table of its first tokens."""
    return document(given_html(run), text_html(run), metrics_html(run), tokens_html(steps_of(run), run.end, unit))


def read_html(runs: Sequence[RunLike], texts: Sequence[str], unit: str) -> str:
    """Return the texts that were read, one below the other; before the first run, the texts to read."""
    if not runs:
        return document(*map(prompt_block, texts), line("Not read yet."))
    return document(*(run_html(run, unit) for run in runs))


def playground_html(run: RunLike | None, prompt: str, model: str | None, params: SamplingParams, unit: str) -> str:
    """Return the run with its settings; before the first run, the settings alone.

    Facts of the machine, such as memory, are left out, because stored outputs of lessons are compared on other
    machines.
    """
    if run is not None:
        return document(sampling_html(run.sampling_params), run_html(run, unit))
    return document(line(model or "No model is served."), sampling_html(params), stream_html(None, prompt))


def stream_html(run: RunLike | None, prompt: str, color_by: str = "surprisal") -> str:
    if run is not None:
        return document(given_html(run, color_by), text_html(run, color_by), metrics_html(run))
    return document(prompt_block(prompt), line("No run yet."))


def feed_html(run: RunLike | None) -> str:
    return document(line("No run yet.") if run is None else text_html(run))


def given_html(run: RunLike, color_by: str = "surprisal") -> str:
    """Return the prompt of a run, with measured tokens colored; nothing for a reading, whose text is its prompt."""
    if run.reads:
        return ""
    pieces = prompt_pieces(run)
    if not pieces:
        return prompt_block(_prompt_text(run.prompt))
    spans = (_token_span(token, piece, color_by) for token, piece in pieces)
    return _serif(f'<span style="font-style:italic">{"".join(spans)}</span>')


def text_html(run: RunLike, color_by: str = "surprisal") -> str:
    """Return the text, each token with its numbers as title and surprisal, or another of ``COLORS``, as background."""
    tokens, pieces = whole_pieces(run)
    spans = [_token_span(token, piece, color_by) for token, piece in zip(tokens, pieces, strict=True)]
    end = "" if run.end is None else _control_token(run.end)
    return _serif(("".join(spans) or escape(shown(run.text))) + end)


def _serif(text: str) -> str:
    style = "white-space:pre-wrap;overflow-wrap:anywhere;font-family:Georgia,serif;line-height:1.8;margin:0.5em 0"
    return f'<pre dir="auto" style="{style}">{text}</pre>'


def metrics_html(run: RunLike) -> str:
    usage = run.usage
    prompt = f"{usage.prompt_tokens} prompt token{'' if usage.prompt_tokens == 1 else 's'}"
    kept = f" and {usage.kept_tokens} kept" if usage.kept_tokens else ""
    cached = f" ({usage.reused_tokens} cached)" if usage.reused_tokens else ""
    facts = [f"{prompt}{kept}{cached}", f"{usage.generated_tokens} generated"]
    if run.reads:
        perplexed = perplexity(run.tokens)
        facts = [token_count(len(run.tokens))]
        facts += [f"perplexity {fixed(perplexed, 2)}"] if perplexed is not None else []
    if usage.decode_tokens_per_s is not None:
        facts.insert(0, f"{usage.decode_tokens_per_s:.0f} tokens/s")
    if usage.time_to_first_token_s is not None and not run.reads:
        facts.append(f"first token {duration(usage.time_to_first_token_s)}")
    stopped = stop_words(run.stop_reason)
    has_stopped = run.state == "finished" and stopped is not None
    facts.append(f"stopped: {stopped}" if has_stopped else STATE_WORDS.get(run.state, run.state))
    error = run.error if run.state == "failed" else None
    problem = "" if error is None else f"<p><strong>{escape(shown(error_text(error)))}</strong></p>"
    return line(" · ".join([run.model, *facts])) + problem


def tokens_html(tokens: Sequence[TokenRecord], end: TokenRecord | None = None, unit: str = "bits") -> str:
    """Return a table of the first tokens.

    Args:
        end: the token among them with which the model ended its turn.
        unit: unit of surprisal and entropy.
    """
    if not tokens:
        return line("No tokens yet.")
    names = ("#", "token", "id", "probability", f"surprisal, {unit}", "rank", f"entropy, {unit}")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    head += '<th scope="col" style="text-align:left">alternatives</th>'
    rows = "".join(_token_row(token, unit, is_end=token is end) for token in tokens[:MOST_ROWS])
    rest = rest_line(len(tokens))
    return document(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}")


def token_html(token: TokenRecord | None, *, is_end: bool = False, unit: str = "bits") -> str:
    """Return one token with its alternatives, the sampled one in bold; for the end token, with the number before it."""
    if token is None:
        return document(line("No token is selected."))
    facts = [_title(token)]
    facts += [information(surprisal(token.logprob), unit, 1)] if math.isfinite(token.logprob) else []
    said = ", ".join([*facts, f"id {token.token_id}"])
    candidates: list[TokenRecord | Alternative] = sorted(
        [token, *token.alternatives], key=lambda candidate: -candidate.logprob
    )
    rows = "".join(_candidate_row(candidate, is_sampled=candidate is token) for candidate in candidates)
    name = f"End token, after {token_count(token.position)}" if is_end else f"Token {token.position + 1}"
    return document(line(f"{name}: {said}"), f"<table><tbody>{rows}</tbody></table>")


def waterfall_html(picture: Mapping[str, Any]) -> str:
    """Return ``waterfall_wire`` as HTML: its sentence, the tokens by stage, and the token that was drawn."""
    if not picture:
        return document(line("No token is selected."))
    title = f"How {picture['name']} was chosen"
    if "error" in picture:
        return document(line(title), line(picture["error"]))
    stages = picture["stages"]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("token", *(stage["title"] for stage in stages)))
    rows = [
        _stage_row(code(name), shares, stages, is_chosen=token_id == picture["chosen"][0])
        for token_id, name, shares in picture["rows"]
    ]
    others = picture["others"]
    rows.append(_stage_row(f"{others['count']:,} others", others["shares"], stages, is_chosen=False))
    cut = "".join(f"<td>{escape(percent(stage['removed'])) if stage['removed'] else '–'}</td>" for stage in stages)
    left = "".join(f"<td>{stage['kept']:,}</td>" for stage in stages)
    foot = f'<tr><th scope="row">tokens left</th>{left}</tr><tr><th scope="row">probability cut</th>{cut}</tr>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}{foot}</tbody></table>"
    start, end = picture["span"]
    where = f"On the cumulative axis, “{visible(picture['chosen'][1])}” lies from {fixed(start, 4)} to {fixed(end, 4)}."
    return document(line(title), line(picture["summary"]), table, line(where))


def card_html(card: ModelCard | None) -> str:
    if card is None:
        return document(line("No model is served."))
    facts = [
        None if card.parameters is None else parameter_count(card.parameters),
        card.precision,
        None if card.adapter is None else f"with the adapter {Path(card.adapter).name}",
        None if card.device in (None, "cpu") else f"on {card.device}",
        None if card.context_length is None else f"{card.context_length:,}-token context",
        card.licence,
        None if card.template_sha256 is None else f"template {card.template_sha256[:12]}",
    ]
    known = [fact for fact in facts if fact]
    return document(line(" · ".join([f"{card.provider_id}/{card.identifier}", *known])))


def sampling_html(params: SamplingParams) -> str:
    return document(line(" · ".join(sampling_phrases(params))))


def document(*parts: str) -> str:
    """Return parts as HTML that MathJax does not typeset."""
    return f'<div class="{_UNTOUCHED}">{"".join(parts)}</div>'


def line(text: str) -> str:
    return f"<p>{escape(shown(text))}</p>"


def rest_line(count: int) -> str:
    """Return a line with the number of rows left out; nothing if all are shown."""
    left = count - MOST_ROWS
    return line(f"{left} more token{'' if left == 1 else 's'}.") if left > 0 else ""


def prompt_block(prompt: str) -> str:
    style = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0.5em 0"
    return f'<pre dir="auto" style="{style}">{escape(shown(prompt))}</pre>'


def _prompt_text(prompt: object) -> str:
    """Return the last message of a chat, or the text itself."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Iterable):
        contents = [getattr(message, "content", message) for message in prompt]
        return contents[-1] if contents and isinstance(contents[-1], str) else ""
    return ""


def _token_span(token: TokenRecord, piece: str, color_by: str) -> str:
    if token.is_special:
        return _control_token(token)
    if not math.isfinite(token.logprob):
        return f"<span>{escape(shown(piece))}</span>"
    color = 0.52 * strength(token.logprob, token.entropy, color_by)
    hue = _COOL if color_by == "entropy" else _HEAT
    style = f' style="background:rgba({hue},{color:.2f})"' if color > 0 else ""
    word = (
        piece.removeprefix(" ") or piece
    )  # the leading space may be at the end of the previous line, where its color would be misplaced
    return f'{piece[: len(piece) - len(word)]}<span title="{escape(_title(token))}"{style}>{escape(shown(word))}</span>'


def _control_token(token: TokenRecord) -> str:
    return f'<small title="{escape(_title(token))}">{escape(shown(token.text))}</small>'


def _title(token: TokenRecord) -> str:
    known = math.isfinite(token.logprob)
    return f"{percent_of(token.logprob)}, rank {token.rank}" if known else "probability unknown"


def _token_row(token: TokenRecord, unit: str, *, is_end: bool) -> str:
    instead = "  ".join(
        f"{visible(label(item.text, item.bytes))} {percent_of(item.logprob)}"
        for item in token.alternatives[:_SHOWN_ALTERNATIVES]
    )
    cells = [
        "end" if is_end else str(token.position + 1),
        code(label(token.text, token.bytes)),
        str(token.token_id),
        escape(percent_of(token.logprob)),
        fixed(in_unit(surprisal(token.logprob), unit), 2),
        str(token.rank) if token.rank else "–",
        fixed(in_unit(token.entropy, unit), 2),
    ]
    last = f'<td style="text-align:left"><code>{escape(instead)}</code></td>'
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}{last}</tr>"


def _candidate_row(candidate: TokenRecord | Alternative, *, is_sampled: bool) -> str:
    cells = [code(label(candidate.text, candidate.bytes)), escape(percent_of(candidate.logprob))]
    written = [f"<strong>{cell}</strong>" if is_sampled else cell for cell in cells]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in written)}</tr>"


def _stage_row(name: str, shares: Sequence[float], stages: Sequence[Mapping[str, Any]], *, is_chosen: bool) -> str:
    cells = "".join(
        _cut_cell(before) if share == 0 and stage["cuts"] else _bar_cell(share)
        for before, share, stage in zip((1.0, *shares), shares, stages, strict=False)
    )
    said = f"<strong>{name}</strong> picked" if is_chosen else name
    return f'<tr><th scope="row" style="text-align:left;font-weight:normal">{said}</th>{cells}</tr>'


def _cut_cell(before: float) -> str:
    return f"<td>{'cut' if before > 0 else '–'}</td>"


def _bar_cell(share: float) -> str:
    end = f"{100 * share:.1f}%"
    bar = f"background:linear-gradient(90deg,rgba({_BAR},0.35) {end},transparent {end})"
    return f'<td style="{bar}">{escape(percent(share))}</td>'


def code(text: str) -> str:
    return f"<code>{escape(visible(text))}</code>"


def shown(text: str) -> str:
    """Return a text with Unicode control pictures for control characters, which HTML does not allow."""
    return "".join(char if char in "\n\t" or char.isprintable() or char.isspace() else visible(char) for char in text)
