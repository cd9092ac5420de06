"""The text that HTML shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.providers.memory.html import visible_text


@pytest.mark.parametrize(
    "html,text",
    [
        ("<html><head><title>no</title></head><body>yes</body></html>", "yes"),
        ("a<br>b<p>c</p>d", "a\nb\nc\nd"),
        ("one  two\n three", "one two three"),
        ("<ul><li>a<li>b</ul>", "a\nb"),
        ("<tr><td>a</td><td>b</td></tr>", "a b"),
        ("x<pre>a\n\n  b</pre>y", "x\na\n\n  b\ny"),
        ("<p hidden>no<p>yes", "yes"),
        ("<ul><li hidden>no<li>yes</ul><div><i hidden>no</div>yes", "yes\nyes"),
        ("<div hidden><div>no</div>no</div>yes</div>", "yes"),
        ("<b>bo</b>ld", "bold"),
        ("x<script>y()</script><style>z{}</style><template>t</template><noscript>n</noscript>", "x"),
        ("x<!-- y --><?z?><!DOCTYPE html>", "x"),
        ("<p hidden>no<b>no</b></p>yes", "yes"),
        ('<div style="color:red; display : none">no</div>yes<i style="visibility:hidden">no</i>', "yes"),
        ("&lt;b&gt; &amp; &eacute; &#x1F600;", "<b> & é 😀"),
        ("<svg><text>no</text></svg><select><option>no</select>", ""),
        ("", ""),
        ("<", "<"),
    ],
)
def test_the_visible_text(html: str, text: str) -> None:
    assert visible_text(html) == text


@pytest.mark.parametrize("piece", ["<div><b>", "<div hidden>", "</p>", "<p hidden>", "<ul><li hidden></ul>"])
def test_long_pages_and_deep_nesting_do_no_harm(piece: str) -> None:
    assert visible_text("first<br>" + piece * 50_000).startswith("first")


@given(text=st.text(st.sampled_from("<>/!-&;'\"= abpscript\n")))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert visible_text(text) == visible_text(text).strip()
