"""An emission travels without the model that it was computed by."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from workbench import protocol, records
from workbench.protocol import StopReason
from workbench.records import Emission, Inspector, TokenRecord, Usage

EMISSION = Emission(
    "a",
    (TokenRecord(0, 1, "a", b"a", -0.5, 1, 1.0),),
    StopReason.end_of_turn,
    usage=Usage(prompt_tokens=3),
    inspector=cast("Inspector", object()),
    seed=7,
    notes=("greedy ignores top_p",),
)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
    ids=["copy", "deep", "pickle"],
)
def test_a_copy_has_all_but_the_inspector(copied: Callable[[Any], Any]) -> None:
    assert copied(EMISSION) == replace(EMISSION, inspector=None)


def test_the_protocol_still_has_the_name_that_has_moved_and_says_where_it_is() -> None:
    with pytest.warns(DeprecationWarning, match=r"now workbench\.records\.token_logprobs"):
        assert protocol.token_logprobs is records.token_logprobs  # type: ignore[attr-defined]
