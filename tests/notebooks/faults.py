"""Faults above the engine that a change might bring in: in prompts, records, tools, providers and widgets."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.notebooks.changing import change


def another_model_answers() -> None:
    """A tiny one of random weights, under the name of the embedded one."""
    from tests.tiny_models import bpe_tokenizer, save_model

    folder = Path(tempfile.mkdtemp()) / "model"
    save_model(folder, "llama", bpe_tokenizer())
    change(
        "workbench.catalog",
        "resolve",
        lambda original: lambda name, **options: folder if "smollm2" in name else original(name, **options),
    )


def the_template_is_dropped() -> None:
    def plain(self: Any, messages: Any, *_: Any, **__: Any) -> Any:
        return self.text_prompt("\n".join(str(message.content) for message in messages))

    change("workbench.prompts.encoding:PromptEncoder", "chat_prompt", lambda _: plain)


def a_batch_mixes_up_its_rows() -> None:
    def made_of(original: Any) -> Any:
        async def mixed(self: Any, requests: Any) -> Any:
            return (await original(self, requests))[::-1]

        return mixed

    change("workbench.providers.transformers:TransformersProvider", "generate_batch", made_of)


def changed_capsules_are_taken() -> None:
    change("workbench.session.capsule", "_check_seals", lambda _: lambda data, seals: None)


def a_replay_finds_no_difference() -> None:
    change("workbench.session.replay", "first_difference", lambda _: lambda one, other: None)


def a_trace_answers_whatever_it_is_asked() -> None:
    def first(self: Any, method: Any, *_: Any) -> Any:
        return next(calls[0] for calls in self._calls.values() if calls[0].method == method)

    change("workbench.providers.trace.playing:Playlist", "take", lambda _: first)


def a_provider_is_asked_for_what_it_does_not_offer() -> None:
    change("workbench.stack.router", "refuse_undeclared", lambda _: lambda provider, request: None)


def registrations_are_forgotten() -> None:
    change("workbench.stack.registrations:RegistrationStore", "put", lambda _: lambda self, row: None)


def surprises_lose_their_minus() -> None:
    change("workbench.records:TokenRecord", "surprisal_bits", lambda bits: property(lambda self: -bits.fget(self)))


def surprises_are_in_nats() -> None:
    change("workbench.records:TokenRecord", "surprisal_bits", lambda _: property(lambda self: -self.logprob))


def scores_are_not_divided_by_the_length() -> None:
    change("workbench.records:Score", "logprob_per_token", lambda _: property(lambda self: self.logprob))


def texts_lose_the_space_at_their_end() -> None:
    def made_of(original: Any) -> Any:
        return lambda content, field: original(content, field).rstrip(" ") or " "

    change("workbench.prompts.encoding", "plain_text", made_of)


def typed_control_tokens_are_taken_for_real() -> None:
    """In a plain text, and in a message."""
    change(
        "workbench.prompts.control_tokens:ControlTokens",
        "encode_text",
        lambda _: lambda self, text, **_: self.encode_written(text, [(0, len(text))]),
    )
    change(
        "workbench.prompts.control_tokens:ControlTokens",
        "encode_written",
        lambda original: lambda self, text, _: original(self, text, [(0, len(text))]),
    )


def _change_turns(altered: Callable[[list[Any]], list[Any]]) -> None:
    """Of the messages that the template is given; there is always one."""

    def made_of(original: Any) -> Any:
        return lambda messages, *more, **options: original(altered(messages) or messages, *more, **options)

    change("workbench.prompts.encoding", "text_turns", made_of)


def system_messages_are_ignored() -> None:
    _change_turns(lambda messages: [one for one in messages if one.role != "system"])


def only_the_last_message_is_sent() -> None:
    _change_turns(lambda messages: [one for one in messages[:-1] if one.role == "system"] + messages[-1:])


def the_assistant_is_not_asked_to_speak() -> None:
    """The prompt ends with the user's turn."""

    def made_of(original: Any) -> Any:
        def cut(self: Any, *asked: Any) -> Any:
            whole = original(self, *asked)
            opened = max(at for at, is_control in enumerate(whole.is_control) if is_control)
            text = whole.text[: whole.text.rindex("<|im_start|>")]
            return replace(whole, text=text, token_ids=whole.token_ids[:opened], is_control=whole.is_control[:opened])

        return cut

    change("workbench.prompts.templates:ChatTemplate", "prompt", made_of)


