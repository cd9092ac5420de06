"""The static twins: what a notebook shows without a kernel."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.budget import some
from tests.unit.widgets.fake_session import FakeRun, FakeSession, token
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.recorded_page import Page
from workbench.analysis.comparison import Comparison
from workbench.protocol import UserMessage
from workbench.records import Alternative, TokenRecord
from workbench.widgets import SamplingWaterfall, TokenInspector, TokenTable, TokenTree, playground, run_html
from workbench.widgets.format import visible
from workbench.widgets.html.comparison import compare_html
from workbench.widgets.html.tree import tree_html
from workbench.widgets.html.twins import MOST_ROWS, token_html, tokens_html

TAGS = {"div", "p", "pre", "span", "table", "thead", "tbody", "tr", "th", "td", "code", "strong", "small", "sup"}
ATTRIBUTES = {"class", "dir", "style", "title", "scope"}


class Reader(HTMLParser):
    """Refuses every tag and attribute that is not ours, and keeps the text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        assert re.search(r"<(?![a-z/])", html) is None, "a sign that is no tag's is escaped"
        self.text = ""
        self.titles: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, name
            assert "url(" not in (value or ""), value
            if name == "title":
                self.titles.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)


def finished(run: FakeRun) -> FakeRun:
    run.step(10_000)
    return run


def with_alternative(text: str) -> TokenRecord:
    other = Alternative(7, text, text.encode(), -2.0, 2)
    return TokenRecord(0, 5, text, text.encode(), -0.5, 1, 1.0, alternatives=(other,))


def shown(text: str) -> str:
    """As it reads: control characters as pictures, white space as it is."""
    return "".join(char if char in "\n\t" or char.isprintable() or char.isspace() else visible(char) for char in text)


def test_there_are_forty_payloads_and_more() -> None:
    assert len(set(PAYLOADS)) >= 40


@pytest.mark.parametrize("payload", some(PAYLOADS))
def test_whatever_the_model_says_reads_as_text(payload: str) -> None:
    run = finished(FakeRun(records=[with_alternative(payload)], prompt=[UserMessage(content=payload)], model=payload))
    html = run_html(run)
    text = Reader(html).text
    assert text.count(shown(payload)) >= 3  # prompt, model and answer
    assert text.count(visible(payload)) >= 2  # the token and its alternative
    assert "\x00" not in html
    assert "\x1b" not in html


@pytest.mark.parametrize("payload", some(PAYLOADS))
def test_an_error_reads_as_text_too(payload: str) -> None:
    run = finished(FakeRun(texts=["a"], error=RuntimeError(payload)))
    assert shown(payload).strip() in Reader(run_html(run)).text


def test_no_typesetter_takes_the_text_for_mathematics() -> None:
    assert run_html(finished(FakeRun())).startswith('<div class="mathjax_ignore tex2jax_ignore">')


def test_a_runs_twin_has_the_text_the_numbers_and_the_reason_of_the_end() -> None:
    run = finished(FakeRun())
    reader = Reader(run_html(run))
    assert run.text in reader.text
    assert "44 generated" in reader.text
    assert "stopped: end of turn" in reader.text
    assert reader.titles[2].startswith("13.0 %, rank")


def test_a_twin_says_how_likely_the_end_was_and_what_else_could_have_come(page: Page) -> None:
    end = replace(token(44, "<|im_end|>"), logprob=math.log(0.625), is_special=True)
    run = finished(FakeRun(end=end))
    reader = Reader(run_html(run))
    assert reader.titles[-1] == f"62.5 %, rank {end.rank}"
    assert run.text + "<|im_end|>" in reader.text
    assert "end<|im_end|>" in reader.text  # its row in the table
    inspector = TokenInspector(run)
    inspector.feed.selected = 44
    assert "End token, after 44 tokens: 62.5 %" in Reader(inspector.static_html()).text


