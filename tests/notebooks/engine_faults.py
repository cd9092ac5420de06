"""Faults of the engine that a change might bring in: in drawing, measuring, reading and keeping tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.notebooks.changing import change


def _change_draws(altered: Callable[[Any], Any]) -> None:
    """Of what chooses the tokens; what looks back at it sees the request as it was."""

    def made_of(original: Any) -> Any:
        return lambda self, asked, *more: original(self, asked if asked.greedy else altered(asked), *more)

    change("workbench.engine.sampling:Sampler", "__init__", made_of)


def _change_cuts(**neutral: Any) -> None:
    """Of drawing and of looking back alike."""
    change(
        "workbench.engine.sampling",
        "_drawn_index",
        lambda original: lambda logits, asked, number: original(logits, replace(asked, **neutral), number),
    )


def _change_load(precision: str) -> None:
    change(
        "workbench.providers.transformers.served",
        "load",
        lambda original: lambda folder, **options: original(folder, **options | {"precision": precision}),
    )


def the_seed_is_ignored() -> None:
    _change_draws(lambda asked: replace(asked, seed=None))


def the_temperature_is_ignored() -> None:
    _change_draws(lambda asked: replace(asked, temperature=1.0))


def every_draw_is_cut_to_five_tokens() -> None:
    _change_draws(lambda asked: replace(asked, top_k=5))


def top_k_is_ignored() -> None:
    _change_cuts(top_k=0)


def top_p_is_ignored() -> None:
    _change_cuts(top_p=1.0)


def greedy_takes_the_second_best() -> None:
    def made_of(original: Any) -> Any:
        def second(self: Any, logits: Any, *more: Any, **known: Any) -> Any:
            if not self.sampling.greedy:
                return original(self, logits, *more, **known)
            token_id = int(logits.topk(2).indices[1])
            self.take(token_id)
            return token_id, None

        return second

    change("workbench.engine.sampling:Sampler", "choose", made_of)


def looking_back_draws_anew() -> None:
    def made_of(original: Any) -> Any:
        return lambda logits, asked, seen_ids, _, mask=None: original(logits, asked, seen_ids, random.random(), mask)

    change("workbench.engine.inspection", "trace", made_of)


def logprobs_are_those_of_the_next_token_id() -> None:
    def made_of(original: Any) -> Any:
        def wrong(row: Any, token_id: int, *more: Any) -> Any:
            return replace(original(row, (token_id + 1) % len(row), *more), token_id=token_id)

        return wrong

    for module in ("workbench.engine.logprobs", "workbench.engine.decode_loop"):
        change(module, "measured", made_of)


def stop_strings_are_ignored() -> None:
    change("workbench.stopping:StopMatcher", "__init__", lambda original: lambda self, _: original(self, ()))


def scores_are_in_the_order_of_probability() -> None:
    def made_of(original: Any) -> Any:
        return lambda *asked: sorted(original(*asked), key=lambda tokens: sum(one.logprob for one in tokens))

    change("workbench.engine.scheduler", "score", made_of)


def vectors_come_in_another_order() -> None:
    change(
        "workbench.engine.embeddings:EmbeddingModel",
        "_embed",
        lambda original: lambda self, texts: original(self, texts)[::-1],
    )


def vectors_are_twice_as_long() -> None:
    def made_of(original: Any) -> Any:
        return lambda self, texts: [[2 * number for number in vector] for vector in original(self, texts)]

    change("workbench.engine.embeddings:EmbeddingModel", "_embed", made_of)


def every_precision_is_fp8() -> None:
    _change_load("fp8")


def logprobs_are_not_normalised() -> None:
    change("workbench.engine.logprobs", "_logprob", lambda _: lambda logit, whole: logit - whole.top)


def scores_leave_out_the_first_token() -> None:
    """Of each continuation that has others."""

    def made_of(original: Any) -> Any:
        return lambda *asked: [tokens[1:] or tokens for tokens in original(*asked)]

    change("workbench.engine.scheduler", "score", made_of)


def tokens_become_text_one_by_one() -> None:
    change(
        "workbench.engine.detokenizer:_Bytes",
        "decode",
        lambda _: lambda self, token_id: self._vocabulary.text(token_id),
    )


def bytes_are_those_of_the_shown_text() -> None:
    change("workbench.engine.detokenizer:Vocabulary", "bytes", lambda _: lambda self, at: self.text(at).encode())


def nothing_is_said_to_be_removed() -> None:
    change("workbench.engine.logprobs", "_removed_mass", lambda _: lambda row, whole, mask: 0.0)


def no_prefix_is_reused() -> None:
    change("workbench.engine.kv_cache:PrefixCache", "take", lambda _: lambda self, token_ids: None)


def any_text_is_taken_for_a_prefix() -> None:
    change("workbench.engine.kv_cache", "common_prefix", lambda _: lambda one, other: min(len(one), len(other) - 1))


def a_step_mixes_up_its_rows() -> None:
    def made_of(original: Any) -> Any:
        return lambda self, group, logits: original(self, group[::-1], logits)

    change("workbench.engine.decode_loop:DecodeLoop", "_choose", made_of)


def every_request_waits_for_the_one_before() -> None:
    def made_of(original: Any) -> Any:
        return lambda *asked, **options: original(*asked, **options | {"max_active": 1})

    change("workbench.engine.scheduler:Engine", "__init__", made_of)


def quantization_is_ignored() -> None:
    _change_load("float32")


# ------------------------------------------------------------------------------------------- inside the forward pass


def _change_edits(altered: Callable[[Any], Any]) -> None:
    """Of every edit, as the engine applies it."""

    def made_of(original: Any) -> Any:
        return lambda self, edits=(), captured=None: original(self, tuple(map(altered, edits)), captured)

    change("workbench.engine.insides.taps:Taps", "__init__", made_of)


def edits_are_ignored() -> None:
    change(
        "workbench.engine.insides.taps:Taps",
        "__init__",
        lambda original: lambda self, edits=(), captured=None: original(self, (), captured),
    )


def edits_are_one_token_late() -> None:
    def late(edit: Any) -> Any:
        return replace(edit, start=edit.start + 1, stop=None if edit.stop is None else edit.stop + 1)

    _change_edits(late)


def edits_are_one_layer_late() -> None:
    _change_edits(lambda edit: replace(edit, point=edit.point._replace(layer=edit.point.layer + 1)))


def edits_are_at_another_head() -> None:
    _change_edits(lambda edit: edit if edit.head is None else replace(edit, head=(edit.head + 1) % 9))


def added_numbers_have_the_wrong_sign() -> None:
    _change_edits(lambda edit: replace(edit, value=-edit.value) if edit.operation == "add" else edit)


def cached_prefixes_forget_their_edits() -> None:
    change(
        "workbench.engine.prefill",
        "cache_keys",
        lambda original: lambda token_ids, images, edits, *more: original(token_ids, images, (), *more),
    )


def captures_are_of_the_layer_before() -> None:
    def made_of(original: Any) -> Any:
        def earlier(self: Any, points: Any, positions: Any) -> Any:
            before = {point: point._replace(layer=max(point.layer - 1, 0)) for point in points}
            found = original(self, set(before.values()), positions)
            return {point: found[at] for point, at in before.items()}

        return earlier

    change("workbench.providers.transformers.insides:EngineInsides", "capture", made_of)


def captures_are_of_the_token_before() -> None:
    def made_of(original: Any) -> Any:
        return lambda self, points, positions: original(self, points, [max(at - 1, 0) for at in positions])

    change("workbench.providers.transformers.insides:EngineInsides", "capture", made_of)


def the_lens_has_no_norm() -> None:
    def made_of(_: Any) -> Any:
        from workbench.engine.logprobs import measured

        def read(decoder: Any, hidden: Any, token_id: int, alternatives: int, *_: Any) -> Any:
            return [measured(row, token_id, alternatives) for row in decoder.unembedding.head(hidden)]

        return read

    change("workbench.engine.insides.lens", "read_lens", made_of)


def the_lens_reads_the_layer_before() -> None:
    def made_of(original: Any) -> Any:
        return lambda decoder, hidden, *more: original(decoder, hidden[[0, *range(len(hidden) - 1)]], *more)

    change("workbench.engine.insides.lens", "read_lens", made_of)


def the_lens_looks_ahead_from_another_layer() -> None:
    def made_of(original: Any) -> Any:
        return lambda self, layer, row: original(self, max(layer - 8, 0), row)

    change("workbench.engine.insides.jacobian_lens:JacobianLens", "transport", made_of)


def parts_are_not_scaled_by_the_last_norm() -> None:
    change(
        "workbench.engine.insides.contributions:Unembedding",
        "normed",
        lambda _: lambda self, parts, whole: parts * self.weight.double(),
    )


def the_embedding_is_no_part() -> None:
    def made_of(original: Any) -> Any:
        return lambda unembedding, parts, token_id: original(unembedding, parts.index_fill(0, _first(), 0.0), token_id)

    change("workbench.providers.transformers.insides", "contributions", made_of)


def _first() -> Any:
    import torch

    return torch.tensor([0])


def attention_and_mlp_change_names() -> None:
    swapped = {"attn_out": "mlp_out", "mlp_out": "attn_out"}

    def made_of(original: Any) -> Any:
        def wrong(points: Any) -> list[str]:
            names = [name.split(".") for name in original(points)]
            return [".".join([swapped.get(kind, kind), *layer]) for kind, *layer in names]

        return wrong

    change("workbench.providers.transformers.insides", "_part_names", made_of)


def attention_weights_are_not_scaled() -> None:
    """Queries have been divided by the root of their length, eight."""

    def made_of(original: Any) -> Any:
        def sharper(structure: Any, index: int, taps: Any, active: Any, attended: Any) -> Any:
            return original(structure, index, taps, active, attended._replace(queries=attended.queries * 8))

        return sharper

    for module in ("workbench.engine.insides.prompt_points", "workbench.engine.insides.step_points"):
        change(module, "visit_attention", made_of)