def formats_are_ignored() -> None:
    change(
        "workbench.providers.transformers.request_preparation", "answer_grammar", lambda _: lambda response_format: None
    )


def tools_run_without_approval() -> None:
    def made_of(original: Any) -> Any:
        return lambda self, ask, tools, approve, max_rounds: original(self, ask, tools, True, max_rounds)

    change("workbench.session.conversation:Loop", "__init__", made_of)


def approved_tools_do_not_run() -> None:
    change("workbench.session.conversation:Conversation", "result", lambda _: lambda self, call: "")


def bets_are_paid_for_another_word() -> None:
    def made_of(original: Any) -> Any:
        return lambda *asked: [replace(one, came=(one.came + 1) % len(one.choices)) for one in original(*asked)]

    change("workbench.widgets.prediction_rounds", "_round", made_of)


def the_rest_of_a_bet_is_lost() -> None:
    """What is not on the chosen word is on no other."""

    def made_of(original: Any) -> Any:
        def spread(self: Any, choice: Any, confidence: float) -> Any:
            return tuple(1.0 if share == confidence else 1e-9 for share in original(self, choice, confidence))

        return spread

    change("workbench.widgets.prediction_rounds:Round", "spread", made_of)


def the_best_chunk_comes_last() -> None:
    def made_of(original: Any) -> Any:
        async def reversed_order(self: Any, *arguments: Any, **options: Any) -> Any:
            found = await original(self, *arguments, **options)
            return found.model_copy(update={"chunks": found.chunks[::-1], "scores": found.scores[::-1]})

        return reversed_order

    change("workbench.stack.memory_banks:MemoryRouter", "query_documents", made_of)


def deleted_documents_are_still_found() -> None:
    async def kept(self: Any, bank_id: str, document_ids: Any) -> None:
        return None

    change("workbench.stack.memory_banks:MemoryRouter", "delete_documents", lambda _: kept)


def chunks_do_not_reach_the_prompt() -> None:
    change("workbench.stack.retrieval", "context_of", lambda _: lambda chunks, left_out=(): None)


def another_chunk_is_left_out() -> None:
    def made_of(original: Any) -> Any:
        return lambda request, index: original(request, (index + 1) % len(request.retrieved.chunks))

    change("workbench.stack.retrieval", "without_chunk", made_of)


def shields_pass_everything() -> None:
    async def passed(self: Any, *_: Any, **__: Any) -> Any:
        from workbench.protocol import RunShieldResponse

        return RunShieldResponse()

    change("workbench.stack.shields:SafetyRouter", "run_shield", lambda _: passed)


def attention_is_that_of_the_next_head() -> None:
    def made_of(original: Any) -> Any:
        return lambda self, layer, head: original(self, layer, (head + 1) % 9)

    change("workbench.session.run_insides:RunInsides", "attention", made_of)


def a_patch_goes_to_the_next_token() -> None:
    def made_of(original: Any) -> Any:
        def shifted(self: Any, name: str, position: int, *, to: int | None = None, head: int | None = None) -> Any:
            return original(self, name, position, to=(position if to is None else to) + 1, head=head)

        return shifted

    change("workbench.session.capture:Capture", "patch", made_of)


def steering_subtracts_the_vector() -> None:
    change(
        "workbench.session.model_insides", "steered", lambda original: lambda vector, factor: original(vector, -factor)
    )


def replays_leave_out_edits() -> None:
    def made_of(original: Any) -> Any:
        def started(capsule: Any, *more: Any) -> Any:
            plain = capsule.request.model_copy(update={"edits": None})
            return original(capsule.model_copy(update={"request": plain}), *more)

        return started

    change("workbench.session.replay", "_started", made_of)
