"""What the pages under docs/ show is taken by the workbench as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workbench.providers import provider_class
from workbench.providers.ray.config import RayConfig
from workbench.providers.transformers.config import TransformersConfig
from workbench.stack import load_run_config

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("index", [0, 1])
def test_the_run_configs_for_a_cluster_are_valid(index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TOKEN", "secret")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / "ray.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "run.yaml").write_text(blocks[index])
    (entry,) = load_run_config(tmp_path / "run.yaml").providers["inference"]
    config = provider_class(entry.provider_type).Config.model_validate(entry.config)
    if isinstance(config, RayConfig):
        quantization = TransformersConfig.model_validate(config.engine).quantization
        assert quantization is not None
        assert quantization.type == "int4"


def test_the_page_names_every_key_of_a_pool() -> None:
    assert all(f"`{name}`" in (DOCS / "ray.md").read_text() for name in RayConfig.model_fields)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert all((page.parent / link).is_file() for link in links if not link.startswith("http"))
