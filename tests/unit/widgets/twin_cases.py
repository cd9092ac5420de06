"""Cases in which the page must say what its static twin says, as JSON for the tests of the page's modules.

``python -m tests.unit.widgets.twin_cases`` writes them anew; a test of each side looks at them.
"""

from __future__ import annotations

import json
import math
import random
import unicodedata
from itertools import product
from pathlib import Path
from typing import Any

from tests.unit.widgets.fake_session import token
from tests.unit.widgets.hostile import PAYLOADS
from workbench.records import TokenRecord
from workbench.sampling_stages import PARAMETERS
from workbench.widgets import attention_words, attribution_words
from workbench.widgets import format as words
from workbench.widgets.sampling_controls import wire_field
from workbench.widgets.table_order import SORTABLE, rows
from workbench.widgets.wire.run import wire_token

FILE = Path(__file__).parents[2] / "javascript" / "cases" / "twins.json"

_LOGPROBS = [-0.0, -0.0004, -0.01, -0.125, -0.7, -2.5, -3.0, -7.13, -9.0, -13.0, -20.0]
_COUNTS = [
    0,
    12,
    999,
    9_999,
    999_499,
    999_500,
    134_500_000,
    134_515_008,
    999_499_999,
    999_500_000,
    1_250_000_000,
    7_000_000_000,
]
_QUERIES = [
    "",
    "a",
    "A ␣",
    "rank>1 probability<=50%",
    "logprob>-1.5",
    "␣a",
    "entropy>=1 position<40",
    "surprisal>2 entropy<3",
    "surprisal<=0.5",
    "id=7",
    "token_id<=700 rank=1",
    "position<=3",
    "position>=60",
    "position<3",
    "position>60",
    "rank>",
    "no such word",
]


def cases() -> dict[str, Any]:
    """What is asked, and what Python answers."""
    return {
        "format": _format_cases(),
        "table": _table_cases(),
        "sampling_fields": list(map(wire_field, PARAMETERS)),
        "attribution": _attribution_cases(),
        "attention": _attention_cases(),
    }


def text() -> str:
    return json.dumps(cases(), ensure_ascii=True, separators=(",", ":")).replace("],[", "],\n[") + "\n"


def _format_cases() -> list[list[Any]]:
    """Name of a function, its arguments, its answer: where roundings meet, and anywhere between."""
    draw = random.Random(7)
    logprobs = [*_LOGPROBS, *(round(-(10 ** draw.uniform(-4, 1.5)), 4) for _ in range(60))]
    shares = [
        0.0,
        1e-6,
        1e-5,
        0.001,
        0.00125,
        0.125,
        0.1225,
        0.5,
        0.9994,
        0.9995,
        1.0,
        *(_steady(math.exp(x)) for x in logprobs),
    ]
    distances = [0.0, 1e-4, 3e-6, 0.00123, 0.25, 0.125, 0.996, 9.94, 9.95, 10.5, 12.3, *(-x for x in logprobs[1:])]
    seconds = [0.0, 0.0005, 0.0344, 0.0345, 0.9, 0.9994, 0.9995, 1.25, 1.26, 75.0, *(-x for x in logprobs[1:30])]
    changes = [*logprobs, *(-value for value in logprobs), 0.0046, 0.0054, 4.604, 4.606, 13.8, 13.82, 80.0]
    asked: list[tuple[str, list[Any]]] = [
        *(("visible", [text]) for text in _texts(draw)),
        *(("percentOf", [value]) for value in logprobs),
        *(("percent", [value]) for value in shares),
        *(("fixed", [value, digits]) for value, digits in product([*logprobs, 0.125, 2.5, -0.004], (0, 1, 2))),
        *(("divergence", [value, unit]) for value, unit in product(distances, words.UNITS)),
        *(("information", [-value, unit, 1]) for value, unit in product(logprobs, words.UNITS)),
        *(("surprisal", [value]) for value in logprobs),
        *(("change", [value, unit]) for value, unit in product(changes, words.UNITS)),
        *(("times", [value]) for value in changes),
        *(("duration", [value]) for value in seconds),
        *(("strength", [value, -value, color]) for value, color in product(logprobs[:30], words.COLORS)),
        *(("bits", [value]) for value in logprobs),
        *(("parameterCount", [count]) for count in [*_COUNTS, *(draw.randrange(10**10) for _ in range(40))]),
    ]
    twins = {"percentOf": "percent_of", "parameterCount": "parameter_count"}
    return [[name, given, _steady(getattr(words, twins.get(name, name))(*given))] for name, given in asked]


