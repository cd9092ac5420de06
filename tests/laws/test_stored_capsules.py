"""A capsule that an earlier version made is repeated to the token."""

from __future__ import annotations

from pathlib import Path

import pytest

import workbench as wb

STORED = Path(__file__).parents[1] / "stored"


@pytest.mark.parametrize("name", ["chat", "branch"])
def test_an_older_capsule_gives_the_same_tokens(name: str, smollm2_path: Path) -> None:
    config = {"models": [str(smollm2_path)]}
    provider = {"provider_id": "local", "provider_type": "inline::transformers", "config": config}
    with wb.Workbench({"providers": {"inference": [provider]}}) as bench:
        (model,) = bench.list_models()
        replayed = wb.replay(STORED / f"{name}.capsule.json", bench, model=model.identifier)
    assert replayed.same
    assert replayed.drift is not None
    assert replayed.drift < 1e-4
