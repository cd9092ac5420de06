"""Models as a kind of resource."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench import catalog
from workbench.errors import InvalidRequestError, ModelNotFoundError
from workbench.paths import typed_path
from workbench.protocol import ModelDef, ModelDefWithProvider
from workbench.stack.registry import Registry
from workbench.stack.resources import ResourceKind

if TYPE_CHECKING:
    from workbench.providers.interface import InferenceProvider
    from workbench.stack.naming import Registration
    from workbench.stack.registrations import RegistrationStore

    ModelRegistration: TypeAlias = Registration[ModelDefWithProvider, InferenceProvider]


def _without_provider(model: ModelDefWithProvider) -> ModelDef:
    return ModelDef(identifier=model.identifier, llama_model=model.llama_model, metadata=model.metadata)


MODEL: ResourceKind[ModelDefWithProvider, InferenceProvider] = ResourceKind(
    name="model",
    api="inference",
    command="models",
    definitions=(ModelDefWithProvider,),
    parse=ModelDefWithProvider.model_validate,
    source=lambda model: model.llama_model,
    not_found=ModelNotFoundError,
    list=lambda provider: provider.list_models(),
    register=lambda provider, model: provider.register_model(_without_provider(model)),
    unregister=lambda provider, identifier: provider.unregister_model(identifier),
)


def _without_device(fields: Mapping[str, Any]) -> ModelDefWithProvider:
    model = ModelDefWithProvider.model_validate(fields)
    metadata = {name: value for name, value in model.metadata.items() if name != "device"}
    return model.model_copy(update={"metadata": metadata})


class ModelRegistry(Registry["ModelDefWithProvider", "InferenceProvider"]):
    """Registry of models, which satisfies ``Models`` and ``ModelUnregistration``.

    Args:
        restores_devices: whether stored registrations keep their devices; otherwise their provider's counts.
    """

    def __init__(
        self,
        providers: dict[str, InferenceProvider],
        store: RegistrationStore | None = None,
        *,
        restores_devices: bool = True,
    ) -> None:
        super().__init__(MODEL if restores_devices else replace(MODEL, parse=_without_device), providers, store)

    def models(self) -> list[ModelDefWithProvider]:
        """Return the models without querying a provider."""
        return self.definitions()

    async def list_models(self) -> list[ModelDefWithProvider]:
        """Return every served model; servers, and providers that failed to list theirs, are queried again."""
        await self.refresh()
        return self.definitions()

    async def get_model(self, identifier: str) -> ModelDefWithProvider | None:
        return self.get(identifier)

    async def register_model(self, model: ModelDefWithProvider) -> None:
        """Register a model with its provider; `Registry.register` lists the errors."""
        await self.register(model)

    async def unregister_model(self, identifier: str) -> None:
        """Stop serving a model; its provider unloads it."""
        await self.unregister(identifier)


def model_from(
    identifier: str, source: str | Path | None, provider_id: str, metadata: dict[str, Any] | None
) -> ModelDefWithProvider:
    """Return the definition of a model as a user describes it; without a source, ``identifier`` is the source too.

    A folder or GGUF file becomes an absolute path, because the next start may be in another directory, and so does the
    folder of an adapter. One that is passed as the identifier lends the model its name. The name of a model in Ollama
    on this machine, such as ``llama3.2:1b``, becomes the path of its file.

    Raises:
        InvalidRequestError: a field has a value of another type.
    """
    named, field = (identifier, "identifier") if source is None else (source, "source")
    if not isinstance(named, str | Path):
        raise InvalidRequestError(field, named, "a text or a Path")
    text = str(typed_path(named, field).absolute()) if isinstance(named, Path) else named
    return ModelDefWithProvider(
        identifier=catalog.served_name(text, field) if source is None else identifier,
        llama_model=_with_file_of_ollama(catalog.absolute_source(text, field)),
        metadata={} if metadata is None else metadata,
        provider_id=provider_id,
    )


def _with_file_of_ollama(source: str) -> str:
    """Return a source with the file of its base model if that is a name in Ollama, which always has a colon."""
    parts = catalog.split_source(source)
    if ":" not in parts.base:
        return source
    from workbench.found import ollama_file

    file = ollama_file(parts.base)
    return source if file is None else str(replace(parts, base=str(file)))
