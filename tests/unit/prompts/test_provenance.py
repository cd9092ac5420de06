"""Whatever a template does with a text: it comes out as Jinja alone makes it, and each character's origin is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.budget import budget, some
from workbench.prompts.jinja_environment import environment, known
from workbench.prompts.provenance import LOST, TEMPLATE, Traced, marks_of, message_index, message_mark

EXPRESSIONS = (
    *(
        "x",
        "x + y",
        "x ~ y",
        "'a' + x",
        "x + 'b'",
        "'<' ~ x ~ '>' ~ 1 ~ none ~ 2.5",
        "x * 2",
        "2 * x",
        "(x ~ 'ab')[::-1]",
    ),
    *("(x ~ 'ab')[1:-1]", "x[0]", "x | list | join", "[x, 'a', y] | join('-')", "[x, y] | join", "'-'.join([x, 'b'])"),
    *("x.split('<')[0]", "('a<' ~ x).split('<') | last", "x.rsplit('<', 1) | join('+')", "x.split() | join(' ')"),
    *("x.splitlines() | join('!')", "x.partition('<') | join('|')", "x.rpartition('<') | join('|')", "x | reverse"),
    *(
        "('ab' ~ x) | trim('ba')",
        "x.strip() ~ x.lstrip('α') ~ x.rstrip('β<')",
        "x.removeprefix('α') ~ y.removesuffix('β')",
    ),
    *("x | replace('<', 'a')", "('a' ~ x).replace('a', y)", "x.replace('', '-')", "x | upper", "('ab' ~ x).upper()"),
    *(
        "('ab ' ~ x) | capitalize",
        "x.title()",
        "('ab' ~ x).swapcase()",
        "('ab' ~ x ~ 'c') | center(30)",
        "x.ljust(9, '.')",
    ),
    *(
        "('a' ~ x).rjust(20, '-')",
        "'%s, %5s' % (x, y)",
        "'%s' | format(x)",
        "'{} {a:>9}'.format(x, a=y)",
        "'{0}{0}'.format(x)",
    ),
    *(
        "('a\n' ~ x) | indent(2)",
        "('a\n' ~ x ~ '\n\n') | indent('> ', true, true)",
        "('a' ~ x) | truncate(6, true, '..', 0)",
    ),
    *("('ab cd ' ~ x) | wordwrap(5)", "('a' ~ x) | tojson", "{'a': x, 'b': [y, 'c', 1, none]} | tojson(indent=2)"),
    *(
        "{'b': x, 'a': y} | tojson(sort_keys=true)",
        "[x, 'a'] ~ ''",
        "{'a': x} | string",
        "('ab' ~ x) | e",
        "x | e | upper",
    ),
    *(
        "('a' ~ x | safe) ~ '<'",
        "(x | safe) + '<b>'",
        "'<b>' + (x | safe)",
        "('<%s>' | safe) % x",
        "[x, 'a'] | map('upper') | join",
    ),
    *(
        "{'a': x, 'b': 'c'} | xmlattr",
        "x | first ~ x | last",
        "[x, y, x] | unique | join(' ')",
        "[y, x] | sort | join",
        "x | d('a')",
    ),
    *(
        "'a' if '<' in x else y",
        "x if x == y else 'b'",
        "x | length ~ 'a'",
        "(x | wordcount) ~ y",
        "x.find('<') ~ x.count('α')",
    ),
    *("x | pprint", "x | urlencode | length", "x | striptags", "('a\t' ~ x).expandtabs(4)", "x.encode() | length"),
    *(
        "dict(a=x).a ~ dict(a=y)['a']",
        "namespace(a=x).a",
        "[x, y] | batch(1) | map('first') | join",
        "(x ~ 'ab').casefold()",
    ),
    *("[[x, 'a'], [y, 'b']] | map('join', '+') | join('/')", "x | map('upper') | join('-')", "x.isupper() ~ (x > 'a')"),
    *("('ab' ~ x).translate({97: 'cc'})", "x | string | trim", "x | slice(2) | map('join') | join('|')"),
)
STATEMENTS = (
    "{% set b %}a{{ x }}b{% endset %}{{ b.split('<') | last }}",
    "{% macro m(t, u='c') %}a{{ t }}{{ u }}{% endmacro %}{{ m(m(x)) | trim('a') }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}{{ x }}{% endcall %}",
    "{% filter upper %}ab{{ x }}{% endfilter %}",
    "{% for c in x %}{{ loop.index }}{{ c }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for t in [x, [y]] recursive %}{% if t is string %}{{ t }}{% else %}({{ loop(t) }}){% endif %}{% endfor %}",
    "{% set ns = namespace(t='') %}{% for c in x %}{% set ns.t = c ~ ns.t %}{% endfor %}{{ ns.t }}",
    "{% set t = 'a' %}{% for k, v in {'b': x, 'c': y}.items() %}{{ k ~ v }}{% endfor %}{{ t }}",
    "{% autoescape true %}<{{ x }}>{{ x | safe }}{{ ['a', x] | join('<') }}{{ x ~ '<' }}{% endautoescape %}",
    "{% autoescape true %}{% set b %}{{ x }}<{% endset %}{{ b }}{{ ['a' | safe, x] | join }}{% endautoescape %}",
)
TEMPLATES = (*(f"{{{{ {expression} }}}}" for expression in EXPRESSIONS), *STATEMENTS)
TEXTS = st.text(alphabet="αβΓ<\n ", max_size=12)
"""No letter of them stands in a template."""

TRACED, PLAIN = environment(), ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
PLAIN.filters["tojson"] = TRACED.filters["tojson"]  # without HTML's escapes, as templates have it


def plain(template: str, **texts: str) -> str | None:
    try:
        return PLAIN.from_string(template).render(texts)
    except (TypeError, ValueError, AttributeError, LookupError):
        return None


def traced(template: str, **texts: str) -> tuple[str, str] | None:
    given = {name: Traced(text, message_mark(index) * len(text)) for index, (name, text) in enumerate(texts.items())}
    try:
        pieces = list(TRACED.from_string(template).generate(given))
    except (TypeError, ValueError, AttributeError, LookupError):
        return None
    return "".join(map(str.__str__, pieces)), "".join(map(marks_of, pieces))


@pytest.mark.parametrize("template", some(TEMPLATES))
@settings(max_examples=budget(12), derandomize=True)
@given(x=TEXTS, y=TEXTS)
def test_a_text_is_the_one_that_jinja_makes_and_each_letters_origin_is_known(template: str, x: str, y: str) -> None:
    made = traced(template, x=x, y=y)
    text = plain(template, x=x, y=y)
    if made is None:
        assert text is None
        return
    assert made[0] == text
    for character, mark in zip(*made, strict=True):
        if character in "αβγΓΑΒ":
            assert message_index(mark) is not None
        elif character.isascii() and character.isalpha() and "tojson" not in template:
            assert mark == TEMPLATE or "&" in text or message_index(mark) is not None


@pytest.mark.parametrize("template", some(TEMPLATES))
def test_a_control_token_of_the_templates_own_stays_its_own(template: str) -> None:
    """Where its constant is not changed itself, and stands beside a text of the request."""
    made = traced(template.replace("'a'", "'a<|x|>'"), x="β", y="βΓ")
    if made is not None and "<|x|>" in made[0]:
        start = made[0].index("<|x|>")
        assert set(made[1][start : start + 5]) == {TEMPLATE}


def test_an_operation_that_nobody_taught_loses_the_origin_and_never_invents_one() -> None:
    TRACED.filters["shuffled"] = lambda text, other: other[::2] + str.__str__(text) + "b"
    made = traced("{{ x | shuffled('a<') }}", x="α")
    assert made == ("aαb", TEMPLATE + LOST + LOST)
    assert traced("{{ x.encode().decode() }}", x="α") == ("α", LOST)


def test_a_text_compares_hashes_and_hides_as_any_other() -> None:
    text = known("abc")
    assert text == "abc"
    assert {text: 1}["abc"] == 1
    assert known("abc") is text
    assert traced("{{ x._marks }}{{ x.marks }}{{ x.nothing }}", x="α") == ("", "")
