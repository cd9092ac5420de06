"""The proof of a device at load: some positions against float32 on the CPU, and the speed of both."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.devices import DeviceProof
from workbench.engine.block_structure import BlockStructure
from workbench.engine.decoders import Decoder
from workbench.engine.model_reading import WeightReader
from workbench.engine.on_device.angles import AngleTable
from workbench.engine.on_device.attention import Span
from workbench.engine.on_device.decoder import DeviceDecoder
from workbench.engine.on_device.dense import DenseReader, LazyBlocks
from workbench.engine.on_device.forward import Forward
from workbench.engine.on_device.targets import name_of
from workbench.engine.proof import distance
from workbench.engine.rotary_table import Rotary
from workbench.engine.weights import Checkpoint
from workbench.errors import NumericalError, UnprovenModelError

_TOKENS = 24
"""Most positions of the proof."""

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.25}
"""Greatest difference of logits that counts as rounding, in standard deviations, by dtype: the largest of all positions
in float32, else their median, because rounding may route a token to another expert."""

_REPEATS = 3
_TIMED = 6


@dataclass(frozen=True, slots=True)
class Reference:
    """The forward pass in float32 on the CPU, whose blocks are read one by one."""

    forward: Forward
    first_layer: Forward
    """The model with its first layer alone."""


def reference_forward(structure: BlockStructure, files: Checkpoint) -> Reference:
    """Return the reference of a model, which holds one block at a time; the files must stay open."""
    reader = WeightReader(structure, files, DenseReader(structure, files, torch.device("cpu"), torch.float32))
    weights = reader.weights(LazyBlocks(reader, len(structure.layers)))
    first = replace(weights, structure=replace(structure, layers=structure.layers[:1]), blocks=weights.blocks[:1])
    return Reference(Forward(weights), Forward(first))


@torch.inference_mode()
def prove_device(decoder: DeviceDecoder, reference: Reference, rotary: Sequence[Sequence[Rotary]]) -> DeviceProof:
    """Compare a decoder with the reference.

    Raises:
        UnprovenModelError: the difference is more than rounding.
    """
    structure = reference.forward.structure
    token_ids = seeded_tokens(decoder.vocab_size, structure.rotary_border, structure.position_count)
    expected, found = _logits(reference.forward, token_ids, rotary), _found(decoder, token_ids)
    speed, cpu_speed = decode_speed(decoder), _cpu_speed(reference, rotary)
    return compared(decoder.device, decoder.dtype, found, expected, speed, cpu_speed)


def compared(
    device: torch.device, dtype: torch.dtype, found: Tensor, expected: Tensor, speed: float, cpu_speed: float
) -> DeviceProof:
    """Compare logits of a device with those of float32 on the CPU, shape (tokens, vocab), and the speeds of both.

    Raises:
        UnprovenModelError: the difference is more than rounding; the message says what differs.
        NumericalError: the CPU computes NaN, too.
    """
    if not expected.isfinite().all():
        raise NumericalError("the model computes NaN in float32 on the CPU; its weights are damaged or overflow")
    far, tolerance = distance(found, expected), TOLERANCE[dtype]
    worst = float(far.max() if dtype == torch.float32 else far.median())
    clear = _margins(expected) > 2 * tolerance * expected.std(-1)
    equal = bool((found.argmax(-1) == expected.argmax(-1))[clear].all())
    kind = name_of(dtype)
    problem = "" if equal else "the most probable token is another one where it is clearly ahead"
    if worst > tolerance:
        problem = f"they differ by {worst:.2g} standard deviations, of which rounding explains {tolerance:.2g}"
    if problem:
        raise UnprovenModelError(f"{device} computes other logits in {kind} than the CPU in float32: {problem}")
    slower = f"{device} decodes {speed:.3g} tokens/s, the CPU {cpu_speed:.3g}; choose device cpu"
    notes = (slower,) if device.type != "cpu" and speed < cpu_speed else ()
    return DeviceProof(str(device), kind, _kl(found, expected), equal, speed, cpu_speed, notes)


def seeded_tokens(vocab: int, *limits: int) -> list[int]:
    """Return seeded tokens of a vocabulary, at most as many as each limit says; 0 is none."""
    generator = random.Random(0)  # noqa: S311 - for variety, not for secrecy
    return [generator.randrange(vocab) for _ in range(min([_TOKENS, *filter(None, limits)]))]


def decode_speed(decoder: Decoder) -> float:
    """Return how many tokens per second one sequence decodes."""
    cache = decoder.new_cache()
    decoder.read([0], cache)
    return 1.0 / _median_s(lambda: decoder.decode([1], [cache]), _TIMED)


def _logits(forward: Forward, token_ids: Sequence[int], rotary: Sequence[Sequence[Rotary]]) -> Tensor:
    """Return logits of every position by one forward pass on the CPU, shape (tokens, vocab)."""
    structure, count = forward.structure, len(token_ids)
    angles = AngleTable(rotary, forward.device)
    angles.reserve(count)
    positions = torch.arange(count).unsqueeze(0)
    kv = torch.zeros(len(structure.layers), 2, 1, structure.kv_heads, count, structure.head_dim)
    cos_sin = angles.rows(positions, torch.zeros(1, 1, dtype=torch.long))
    return forward.logits(forward.hidden_states(torch.tensor([token_ids]), cos_sin, Span(kv, positions))[0])


def _found(decoder: DeviceDecoder, token_ids: Sequence[int]) -> Tensor:
    """Return the decoder's logits of every position: of a prompt, of single steps, and of steps beside another text."""
    cache, other, prefilled = decoder.new_cache(), decoder.new_cache(), 3 * len(token_ids) // 4
    rows = [decoder.prefill(token_ids[:prefilled], cache, every_position=True)]
    decoder.read(token_ids[:1], other)
    for index in range(prefilled, len(token_ids)):
        if index % 2:
            rows.append(decoder.decode([token_ids[index]], [cache]).logits.cpu())
        else:
            rows.append(decoder.decode([token_ids[0], token_ids[index]], [other, cache]).logits[1:].cpu())
    return torch.cat(rows)


def _margins(logits: Tensor) -> Tensor:
    first, second = logits.topk(2, -1).values.unbind(-1)
    return first - second


def _kl(found: Tensor, expected: Tensor) -> float:
    ours, theirs = found.double().log_softmax(-1), expected.double().log_softmax(-1)
    return max(0.0, float((theirs.exp() * (theirs - ours)).sum(-1).max()))


def _cpu_speed(reference: Reference, rotary: Sequence[Sequence[Rotary]]) -> float:
    """Return tokens per second from the time of one layer and that of embedding and head, on the CPU."""
    first = reference.first_layer
    layers = len(reference.forward.structure.layers)
    together = _median_s(lambda: _logits(first, [0], rotary), _REPEATS)
    outer = _median_s(lambda: first.logits(torch.zeros(1, first.structure.hidden)), _REPEATS)
    return 1.0 / (outer + layers * max(together - outer, 1e-9))


def _median_s(call: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return sorted(times)[count // 2]
