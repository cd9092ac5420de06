"""What a run config may say to the local provider about images."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import ConfigError
from workbench.protocol import Provider
from workbench.providers.transformers import TransformersProvider
from workbench.providers.transformers.config import TransformersConfig


def parsed(**values: Any) -> TransformersConfig:
    return TransformersProvider(
        Provider(provider_id="local", provider_type="inline::transformers", config=values)
    ).config


def test_neither_files_nor_the_web_are_read_by_default() -> None:
    assert parsed().image_sources.root is None
    assert parsed(image_networks=["10.0.0.0/8"]).image_sources.web is None, "a network alone allows nothing"


def test_what_is_configured_is_allowed(tmp_path: Path) -> None:
    hosts = ["Images.Example", "10.1.2.3:8080", "[::1]:80"]
    sources = parsed(image_root=str(tmp_path), image_hosts=hosts, image_networks=["10.1.0.0/16"]).image_sources
    assert sources.root == tmp_path
    assert sources.web is not None
    assert sources.web.hosts == {"images.example", "10.1.2.3:8080", "[::1]:80"}
    assert sources.web.networks == (ip_network("10.1.0.0/16"),)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"image_root": "/no/such/folder"}, "image_root must be an existing folder"),
        ({"image_root": ""}, "image_root must be an existing folder"),
        ({"models": ["a", ""]}, r"models\[1\] must be .*1 character"),
        ({"image_root": "~nobody-here/x"}, "image_root must be a path whose ~ names a user"),
        ({"image_root": __file__}, "image_root must be an existing folder"),
        ({"image_root": "x" * 5000}, "image_root must be an existing folder"),
        *(
            ({"image_hosts": ["a.example", host]}, "image_hosts must be hosts as name or name:port")
            for host in ("http://a.example", "a.example/x", "*", "*.example", "", "a b", "u@a.example", "a.example:0")
        ),
        ({"image_networks": ["10.0.0.1/8"]}, "image_networks must be networks such as 10.1.0.0/16"),
        ({"image_networks": ["localhost"]}, "image_networks must be networks such as 10.1.0.0/16"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parsed(**values)
