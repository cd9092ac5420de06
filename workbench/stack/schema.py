"""JSON schema of run configs, for editors and generators."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from workbench import providers
from workbench.errors import ConfigError
from workbench.protocol import ConfigModel, Provider, RunConfig
from workbench.protocol.run_config import ENVIRONMENT
from workbench.stack.apis import PROVIDER_APIS, SERVED_APIS
from workbench.stack.checking import VERSION

_NO_DOCSTRINGS = {"use_attribute_docstrings": False}  # classes made without a source, which would be searched for
_REFERENCE = {"type": "string", "pattern": ENVIRONMENT.pattern}


def run_config_schema() -> dict[str, Any]:
    """Return the schema of what `load_run_config` accepts, with the options of every installed provider type."""
    instances = {api: [_instance(name, api) for name in providers.provider_types(api)] for api in PROVIDER_APIS}
    by_api: dict[str, Any] = {api: (list[_any_of(models)], []) for api, models in instances.items()}  # type: ignore[misc]
    apis: type[BaseModel] = create_model("Providers", __base__=ConfigModel, __cls_kwargs__=_NO_DOCSTRINGS, **by_api)
    api: Any = Literal[tuple(SERVED_APIS)]
    fields: dict[str, Any] = {"version": (Literal[VERSION], VERSION), "apis": (list[api], []), "providers": (apis, ...)}
    whole: type[BaseModel] = create_model(
        "RunConfig", __base__=RunConfig, __doc__=RunConfig.__doc__, __cls_kwargs__=_NO_DOCSTRINGS, **fields
    )
    schema = whole.model_json_schema()
    schema["required"] = ["providers"]  # `load_run_config` has defaults for the rest
    for definition in schema["$defs"].values():
        if definition["title"] not in {
            apis.__name__,
            *(model.__name__ for models in instances.values() for model in models),
        }:
            _allow_references(definition)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _any_of(models: list[type[Provider]]) -> Any:
    return Annotated[reduce(or_, models), Field(discriminator="provider_type")] if len(models) > 1 else models[0]


def _instance(provider_type: str, api: str) -> type[Provider]:
    """Return `Provider` with the config of one type, or with any config if the type's packages are not installed."""
    try:
        config: Any = providers.class_of(api, provider_type).Config
    except ConfigError:
        config = dict[str, Any]
    fields: dict[str, Any] = {"provider_type": (Literal[provider_type], ...), "config": (config, ...)}
    model: type[Provider] = create_model(
        f"Provider {provider_type}", __base__=Provider, __cls_kwargs__=_NO_DOCSTRINGS, **fields
    )
    return model


def _allow_references(definition: dict[str, Any]) -> None:
    """Allow ``${env.NAME}`` for values that are not strings too: it is replaced before validation."""
    for name, declared in definition.get("properties", {}).items():
        is_text = declared.get("type") == "string" and not declared.keys() & {"enum", "const", "pattern"}
        if not is_text and "$ref" not in declared and declared.get("type") not in ("array", "object"):
            notes = {key: declared.pop(key) for key in ("title", "description", "default") if key in declared}
            definition["properties"][name] = notes | {"anyOf": [*declared.pop("anyOf", [declared]), _REFERENCE]}
