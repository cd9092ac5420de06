"""A scored text for the prediction game, without a model."""

from __future__ import annotations

import math

from workbench.records import Alternative, Score, TokenRecord

PROMPT = "Every morning the old"
WORDS: list[tuple[str, float, dict[str, float]]] = [
    (" man", 0.4, {" woman": 0.2, " dog": 0.1, " house": 0.05, " king": 0.04}),
    (",", 0.6, {" went": 0.2, " walked": 0.1, " sat": 0.05}),
    (" walked", 0.1, {" went": 0.5, " sat": 0.2, " drank": 0.1}),
    (" to", 0.97, {" down": 0.01, " along": 0.01, " into": 0.005}),
    (" the", 0.6, {" a": 0.2, " his": 0.1, " work": 0.05}),
    (" har", 0.1, {" sea": 0.3, " park": 0.2, " shop": 0.1}),
    ("bour", 0.99, {"vest": 0.005, "mony": 0.001, "p": 0.001}),
    (" alone", 0.05, {" and": 0.5, " to": 0.2, " with": 0.1}),
]
ASKED = [" man", " walked", " the", " alone"]
"""The words worth a guess: no comma, nothing certain, no parts of words."""


def scored(words: list[tuple[str, float, dict[str, float]]] = WORDS) -> Score:
    records = []
    for position, (text, probability, others) in enumerate(words):
        alternatives = tuple(
            Alternative(100 * position + rank, other, other.encode(), math.log(share), rank)
            for rank, (other, share) in enumerate(others.items(), 1)
        )
        token = TokenRecord(
            position, 100 * position, text, text.encode(), math.log(probability), 1, 1.0, alternatives=alternatives
        )
        records.append(token)
    return Score("".join(text for text, *_ in words), tuple(records))
