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
        ("a<br>b<p>c</p>d", "a\nb\nc\n\nd"),
        ("one  two\n three", "one two three"),
        ("<ul><li>a<li>b</ul>", "a\n\nb"),
        ("<tr><td>a</td><td>b</td></tr>", "a b"),
        ("<pre>a\n  b</pre>", "a\n b"),
        ("<b>bo</b>ld", "bold"),
        ("x<script>y()</script><style>z{}</style><template>t</template><noscript>n</noscript>", "x"),
        ("x<!-- y --><?z?><!DOCTYPE html>", "x"),
        ("<p hidden>no<b>no</b></p>yes", "yes"),
        ('<div style="color:red; display : none">no</div>yes<i style="visibility:hidden">no</i>', "yes"),
        ("&lt;b&gt; &amp; &eacute; &#x1F600;", "<b> & é 😀"),
        ("<svg><text>no</text></svg><select><option>no</select>", ""),
        ("", ""),
        ("<", "<"),
        ("<p", ""),
    ],
)
def test_the_visible_text(html: str, text: str) -> None:
    assert visible_text(html) == text


def test_deep_nesting_does_no_harm() -> None:
    assert visible_text("<div><b>" * 20_000 + "deep") == "deep"


@given(text=st.text(st.sampled_from("<>/!-&;'\"= abpscript\n")))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert visible_text(text) == visible_text(text).strip()