def _attribution_cases() -> list[list[Any]]:
    """Name of a function, its arguments, its answer: marks of random changes, and texts and names that are cut."""
    draw = random.Random(11)
    nats = [None, 0.0, 0.41, 0.42, 2.0, -3.0]
    by_token = [[draw.choice([*nats, draw.gauss(0, 2)]) for _ in range(draw.randrange(5))] for _ in range(120)]
    marks = [[draw.choice([None, 0, 1, 1]) for _ in range(draw.randrange(12))] for _ in range(40)]
    parts = ["word ", "a", "\n", "\t ", "é", "😀", "漢字", "w" * 30, "\u202e", "\u00a0"]
    texts = ["".join(draw.choices(parts, k=draw.randrange(160))) for _ in range(80)]
    texts += ["", "😀" * 240, "😀" * 241, "w" * 240, "w" * 241, "\n" * 4, "a\nb\nc\nd", "a\nb\nc\nd\ne"]
    asked: list[tuple[str, list[Any]]] = [
        *(("mark", [[None if one is None else round(one, 6) for one in changes]]) for changes in by_token),
        *(("stretches", [one, [draw.random() < 0.3 for _ in one]]) for one in marks),
        *(("scoreInWords", [round(10 ** draw.uniform(-6, 1.5), 6)]) for _ in range(40)),
        *(("scoreInWords", [score]) for score in (0.0, 1.0, 0.1, 0.0999, 0.00995, 0.0001, 0.0000999, -0.5)),
        *(("nameOf", [index, text]) for index, text in enumerate([*texts, *PAYLOADS])),
        *(("folded", [text]) for text in [*texts, *PAYLOADS]),
        *(("summary", [one, count]) for one, count in product(marks, (0, 3))),
    ]
    return [[name, given, _attribution_answer(name, given)] for name, given in asked]


def _attribution_answer(name: str, given: list[Any]) -> Any:
    if name == "mark":  # what is unknown is null in the page, and NaN in Python
        return attribution_words.mark([math.nan if one is None else one for one in given[0]])
    return getattr(attribution_words, {"nameOf": "name_of", "scoreInWords": "score_in_words"}.get(name, name))(*given)


def _attention_cases() -> list[list[Any]]:
    """Name of a function, its arguments, its answer: the strongest of random weights, and numbers of heads."""
    draw = random.Random(13)
    rows = [
        [draw.choice([0.0, 0.005, round(draw.random() ** 6, 4)]) for _ in range(draw.randrange(60))] for _ in range(40)
    ]
    shown = [attention_words.strongest(row) for row in rows]
    heads = [[round(draw.random(), 4), round(draw.random(), 4), round(3 * draw.random(), 4)] for _ in range(20)]
    measured = list(product(heads, attention_words.TITLES))
    asked: list[tuple[str, list[Any]]] = [
        *(("strongest", [row]) for row in rows),
        *(("restWords", [row, keys]) for row, keys in zip(rows, shown, strict=True)),
        *(("headValue", [values, measure]) for values, measure in measured),
        *(
            ("headWords", [attention_words.head_value(values, measure), measure, unit])
            for (values, measure), unit in product(measured, words.UNITS)
        ),
        ("headWords", [None, "first", "bits"]),
    ]
    twins = {"restWords": "rest_words", "headValue": "head_value", "headWords": "head_words"}
    return [[name, given, getattr(attention_words, twins.get(name, name))(*given)] for name, given in asked]


def _steady(value: Any) -> Any:
    """A number without the last digits, in which one machine's logarithms may differ from another's."""
    return round(value, 9) if isinstance(value, float) else value


def _texts(draw: random.Random) -> list[str]:
    """Everything that could be invisible, alone and among letters, and texts that are hostile."""
    hidden = [
        char
        for char in map(chr, range(0xFFFF))
        if char.isspace() or unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp")
    ]
    mixed = ["".join(draw.choices([*hidden, "a", "é", "漢", "👩"], k=4)) for _ in range(60)]
    return [*PAYLOADS, *hidden, "👩\u200d👧", "né\n\t", "漢字", "", *mixed]


def _table_cases() -> dict[str, Any]:
    """Tokens as they travel, and which rows of them a query leaves in an order."""
    texts = [" a", "A", " 😀", "\uff5e", " be", "\n", " a"] * 9
    unknown = TokenRecord(63, 7, "?", b"?", math.nan, 0, math.nan)
    tokens = [*(token(i, text) for i, text in enumerate(texts)), unknown]
    asked = product(_QUERIES, SORTABLE, (False, True), words.UNITS)
    return {
        "tokens": [wire_token(one, one.text) for one in tokens],
        "rows": [
            [query, name, descending, unit, rows(tokens, sort_by=name, descending=descending, query=query, unit=unit)]
            for query, name, descending, unit in asked
        ],
    }


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text(), encoding="utf-8")
    print(FILE)
