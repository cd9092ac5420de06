"""Loading of a folder in Hugging Face layout as a model for the decode loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from workbench.engine import memory
from workbench.engine.adapters import Adapter, read_adapter
from workbench.engine.block_structure import BlockStructure
from workbench.engine.compute_thread import run_on_fresh_thread
from workbench.engine.context_length import context_length
from workbench.engine.decoders import Decoder, GeneralDecoder
from workbench.engine.detokenizer import Vocabulary
from workbench.engine.devices import CPU, DeviceChoice, candidates, held_precision
from workbench.engine.end_tokens import eos_ids
from workbench.engine.fused import compile_step
from workbench.engine.images import ImageReader
from workbench.engine.model_folder import check_folder
from workbench.engine.on_device.targets import target_of
from workbench.engine.packed_models import PackedModels, PackedParts
from workbench.engine.packing import is_packable, pack, served_structure
from workbench.engine.precision import Precision, compute_dtype
from workbench.engine.proof import ALL_PROVEN, Proof, prove
from workbench.engine.proof_cache import cached_or_proven
from workbench.engine.quantization_settings import stored_format
from workbench.engine.quantized_folders import check_decoder
from workbench.engine.transformers_loading import format_errors, load_config, load_merged, load_tokenizer, load_weights
from workbench.engine.vision import Family, family_of, load_reader, processor_template, vision_decoder
from workbench.errors import ModelFormatError, UnprovenModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

    from workbench.devices import DeviceProof
    from workbench.text_tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A causal model in memory with its tokenizer and properties."""

    name: str
    folder: Path
    decoder: Decoder
    tokenizer: TextTokenizer
    vocabulary: Vocabulary
    eos_ids: frozenset[int]
    """Tokens that end a text or a turn, from the generation config, the config and the tokenizer."""
    context_length: int
    precision: Precision
    architecture: str
    parameters: int
    memory_bytes: int
    """Size of the weights, in all the formats in which they are held."""
    predicted_memory_bytes: int
    """Size that `memory.predict` returned before loading."""
    proof: Proof = ALL_PROVEN
    """Features that the model was found to support."""
    images: ImageReader | None = None
    """Image processor of a vision-language model."""
    device: str = CPU
    device_why: str = ""
    """Reason why it is computed on that device."""
    device_proof: DeviceProof | None = None
    """Comparison with the CPU, of a model on another device."""