def test_surprisal_and_entropy_have_one_unit_which_is_named(page: Page) -> None:
    record = replace(token(0, "x"), logprob=-2 * math.log(2), entropy=3 * math.log(2))
    table = TokenTable(finished(FakeRun(records=[record])))
    inspector = TokenInspector(feed=table.feed)
    table.selected = 0
    for unit, surprisal, entropy, rounded in [("bits", "2.00", "3.00", "2.0"), ("nats", "1.39", "2.08", "1.4")]:
        table.feed.unit = unit
        html = table.static_html()
        for said in (f'<th scope="col">surprisal, {unit}</th>', f"<td>{surprisal}</td>", f"<td>{entropy}</td>"):
            assert said in html
        assert f"entropy, {unit}" in html
        assert f"25.0 %, rank {record.rank}, {rounded} {unit}, id" in inspector.static_html()


def test_tokens_are_counted_from_one(page: Page) -> None:
    run = finished(FakeRun(end=replace(token(44, "<|im_end|>"), is_special=True)))
    inspector, tree = TokenInspector(run), TokenTree([run, finished(FakeRun("run-2", texts=["Else"]))])
    inspector.feed.selected = 0
    waterfall = SamplingWaterfall(feed=inspector.feed)
    assert waterfall.wait(60)
    assert "Token 1: " in inspector.static_html()
    assert "How token 1 was chosen" in waterfall.static_html()
    assert "<td>1</td><td><code>The</code>" in tokens_html(run.tokens)
    assert "<td>44</td>" in tokens_html(run.tokens)
    assert "<td>1</td><td>1</td><td><code>Else" in tree.static_html()
    inspector.feed.selected = 44
    assert waterfall.wait(60)
    assert "How the end token was chosen" in waterfall.static_html()


def test_the_space_before_a_word_has_no_colour() -> None:
    html = run_html(finished(FakeRun(texts=["One", " two", " ", "\n"])))
    assert ">One</span> <span title=" in html
    assert ">two</span><span title=" in html
    assert "> </span><span title=" in html
    assert "One two \n" in Reader(html).text


def test_a_long_table_is_cut_and_says_so() -> None:
    tokens = [token(i, f" t{i}") for i in range(MOST_ROWS + 5)]
    text = Reader(tokens_html(tokens)).text
    assert f"t{MOST_ROWS - 1}" in text
    assert f"t{MOST_ROWS}" not in text
    assert "5 more tokens." in text


def test_numbers_that_nobody_knows_are_dashes() -> None:
    unknown = TokenRecord(0, 5, "x", b"x", math.nan, 0, math.nan)
    reader = Reader(tokens_html([unknown]) + token_html(unknown))
    assert "nan" not in reader.text


def test_a_share_that_is_too_small_to_write_out_is_text() -> None:
    rare = replace(with_alternative("x"), logprob=-20.0)
    parted = [{"parent": 0, "own": ["x", -20.0], "instead": ["y", -20.0], "name": 1, "shown": True, "at": 0}]
    branches = [{**one, "count": 1, "perplexity": 2.0, "text": ""} for one in parted]
    runs = [finished(FakeRun(records=[replace(rare, token_id=token_id)])) for token_id in (5, 6)]
    sides = [{"letter": letter, "model": "tiny", "settings": ""} for letter in "AB"]
    comparison = Comparison(runs)
    comparison.wait(60)
    for html in (tokens_html([rare]), token_html(rare), tree_html(branches), compare_html(comparison, sides, "Hi")):
        assert "< 0.0001 %" in Reader(html).text


def test_every_widget_has_a_twin_and_a_stable_name(page: Page) -> None:
    opened = playground(FakeSession(tokens_per_s=5000))
    opened.start("Hello").wait(60)
    assert opened.feed.wait(60)
    opened.selected = 3
    assert opened.waterfall.wait(60)
    parts = (
        opened.picker,
        opened.controls,
        opened.stream,
        opened.inspector,
        opened.waterfall,
        opened.table,
        opened.feed,
    )
    for part in (opened, *parts):
        bundle, metadata = part._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
        assert metadata == {}
        assert "0x" not in bundle["text/plain"]
        Reader(bundle["text/html"])


def test_a_closed_widget_is_shown_as_its_twin_alone(page: Page) -> None:
    opened = playground(FakeSession(tokens_per_s=5000))
    run = opened.start("Hello")
    run.wait(60)
    opened.close()
    bundle, _ = opened._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert run.text in Reader(bundle["text/html"]).text
