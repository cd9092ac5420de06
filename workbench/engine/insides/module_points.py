"""The points of a model of transformers: found in one short forward pass, and tried in a few more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.engine.insides.module_places import LayerPlaces, find_layers, find_norm
from workbench.engine.insides.module_taps import Inside, Place, tapped
from workbench.engine.insides.recording import Recording, recorded, same
from workbench.engine.insides.softmaxes import Softmaxes, Weights
from workbench.engine.step_errors import first_line
from workbench.insides import ATTENTION_KINDS, KINDS, ModelPoints, Point

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 7
"""Tokens of the forward passes: a prime number, so that no size of a model is mistaken for it."""

_DELTA = 8.0
"""Standard deviations of the numbers that are added to a residual stream to see whether they stay in it."""


class ModulePoints:
    """The points of a model, by its modules.

    Args:
        forward: computes `TOKENS` tokens without a past; returns float32 logits of all of them, (tokens, vocab).
    """

    def __init__(self, model: PreTrainedModel, forward: Callable[[], Tensor]) -> None:
        self._model: Any = model
        self._forward = forward
        self._layers = 0
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._missing: dict[str, str] = {}
        self._places: dict[Point, Place] = {}
        self._attention: dict[nn.Module, int] = {}
        self._sinks: dict[nn.Module, int] = {}
        self._derives = False
        self._head: nn.Module | None = None
        self._last: nn.Module | None = None
        with torch.no_grad():
            try:
                self._find()
                self._try_residual()
                self._try()
            except Exception as error:  # noqa: BLE001 - a model's own code may raise anything when it is watched
                self._drop_all(first_line(error))

    @property
    def points(self) -> ModelPoints:
        derived = ATTENTION_KINDS if self._derives and not ATTENTION_KINDS.isdisjoint(self._sizes) else ()
        return ModelPoints(self._layers, self._sizes, self._missing, frozenset(derived))

    @property
    def inside(self) -> Inside:
        return Inside(self._places, self._attention, self._sinks, self._head, self._last)

    def _find(self) -> None:
        """Find the places of all points, and the reasons why others are missing."""
        model = self._model
        with recorded(model) as recording:
            self._logits = self._forward()
        self._sizes["lm_head"] = (self._logits.shape[-1],)
        embedding = model.get_input_embeddings()
        call = recording.only(embedding)
        if call is None or call.result is None or call.result.numel() != TOKENS * call.result.shape[-1]:
            self._missing["embeddings"] = "its embedding is not one module that is computed once"
        else:
            place = Place(embedding, is_input=False, shape=(call.result.shape[-1],))
            self._add("embeddings", {Point("embeddings"): place})
        layers = find_layers(model, recording, self._size("num_hidden_layers"))
        if layers is None:
            reason = "its layers are not a list of modules that are each computed once"
            self._missing |= {name: reason for name, kind in KINDS.items() if kind.in_layers}
            self._missing["final_norm"] = reason
            return
        self._layers = len(layers)
        self._find_layers(recording, list(layers), self._size("num_attention_heads"))
        self._find_last(recording, layers[-1])

    def _size(self, name: str) -> int:
        """Return a number of the config; 0 if it has none, or one for each layer."""
        try:
            return getattr(self._model.config.get_text_config(decoder=True), name, 0) or 0
        except Exception:  # noqa: BLE001 - a config may refuse names in its own way
            return 0

    def _find_layers(self, recording: Recording, layers: Sequence[nn.Module], heads: int) -> None:
        empty: Mapping[nn.Module, Weights] = {}
        attention = [LayerPlaces(recording, empty, layer, TOKENS, heads).attention for layer in layers]
        softmaxes = self._softmaxes([module for module in attention if isinstance(module, nn.Module)])
        self._attention = {
            module: layer
            for layer, module in enumerate(attention)
            if isinstance(module, nn.Module) and module in softmaxes
        }
        found = [LayerPlaces(recording, softmaxes, layer, TOKENS, heads).find() for layer in layers]
        for kind in found[0]:
            self._add_of_layers(kind, [one[kind] for one in found])

    def _softmaxes(self, modules: Sequence[nn.Module]) -> dict[nn.Module, Weights]:
        """Return the attention weights of modules that compute one softmax over the tokens."""
        found: dict[nn.Module, list[Weights]] = {}

        def keep(module: nn.Module, weights: Weights) -> None:
            found.setdefault(module, []).append(weights)

        with Softmaxes(dict.fromkeys(modules, 0), TOKENS, keep) as watched:
            self._forward()
        weights = {one: many[0] for one, many in found.items() if len(many) == 1 and one not in watched.others}
        sinks = {one: weights[one].probs.shape[-1] - TOKENS for one in weights}
        weights = {one: _without(weights[one], sinks[one]) for one in weights if sinks[one] in (0, 1)}
        self._derives = any(one.sums is not None for one in weights.values())
        causal = {one: many for one, many in weights.items() if not many.probs.permute(1, 0, 2).triu(1).any()}
        self._sinks = {one: sinks[one] for one in causal}
        return causal

    def _find_last(self, recording: Recording, last: nn.Module) -> None:
        """Find the last norm and the head; drop the residual stream if the last layer's is not what the norm reads."""
        head = self._model.get_output_embeddings()
        read, final = recording.only(head), recording.only(last)
        assert final is not None, "the layers have been found by it"
        norm = find_norm(self._model, recording, final)
        call = recording.only(norm)
        if norm is None or call is None or call.result is None:
            self._missing["final_norm"] = "no module reads the residual stream after the last layer"
            if read is None or not same(read.source, final.result):
                for kind in ("resid_pre", "resid_mid", "resid_post"):
                    self._drop(kind, "what its layers return is not what its last norm or its head reads")
            return
        self._add("final_norm", {Point("final_norm"): Place(norm, is_input=False, shape=(call.result.shape[-1],))})
        if read is not None and same(read.source, call.result):
            self._head, self._last = head, norm

    def _add(self, kind: str, places: Mapping[Point, Place]) -> None:
        self._sizes[kind] = next(iter(places.values())).shape
        self._places |= places

    def _add_of_layers(self, kind: str, found: Sequence[Place | str]) -> None:
        places = [one for one in found if isinstance(one, Place)]
        for layer, one in enumerate(found):
            if isinstance(one, str):
                self._missing[kind] = f"in layer {layer}, {one}" if places else one
                return
        if len({one.shape for one in places}) > 1:
            self._missing[kind] = "its layers have it in different sizes"
        elif len({(one.module, one.is_input) for one in places}) < len(places):
            self._missing[kind] = "its layers share the module"
        elif kind in ATTENTION_KINDS:
            self._sizes[kind] = places[0].shape  # visited by the softmaxes, not by a hook
        else:
            self._add(kind, {Point(kind, layer): one for layer, one in enumerate(places)})

    def _drop(self, kind: str, reason: str) -> None:
        if self._sizes.pop(kind, None) is not None:
            self._missing[kind] = reason
        self._places = {point: place for point, place in self._places.items() if point.kind != kind}

    def _drop_all(self, problem: str) -> None:
        self._sizes, self._places, self._attention = {}, {}, {}
        self._missing = dict.fromkeys(KINDS, f"its modules could not be watched: {problem}")

    def _try(self) -> None:
        """Drop the kinds that cannot be visited once in a forward pass, or change it when nothing is changed."""
        points = frozenset(self.points.all())
        if self._leaves_all(points):
            return
        for kind in list(self._sizes):
            if not self._leaves_all(frozenset(point for point in points if point.kind == kind)):
                self._drop(kind, "writing back what was read there changes the logits")

    def _leaves_all(self, points: frozenset[Point]) -> bool:
        """Return whether each point is visited once, and writing back what was read leaves the logits as they are."""
        seen: Counter[Point] = Counter({Point("lm_head"): int(Point("lm_head") in points)})

        def visit(point: Point, values: Tensor) -> Tensor:
            seen[point] += 1
            size = self._sizes[point.kind]
            assert values.shape[: 1 + len(size)] == (TOKENS, *size), f"{point} has the shape {tuple(values.shape)}"
            return values.clone()

        with tapped(self.inside, points, visit, 0, TOKENS):
            logits = self._forward()
        return torch.equal(logits, self._logits) and all(seen[point] == 1 for point in points)

    def _try_residual(self) -> None:
        """Drop the stream between attention and MLP unless what is added to it stays in the stream after the layer."""
        if "resid_mid" not in self._sizes:
            return
        read: dict[Point, Tensor] = {}
        generator = torch.Generator().manual_seed(0)

        def visit(point: Point, values: Tensor) -> Tensor | None:
            if point.kind == "resid_post":
                read[point] = values.clone()
                return None
            if point.kind == "mlp_out":
                return torch.zeros_like(values)
            added = torch.randn(values.shape, generator=generator).to(values.device)
            read[point] = values + _DELTA * values.std() * added
            return read[point]

        kinds = ("resid_mid", "mlp_out", "resid_post")
        points = frozenset(Point(kind, layer) for kind in kinds for layer in range(self._layers))
        with tapped(self.inside, points, visit, 0, TOKENS):
            self._forward()
        for layer in range(self._layers):
            middle, after = read[Point("resid_mid", layer)], read[Point("resid_post", layer)]
            rest = after - middle  # what the MLP adds when its output is zero: the same for all tokens
            if (rest - rest[0]).abs().max() > 0.05 * (middle - middle.mean(0)).std():
                self._drop("resid_mid", "its layers do not add the output of the MLP to that stream")
                return


def _without(weights: Weights, sinks: int) -> Weights:
    """Return attention weights without the columns of sinks."""
    if not sinks:
        return weights
    return replace(weights, scores=weights.scores[..., :-sinks], probs=weights.probs[..., :-sinks])