def load(
    folder: Path,
    *,
    name: str | None = None,
    precision: Precision = "float32",
    fast: bool = True,
    proofs: Path | None = None,
    packed_models: Path | None = None,
    adapter: Path | None = None,
    device: str = CPU,
) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    Args:
        precision: ``file`` is that of each tensor as it is stored.
        fast: use the fused decoder if it serves the model; False always uses transformers' own forward, which does
            not read GGUF files.
        proofs: folder of cached proofs; None caches none, so that each load proves model and device again.
        packed_models: folder of packed models; None stores none, so that each load packs the weights again.
        adapter: folder of a LoRA adapter, which is merged into the weights.
        device: a name as `devices.choose` takes it; ``torch:cpu`` is the reference for devices. ``auto`` takes the
            first device that computes the model as the CPU does.

    Raises:
        InvalidRequestError: there is no such device here.
        ModelFormatError: files are missing or damaged, or not those of a causal language model and its adapter.
        UnsafeModelError: loading would unpickle weights or run the folder's code.
        UnprovenModelError: the decode loop would compute other logits than transformers, or the device than the CPU.
        InsufficientMemoryError: it does not fit; the message names precisions that would.
        NumericalError: it computes NaN; only a device looks for that before a request does.
    """
    load_to = partial(
        _load_to, folder, name=name or folder.name, precision=precision, fast=fast, proofs=proofs,
        packed_models=packed_models, adapter=adapter,
    )  # fmt: skip
    *preferred, last = candidates(device)
    refusals: list[str] = []
    for choice in preferred:
        try:
            return load_to(_after(refusals, choice))
        except UnprovenModelError as error:
            refusals.append(str(error))
    try:
        return load_to(_after(refusals, last))
    except UnprovenModelError as error:
        if last.device == CPU:
            raise
        raise UnprovenModelError(f"{error}; choose another device") from None


def _after(refusals: Sequence[str], choice: DeviceChoice) -> DeviceChoice:
    """Return a choice with the refusals of the devices before it, if there are any, as its reason."""
    return replace(choice, why="; ".join(refusals)) if refusals else choice


def _load_to(
    folder: Path,
    choice: DeviceChoice,
    *,
    name: str,
    precision: Precision,
    fast: bool,
    proofs: Path | None,
    packed_models: Path | None,
    adapter: Path | None,
) -> LoadedModel:
    device = choice.device
    target = target_of(device)
    check_folder(folder)
    precision = held_precision(precision, device)
    merged = read_adapter(adapter, folder, memory.tensor_shapes(folder)) if adapter else None
    store = PackedModels(packed_models if fast and target is None else None)
    stored = store.find(folder, precision, adapter)
    structure: BlockStructure | None = None
    if stored is not None:
        config, family, packed = cast("PreTrainedConfig", stored.config), None, True
    else:
        config = load_config(folder)
        family = family_of(config, folder)  # None for a text model
        if fast and family is None:
            structure = served_structure(folder, config, memory.tensor_shapes(folder, merged))
        packed = structure is not None and (target is not None or is_packable(structure))
    check_decoder(folder, stored_format(folder), is_fused=packed)
    plan = memory.plan(folder, precision, name, packed=packed, adapter=merged, device=device)
    tokenizer: TextTokenizer = stored.tokenizer if stored else _load_tokenizer(folder, family)
    length = context_length(config)
    parts = stored.parts if stored else PackedParts()

    def load_decoder() -> tuple[Decoder, Proof, DeviceProof | None]:
        if target is not None:
            from workbench.engine.on_device.loading import ToDevice, load_on_device

            general = partial(_load_general, folder, "float32", family, keep_bf16=False, adapter=merged)
            prove_general = partial(
                _prove, folder=folder, precision=precision, length=length, proofs=None, adapter=None
            )
            to = ToDevice(folder, target, precision, adapter, proofs)
            return load_on_device(to, config, structure, merged, general, prove_general, length)
        if packed:
            compile_step()
            return pack(folder, config, precision, parts, adapter=merged), ALL_PROVEN, None
        decoder = _load_general(folder, precision, family, keep_bf16=plan.keep_bf16, adapter=merged)
        return decoder, _prove(decoder, folder, precision, length, proofs, merged.weights if merged else None), None

    with format_errors(folder, "a causal language model"):
        decoder, proof, device_proof = run_on_fresh_thread(load_decoder)
    if packed and not stored and target is None:
        store.store(folder, precision, config, tokenizer, parts, adapter)
    return LoadedModel(
        name=name,
        folder=folder,
        decoder=decoder,
        tokenizer=tokenizer,
        vocabulary=Vocabulary(tokenizer.backend_tokenizer),
        eos_ids=eos_ids(folder, config, tokenizer, decoder.vocab_size),
        context_length=length,
        precision=precision,
        architecture=(config.architectures or [type(config).__name__])[0],
        parameters=plan.parameters,
        memory_bytes=decoder.memory_bytes(),
        predicted_memory_bytes=plan.nbytes,
        proof=proof,
        images=load_reader(folder, family, load_tokenizer(folder)) if family else None,
        device=device,
        device_why=choice.why,
        device_proof=device_proof,
    )


def has_own_decoder(folder: Path, shapes: Mapping[str, tuple[int, ...]], device: str = CPU) -> bool:
    """Return whether a folder's model is computed here, not by transformers; loading, cards and memory check agree."""
    try:
        config = load_config(folder)
    except ModelFormatError:  # loading reports it
        return False
    if family_of(config, folder) is not None:
        return False
    structure = served_structure(folder, config, shapes)
    return structure is not None and (device != CPU or is_packable(structure))


def _load_tokenizer(folder: Path, family: Family | None) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a text model, or that of a vision-language model with its processor's template."""
    tokenizer = load_tokenizer(folder)
    if family and (template := processor_template(folder)):
        tokenizer.chat_template = template
    return tokenizer


def _load_general(
    folder: Path, precision: Precision, family: Family | None, *, keep_bf16: bool, adapter: Adapter | None
) -> GeneralDecoder:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from workbench.engine.quantization import quantize_linears

    kind = AutoModelForImageTextToText if family else AutoModelForCausalLM
    if adapter is None:
        model = load_weights(kind, folder, compute_dtype(precision))
    else:
        model = load_merged(kind, folder, compute_dtype(precision), adapter)
    if precision not in ("float32", "bf16"):  # the image encoder is small and stays as it is
        quantize_linears(model.get_decoder() if family else model, precision, keep_bf16=keep_bf16)
    return vision_decoder(model, family) if family else GeneralDecoder(model)


def _prove(
    decoder: GeneralDecoder, folder: Path, precision: Precision, length: int, proofs: Path | None, adapter: Path | None
) -> Proof:
    """Return a cached or new proof, and switch off in the decoder what it says."""
    try:
        proof = cached_or_proven(folder, precision, proofs, partial(prove, decoder, precision, length), adapter)
    except UnprovenModelError as error:
        kind = type(decoder.model).__name__
        raise UnprovenModelError(f"{folder} ({kind}) cannot be used in {precision}: {error}") from None
    decoder.features = proof.features
    return proof
