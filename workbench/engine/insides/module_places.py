"""The places of a model's points, found by what its modules read and returned in a short forward pass.

Names of classes say only which modules are attention and which are MLPs. All else follows from equal numbers: a head's
output is what the projection reads whose output attention returns. What is not found is missing, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from workbench.engine.insides.module_taps import Place
from workbench.engine.insides.recording import Call, Recording, same
from workbench.engine.insides.softmaxes import Weights
from workbench.insides import ATTENTION_KINDS

Found: TypeAlias = dict[str, "Place | str"]
"""Places by kind, or the reasons why there are none."""

_ATTENTION = re.compile(r"Attention|Attn(?!.*Layer)|SelfAttn")
_NO_SOFTMAX = re.compile(
    r"Rwkv|Mamba|Linear|Lightning|Delta|Recurrent|Retention|XLSTM|xLSTM|mLSTM|SSM|Short", re.IGNORECASE
)
_MLP = re.compile(r"MLP|Mlp|FeedForward|FFN|Ffn|MoE|Moe|MOE|SparseMoe|Experts|FFW|ChannelMix")
_NO_MLP = re.compile(r"Norm|Attention|Linear|Embedding|Router|Activation")
_MLP_NAMES = frozenset(["mlp", "feed_forward", "feedforward", "ffn", "ff", "block_sparse_moe", "moe", "ffwd"])

_PARTS_OF_ATTENTION = ("attn_in", "value", "attn_scores", "attn_probs", "z", "attn_out")
_PARTS_OF_MLP = ("mlp_in", "mlp_pre", "mlp_act", "mlp_out")


@dataclass(frozen=True, slots=True)
class _Projection:
    """The last matrix of attention or of an MLP."""

    leaf: nn.Module
    call: Call
    output: Place


@dataclass(frozen=True, slots=True)
class LayerPlaces:
    """Finds the places of one layer.

    Args:
        softmaxes: the attention weights of each module that computed one softmax.
        heads: number of query heads by the config, for modules whose weights are unknown.
    """

    recording: Recording
    softmaxes: Mapping[nn.Module, Weights]
    layer: nn.Module
    tokens: int
    heads: int

    @property
    def attention(self) -> nn.Module | str:
        """The layer's attention, or the reason why it has none."""
        return self._part(_ATTENTION, frozenset(), None)

    def find(self) -> Found:
        """Return the places of the layer's points."""
        call = self._call(self.layer)
        width = _width(call.result, self.tokens)
        found: Found = dict.fromkeys((*_PARTS_OF_ATTENTION, *_PARTS_OF_MLP, "resid_mid"), "")
        found["resid_pre"] = self._place(self.layer, call.source, is_input=True, width=width)
        found["resid_post"] = self._place(self.layer, call.result, is_input=False, width=width)
        attention = self.attention
        found |= (
            dict.fromkeys(_PARTS_OF_ATTENTION, attention) if isinstance(attention, str) else self._attention(attention)
        )
        mlp = self._part(_MLP, _MLP_NAMES, None if isinstance(attention, str) else attention)
        found |= self._loose_mlp() if isinstance(mlp, str) else self._mlp(mlp)
        found["resid_mid"] = self._residual(None if isinstance(attention, str) else attention, found)
        return found

    def _call(self, module: nn.Module) -> Call:
        call = self.recording.only(module)
        assert call is not None, "the caller has checked that it is called once"
        return call

    def _place(self, module: nn.Module, tensor: Tensor | None, *, is_input: bool, width: int) -> Place | str:
        if tensor is None or tensor.shape[-1] != width or tensor.numel() != self.tokens * width:
            return f"{type(module).__name__} has numbers of another shape there"
        return Place(module, is_input, (width,))

    def _part(self, kind: re.Pattern[str], names: frozenset[str], other: nn.Module | None) -> nn.Module | str:
        """Return the one module of a kind that is not within another of them, or within ``other``."""
        found: list[nn.Module] = []
        within = set() if other is None else set(other.modules())
        for name, module in self.layer.named_modules():
            label = type(module).__name__
            is_kind = kind.search(label) and not (kind is _MLP and _NO_MLP.search(label))
            if not name or module in within or not (is_kind or name in names):
                continue
            within.update(module.modules())
            if module in self.recording.calls:
                found.append(module)
        what = "attention" if kind is _ATTENTION else "MLP"
        if kind is _ATTENTION and any(_NO_SOFTMAX.search(type(one).__name__) for one in found):
            return f"its {type(found[0]).__name__} is recurrent and has no attention"
        if not found:
            return f"{type(self.layer).__name__} has no {what}"
        if len(found) > 1 or self.recording.only(found[0]) is None:
            return f"{type(self.layer).__name__} computes more than one {what}"
        return found[0]

    # Attention

    def _attention(self, module: nn.Module) -> Found:
        call = self._call(module)
        width = _width(call.source, self.tokens)
        found: Found = {"attn_in": self._place(module, call.source, is_input=True, width=width)}
        weights = self.softmaxes.get(module)
        heads = self.heads if weights is None else weights.probs.shape[1]
        if weights is None:
            reason = f"{type(module).__name__} computes no softmax of torch, or more than one"
            found |= dict.fromkeys(ATTENTION_KINDS, reason)
        else:
            found |= dict.fromkeys(ATTENTION_KINDS, Place(module, is_input=False, shape=(heads,)))
        projection = self._projection(module)
        if projection is None:
            reason = f"no projection computes what {type(module).__name__} returns"
            found |= {"z": reason, "value": reason}
            found["attn_out"] = self._place(module, call.result, is_input=False, width=width)
            return found
        found["attn_out"] = projection.output
        size = _width(projection.call.source, self.tokens)
        if not heads or not size or size % heads:
            found |= dict.fromkeys(("z", "value"), f"{size} numbers are not those of {heads} heads of one size")
            return found
        found["z"] = Place(projection.leaf, is_input=True, shape=(heads, size // heads))
        source = projection.call.source
        assert source is not None, "a projection has one"
        z = source.reshape(self.tokens, heads, -1).float()
        found["value"] = "its attention weights, which would show its values, are unknown"
        if weights is not None:
            found["value"] = self._value(module, weights.probs, z if weights.sums is None else weights.sums)
        return found

    def _value(self, module: nn.Module, probs: Tensor, expected: Tensor) -> Place | str:
        """Return the place of numbers whose sums by the attention weights are expected, (tokens, heads, head_dim)."""
        heads, dim = expected.shape[1:]
        tolerance = (1e-4 if _dtype(module) == torch.float32 else 3e-2) * float(expected.abs().max())
        for leaf, call in self._leaves(module):
            assert call.result is not None, "leaves have results"
            if not (width := _width(call.result, self.tokens)):
                continue
            rows = call.result.reshape(self.tokens, width).float()
            for columns in _value_columns(width, heads, dim):
                index = columns.flatten().to(probs.device)
                values = rows[:, index].unflatten(-1, columns.shape)
                sums = torch.einsum("thk,khd->thd", probs, values.repeat_interleave(heads // len(columns), 1))
                if (sums - expected).abs().max() <= tolerance:
                    is_whole = len(index) == width
                    return Place(leaf, is_input=False, shape=(len(columns), dim), columns=None if is_whole else index)
        return f"no projection of {type(module).__name__} returns values that its weights sum up"

    # MLP

    def _mlp(self, module: nn.Module) -> Found:
        call, label = self._call(module), type(module).__name__
        width = _width(call.source, self.tokens)
        found: Found = {"mlp_in": self._place(module, call.source, is_input=True, width=width)}
        projection = self._projection(module)
        if projection is None:
            found["mlp_out"] = self._place(module, call.result, is_input=False, width=width)
            has_experts = re.search(r"Moe|MoE|MOE|Expert", label) or any(
                "Expert" in type(one).__name__ or "experts" in name for name, one in module.named_modules()
            )
            experts = "each token passes some of its experts, each with its own"
            reason = experts if has_experts else f"no projection computes what {label} returns"
            return found | dict.fromkeys(("mlp_pre", "mlp_act"), reason)
        found["mlp_out"] = projection.output
        return found | self._inner(list(self._leaves(module)), call.source, projection)

    def _loose_mlp(self) -> Found:
        """Find an MLP whose two matrices are modules of the layer itself."""
        children = [(one, call) for one in self.layer.children() if (call := self._leaf_call(one)) is not None]
        matrices = [(one, call) for one, call in children if _is_affine(one, call)]
        if len(matrices) != 2:
            return dict.fromkeys(_PARTS_OF_MLP, f"{type(self.layer).__name__} has no MLP of its own")
        (first, begin), (last, end) = sorted(matrices, key=lambda pair: pair[1].start)
        found: Found = {
            "mlp_in": self._place(first, begin.source, is_input=True, width=_width(begin.source, self.tokens))
        }
        output = self._place(last, end.result, is_input=False, width=_width(end.result, self.tokens))
        found["mlp_out"] = output
        if isinstance(output, Place):
            between = [pair for pair in children if begin.start <= pair[1].start]
            found |= self._inner(between, begin.source, _Projection(last, end, output))
        return found

    def _inner(self, leaves: list[tuple[nn.Module, Call]], source: Tensor | None, last: _Projection) -> Found:
        """Find the numbers between the first and the last matrix among the leaves of an MLP."""
        width = _width(last.call.source, self.tokens)
        found: Found = {"mlp_act": self._place(last.leaf, last.call.source, is_input=True, width=width)}
        before = [(leaf, call) for leaf, call in leaves if call.start < last.call.start]
        activations = [
            (leaf, call) for leaf, call in before if not any(True for _ in leaf.parameters())
            and not same(call.source, call.result) and not same(call.source, source)
            and _width(call.source, self.tokens)
        ]  # fmt: skip
        first = [(leaf, call) for leaf, call in before if same(call.source, source) and _is_affine(leaf, call)]
        if len(activations) == 1:
            leaf, call = activations[0]
            found["mlp_pre"] = Place(leaf, is_input=True, shape=(_width(call.source, self.tokens),))
        elif len(first) == 1 and _width(first[0][1].result, self.tokens) == width:
            found["mlp_pre"] = Place(first[0][0], is_input=False, shape=(width,))
        else:
            found["mlp_pre"] = "its activation is not a module of its own"
        return found

    # Both

    def _projection(self, module: nn.Module) -> _Projection | None:
        """Return the matrix whose product a module returns, alone or added to the residual stream."""
        call = self._call(module)
        assert call.result is not None, "the caller has checked it"
        width = _width(call.result, self.tokens)
        for leaf, inner in self._leaves(module):
            if inner.result is None or inner.result.numel() != call.result.numel() or not _is_affine(leaf, inner):
                continue
            if same(inner.result, call.result):
                return _Projection(leaf, inner, Place(module, is_input=False, shape=(width,)))
            rest = (call.result.flatten() - inner.result.flatten()).float()
            close = 1e-3 * float(call.result.abs().max())
            if any(
                one.numel() == rest.numel() and float((one.flatten() - rest).abs().max()) <= close
                for one in call.arguments
            ):
                return _Projection(leaf, inner, Place(leaf, is_input=False, shape=(width,)))
        return None

    def _residual(self, attention: nn.Module | None, found: Found) -> Place | str:
        """Return the place of what the norm before the MLP reads, or the MLP itself if there is none."""
        mlp_in = found["mlp_in"]
        if attention is None or isinstance(mlp_in, str):
            return "there are no attention and MLP that it would be between"
        layer, mlp = self._call(self.layer), self._call(mlp_in.module)
        norms = [
            (one, call) for one in self.layer.modules()
            if one is not self.layer and (call := self.recording.only(one)) is not None
            and call.end < mlp.start and same(call.result, mlp.source) and not same(call.source, call.result)
        ]  # fmt: skip
        module, call = min(norms, key=lambda pair: pair[1].start, default=(mlp_in.module, mlp))
        if same(call.source, layer.source):
            return "its attention and MLP read the same residual stream, so there is none between them"
        place = self._place(module, call.source, is_input=True, width=_width(layer.source, self.tokens))
        return place if isinstance(place, str) else Place(module, is_input=True, shape=place.shape, is_shared=True)

    def _leaves(self, module: nn.Module) -> Iterator[tuple[nn.Module, Call]]:
        """Yield the modules without parts in a module, in the order of their calls."""
        found = [(one, call) for one in module.modules() if (call := self._leaf_call(one)) is not None]
        yield from sorted(found, key=lambda pair: pair[1].start)

    def _leaf_call(self, module: nn.Module) -> Call | None:
        return None if any(True for _ in module.children()) else self.recording.only(module)


def find_layers(model: nn.Module, recording: Recording, expected: int) -> nn.ModuleList | None:
    """Return the list of a model's layers: of the outermost lists of modules that are each called once, in order."""
    lists = [
        one for one in model.modules()
        if isinstance(one, nn.ModuleList) and len(one) and all(recording.only(layer) for layer in one)
    ]  # fmt: skip
    for one in lists:
        starts = [recording.start(layer) for layer in one]
        if len(one) == expected and starts == sorted(starts):
            return one
    return None


def find_norm(model: nn.Module, recording: Recording, last: Call) -> nn.Module | None:
    """Return the first module after the last layer that reads what the layer returns, and returns as many numbers."""
    found = [
        (call.start, index, one) for index, one in enumerate(model.modules())
        if (call := recording.only(one)) is not None and call.start > last.end and same(call.source, last.result)
        and call.result is not None and last.result is not None and call.result.shape == last.result.shape
    ]  # fmt: skip
    return min(found)[2] if found else None


def _value_columns(width: int, heads: int, dim: int) -> Iterator[Tensor]:
    """Yield which columns of a projection may be values, shape (key heads, dim)."""
    columns = torch.arange(width)
    if width % heads == 0 and width > heads * dim:
        yield columns.view(heads, -1)[:, -dim:]  # by head, after its key or after query and key
    if width % dim:
        return
    groups = columns.view(-1, dim)
    if heads % len(groups) == 0:
        yield groups  # nothing else
    if len(groups) == 3 * heads:
        for blocks in (one for one in range(1, heads + 1) if heads % one == 0):
            for part in (2, 1, 0):  # blocks of queries, keys and values in any order
                yield groups.view(blocks, 3, -1, dim)[:, part].flatten(0, 1)
    elif (rest := len(groups) - heads) > 0 and rest % 2 == 0 and heads % (kv_heads := rest // 2) == 0:
        yield groups[heads + kv_heads :]  # queries, keys, values
        yield groups.view(kv_heads, -1, dim)[:, -1]  # by key head: its queries, its key, its value


def _is_affine(module: nn.Module, call: Call) -> bool:
    """Return whether a module is a matrix, with or without a bias, and neither a norm nor an activation."""
    x, y = call.source, call.result
    if x is None or y is None or not x.is_floating_point() or same(x, y):
        return False
    with torch.no_grad():
        zero, other = (_output(module, one) for one in (torch.zeros_like(x), -2 * x))
    if zero is None or other is None or zero.shape != y.shape:
        return False
    error = (other + 2 * y - 3 * zero).float().abs().max()
    return bool(error <= 0.05 * (y - zero).float().abs().max())


def _output(module: nn.Module, x: Tensor) -> Tensor | None:
    try:
        output: Any = module.forward(x)
    except TypeError:  # a module with more arguments is no matrix
        return None
    return output if isinstance(output, Tensor) else None


def _width(tensor: Tensor | None, tokens: int) -> int:
    """Return how many numbers a tensor has for each token, in its last dimension alone; 0 if it has others."""
    if tensor is None or not tensor.is_floating_point() or tensor.numel() != tokens * tensor.shape[-1]:
        return 0
    return tensor.shape[-1]


def _dtype(module: nn.Module) -> torch.dtype:
    return next((one.dtype for one in module.parameters()), torch.float32)
