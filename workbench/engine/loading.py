"""From a folder in Hugging Face layout to a model that the decode loop can run."""

from __future__ import annotations

import ast
import inspect
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from workbench.engine import memory
from workbench.engine.compute_thread import run_on_fresh_thread
from workbench.engine.decoders import Decoder, GeneralDecoder
from workbench.engine.detokenizer import Vocabulary
from workbench.engine.fused import compile_step
from workbench.engine.images import ImageReader
from workbench.engine.model_folder import GENERATION, check_folder, read_json
from workbench.engine.packing import fits, pack
from workbench.engine.precision import Linear, Precision, compute_dtype, quantized
from workbench.engine.proof import ALL_PROVEN, Proof, prove
from workbench.engine.proof_cache import kept_or_made
from workbench.engine.vision import Family, family_of, load_reader, processor_template, vision_decoder
from workbench.engine.weights import Blocks
from workbench.errors import ModelFormatError, UnprovenModelError, WorkbenchError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_CONTEXT_LENGTH = 2048
"""Of a model whose config names none: what such models were trained on, and not a limit of what they compute."""

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "context_length",
    "max_target_positions",
)

_FACTS = frozenset({"dtype", "shape", "device"})
"""What code may ask of a weight that has no numbers."""

_ONE_AT_A_TIME = threading.Lock()
"""While transformers builds a model it replaces methods of its base class, for every thread: a second model that is
loaded meanwhile would find its tied weights missing, and could leave the replacement in place for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A causal model in memory, with what a request needs to know about it."""

    name: str
    folder: Path
    decoder: Decoder
    tokenizer: PreTrainedTokenizerFast
    vocabulary: Vocabulary
    eos_ids: frozenset[int]
    """Tokens that end a text or a turn: those of the generation config, the config and the tokenizer."""
    context_length: int
    precision: Precision
    architecture: str
    parameters: int
    memory_bytes: int
    """Held by the weights, in all the forms in which they are kept."""
    predicted_memory_bytes: int
    """What `memory.predict` had said before."""
    proof: Proof = ALL_PROVEN
    """What it was found to be able to do."""
    images: ImageReader | None = None
    """Reads images for a vision-language model."""


def load(
    folder: Path,
    *,
    name: str | None = None,
    precision: Precision = "float32",
    fast: bool = True,
    proofs: Path | None = None,
) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    Args:
        fast: use the fused step where the model's structure allows it; False always takes transformers' own forward.
        proofs: folder in which proofs are kept; None keeps none, so that the model proves itself at each load.

    Raises:
        ModelFormatError: files are missing or damaged, or this is no causal language model.
        UnsafeModelError: loading would unpickle weights or run the folder's code.
        UnprovenModelError: what we would compute is not what transformers computes; says what differs.
        InsufficientMemoryError: it would not fit; the message names a precision that would.
    """
    check_folder(folder)
    config = load_config(folder)
    family = family_of(config, folder)  # None for a text model
    packed = fast and family is None and fits(config, memory.tensor_shapes(folder))
    plan = memory.plan(folder, precision, name or folder.name, packed=packed)
    tokenizer = load_tokenizer(folder)
    if family and (template := processor_template(folder)):
        tokenizer.chat_template = template

    length = context_length(config)

    def weights() -> tuple[Decoder, Proof]:
        if packed:
            compile_step()
            return pack(folder, config, precision), ALL_PROVEN
        decoder = _general(folder, precision, family, keep_wide=plan.keep_wide)
        return decoder, _proven(decoder, folder, precision, length, proofs)

    with damage_named(folder, "a causal language model"):
        decoder, proof = run_on_fresh_thread(weights)
    return LoadedModel(
        name=name or folder.name,
        folder=folder,
        decoder=decoder,
        tokenizer=tokenizer,
        vocabulary=Vocabulary(tokenizer.backend_tokenizer),
        eos_ids=_eos_ids(folder, config, tokenizer, decoder.vocab_size),
        context_length=length,
        precision=precision,
        architecture=(config.architectures or [type(config).__name__])[0],
        parameters=plan.parameters,
        memory_bytes=decoder.memory_bytes(),
        predicted_memory_bytes=plan.nbytes,
        proof=proof,
        images=load_reader(folder, family, load_tokenizer(folder)) if family else None,
    )


def is_fused(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether the compiled decode step serves a folder's model; loading, cards and the memory check agree."""
    try:
        config = load_config(folder)
    except ModelFormatError:  # loading says what is wrong
        return False
    return family_of(config, folder) is None and fits(config, shapes)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The folder's tokenizer in its Rust form, made from a SentencePiece model where that is all there is."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelFormatError(
            f"{folder} has no tokenizer that can be loaded (tokenizer.json or tokenizer.model): {_first_line(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise ModelFormatError(f"the tokenizer of {folder} has no tokenizer.json and cannot be converted to one")
    return cast("PreTrainedTokenizerFast", tokenizer)


def context_length(config: PreTrainedConfig) -> int:
    """Positions that the model was made for; a tokenizer's own limit is often a placeholder of 1e30.

    State-space models, and those that see distances instead of positions, may name none: they get a default.
    """
    text = config.get_text_config(decoder=True)
    named = {key: getattr(text, key, None) for key in _CONTEXT_KEYS}
    return named_context_length(named) or DEFAULT_CONTEXT_LENGTH


