"""The config of an ``inline::transformers`` provider, read without loading torch."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field, field_validator

from workbench import catalog
from workbench.devices import DEVICE_PATTERN, checked_device
from workbench.engine.kv_cache import PREFIX_CACHE_BYTES
from workbench.errors import InvalidRequestError
from workbench.paths import typed_path
from workbench.prompts.images import ImageSources
from workbench.protocol import ConfigModel, ModelDef, QuantizationConfig
from workbench.protocol.quantization import PRECISIONS
from workbench.providers.interface import ModelName, ProviderConfig
from workbench.urls.sources import checked_hosts, checked_networks, checked_root
from workbench.urls.web import WebClient

if TYPE_CHECKING:
    from workbench.engine.precision import Precision


class AdaptedModel(ConfigModel):
    """A model with a LoRA adapter, as an entry of ``models``."""

    model: ModelName
    """Catalog name, local folder or hub id of the base model."""
    adapter: ModelName
    """Folder of the adapter, as peft saves it; it is merged into the weights when the model is loaded."""
    name: ModelName | None = None
    """Name of the model in requests; None joins the names of base model and adapter with a plus sign."""

    @property
    def source(self) -> str:
        """Name of the base model, a plus sign and the adapter's folder, written as a path.

        Otherwise ``model+adapter`` could be the name of a folder as well.
        """
        adapter = self.adapter if catalog.looks_like_path(self.adapter) else f"./{self.adapter}"
        return str(catalog.ModelSource(self.model, adapter))


class TransformersConfig(ProviderConfig):
    """The ``config`` of an ``inline::transformers`` provider in a run config."""

    models: list[ModelName | AdaptedModel] = Field(default_factory=list)  # type: ignore[assignment] # wider here
    """Catalog names, local folders, GGUF files or hub ids; a folder or file is served under its own name. A LoRA
    adapter is named after its base model, `base+./adapter`, or in an entry such as
    `{model: base, adapter: ./adapter, name: mine}`."""
    quantization: QuantizationConfig | None = None
    """Precision of the weights; None is float32, the reference. Without the key, a GGUF file keeps its own."""
    catalog_quantization: QuantizationConfig | None = None
    """Precision of the catalog's models; None uses `quantization`."""
    device: str = Field(default="auto", json_schema_extra={"pattern": DEVICE_PATTERN})
    """Device of the models that generate: `auto`, `cpu`, `cuda`, `cuda:N`, `mps` or `xpu`. `auto` takes the first of
    cuda, mps, xpu and cpu that is there. `torch:cpu` is the CPU that computes as a device does, the reference for
    devices."""
    max_active: int = Field(default=16, ge=1, le=256)
    """Most requests of one model that decode together; more wait their turn."""
    prefix_cache_mb: int = Field(default=PREFIX_CACHE_BYTES // 2**20, ge=0)
    """Memory in MiB for the KV cache of past prompts, for each model; 0 turns reuse off."""

    image_root: str | None = None
    """Folder from which images may be read by ``file:`` URL; None reads no files."""
    image_hosts: list[str] = Field(default_factory=list)
    """Hosts, as ``name`` or ``name:port``, from which images may be fetched; empty fetches none."""
    image_networks: list[str] = Field(default_factory=list)
    """Private networks, such as ``10.1.0.0/16``, in which those hosts may be."""

    def precision_of(self, model: ModelDef) -> Precision:
        """Return the precision of a model's weights, from its registration or else from this config.

        Raises:
            InvalidRequestError: the registration's metadata has an unknown precision.
        """
        named: Any = model.metadata.get("precision")
        if named is not None:
            if named not in PRECISIONS:
                raise InvalidRequestError("metadata.precision", named, f"one of {', '.join(PRECISIONS)}")
            return cast("Precision", named)
        if catalog.gguf_path(model.llama_model) is not None and "quantization" not in self.model_fields_set:
            return "file"
        of_catalog = self.catalog_quantization if catalog.is_entry(model.llama_model) else None
        chosen = of_catalog or self.quantization
        return chosen.type if chosen else "float32"

    def device_of(self, model: ModelDef) -> str:
        """Return the name of a model's device, from its registration or else from this config.

        Raises:
            InvalidRequestError: the registration's metadata has no such name.
        """
        named: Any = model.metadata.get("device")
        return self.device if named is None else checked_device(named, "metadata.device")

    @property
    def image_sources(self) -> ImageSources:
        """Permitted sources of the images in requests."""
        networks = tuple(map(ip_network, self.image_networks))
        return ImageSources(
            root=typed_path(self.image_root, "image_root") if self.image_root else None,
            web=WebClient(frozenset(self.image_hosts), networks) if self.image_hosts else None,
        )

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        return checked_device(value, "device")

    @field_validator("image_root")
    @classmethod
    def _folder(cls, value: str | None) -> str | None:
        return checked_root(value, "image_root")

    @field_validator("image_hosts")
    @classmethod
    def _hosts(cls, value: list[str]) -> list[str]:
        return checked_hosts(value, "image_hosts")

    @field_validator("image_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return checked_networks(value, "image_networks")


def present_device(name: str, field: str) -> str:
    """Return the name of a device that is on this machine; torch is imported only for one that may be missing.

    Raises:
        InvalidRequestError: it is not there, or no setting may have this name.
    """
    if checked_device(name, field) not in ("auto", "cpu"):
        from workbench.engine.devices import choose

        choose(name, field)
    return name