def named_context_length(text_config: Mapping[str, Any]) -> int | None:
    """The same where a config names it; None where it does not."""
    named = (text_config.get(key) for key in _CONTEXT_KEYS)
    return next((value for value in named if isinstance(value, int) and value > 0), None)


def load_config(folder: Path) -> PreTrainedConfig:
    """The folder's config, or an error that names it."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a config's own checks may raise anything
        path = folder / "config.json"
        raise ModelFormatError(f"{path} is not a config that transformers can read: {_first_line(error)}") from error
    return config


@contextmanager
def damage_named(folder: Path, kind: str) -> Iterator[None]:
    """Turn what transformers and safetensors raise about bad weights into one error that names the folder."""
    try:
        yield
    except (WorkbenchError, MemoryError):
        raise
    except Exception as error:  # a model's own code raises what it likes about sizes that do not fit together
        raise ModelFormatError(f"{folder} cannot be loaded as {kind}: {_first_line(error)}") from error


def _general(folder: Path, precision: Precision, family: Family | None, *, keep_wide: bool) -> GeneralDecoder:
    kind = AutoModelForImageTextToText if family else AutoModelForCausalLM
    model = load_weights(kind, folder, compute_dtype(precision))
    if precision not in ("float32", "bf16"):  # what looks at images is small beside what reads, and is left as it is
        _quantize(model.get_decoder() if family else model, precision, keep_wide=keep_wide)
    return vision_decoder(model, family) if family else GeneralDecoder(model)


def _proven(decoder: GeneralDecoder, folder: Path, precision: Precision, length: int, proofs: Path | None) -> Proof:
    """What the model can do, from a proof that was kept or is made now; the decoder then does nothing else."""
    try:
        proof = kept_or_made(folder, precision, proofs, partial(prove, decoder, precision, length))
    except UnprovenModelError as error:
        kind = type(decoder.model).__name__
        raise UnprovenModelError(f"{folder} ({kind}) cannot be used in {precision}: {error}") from None
    decoder.use(proof.ways)
    return proof


def load_weights(kind: Any, folder: Path, dtype: torch.dtype, *, unused: str | None = None) -> PreTrainedModel:
    """A folder's model as transformers has it; raises `ModelFormatError` where a weight is missing.

    Args:
        kind: one of transformers' auto classes.
        unused: a part of the names of weights that nobody will ask for, and that may therefore be missing.
    """
    with _ONE_AT_A_TIME, quiet():
        loaded: Any = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    model: PreTrainedModel
    model, report = loaded
    missing = [name for name in sorted(report["missing_keys"]) if unused is None or unused not in name]
    if missing:  # transformers would go on with random numbers in their place
        some = ", ".join(missing[:3])
        raise ModelFormatError(f"{folder} lacks weights of its architecture, such as {some}; fetch the model again")
    return model


class _QuantizedModule(nn.Module):
    """A packed matrix in the place of an ``nn.Linear``."""

    def __init__(self, linear: Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.linear = linear
        self.out_features, self.in_features = weight.shape
        self.weight = weight.to("meta")
        """What models ask of a weight without computing with it, such as its type; it has no numbers."""
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, -2).contiguous()  # (batch * tokens, in)
        product: torch.Tensor = self.linear(rows).unflatten(0, x.shape[:-1])
        return product


@cache
def _read_weights(module: str) -> frozenset[str]:
    """Layers with whose weights a model's code computes itself, instead of calling the layer; by their names."""
    found: set[str] = set()
    facts: set[ast.AST] = set()
    waiting: list[ast.AST] = [ast.parse(inspect.getsource(sys.modules[module]))]
    while waiting:  # from outside in, so that it is known of each weight whether only its facts are asked
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef) and node.name == "_init_weights":
            continue
        if isinstance(node, ast.Attribute) and node.attr in _FACTS:
            facts.add(node.value)
        if isinstance(node, ast.Attribute) and node.attr == "weight" and node not in facts:
            found |= {node.value.attr} if isinstance(node.value, ast.Attribute) else set()
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def _quantize(model: PreTrainedModel, precision: Precision, *, keep_wide: bool) -> None:
    """Replace every linear layer but the output head, which needs its exactness most and is read once per token."""
    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            # A class made from a linear layer may compute something else, and say more: which experts are asked, say.
            if (
                child is head
                or type(child) not in (nn.Linear, Conv1D)
                or name in _read_weights(type(parent).__module__)
            ):
                continue
            layer: Any = child
            weight: torch.Tensor = layer.weight.detach()
            weight = weight.T.contiguous() if isinstance(child, Conv1D) else weight  # Conv1D is (in, out)
            linear = quantized(weight, layer.bias, precision, partial(Blocks.of, weight), keep_wide=keep_wide)
            setattr(parent, name, _QuantizedModule(linear, weight, layer.bias))


def _eos_ids(
    folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, vocab_size: int
) -> frozenset[int]:
    """The union of what each file says: with too few of them an answer runs on into turns that it makes up.

    Ids outside the vocabulary, which some configs keep from another model, would end nothing.
    """
    path = folder / GENERATION
    generation: Any = read_json(path).get("eos_token_id") if path.exists() else None
    named = (generation, config.get_text_config(decoder=True).eos_token_id, tokenizer.eos_token_id)
    found = {
        one for source in named if source is not None for one in (source if isinstance(source, list) else [source])
    }
    return frozenset(one for one in found if 0 <= one < vocab_size)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bar and its report of unused weights out of terminals and notebooks, where they would stay."""
    bar, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
