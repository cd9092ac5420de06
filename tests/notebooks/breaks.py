"""Which fault each lesson has to notice: `test_broken_claims.py` brings it into the kernel before the first cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.notebooks import engine_faults, faults


@dataclass(frozen=True)
class Break:
    """One fault, and the lesson that claims it is none."""

    lesson: str
    """Its number."""
    by: Callable[[], None]

    @property
    def name(self) -> str:
        return f"{self.lesson}-{self.by.__name__}"


BREAKS = (
    Break("00", engine_faults.the_seed_is_ignored),
    Break("00", faults.another_model_answers),
    Break("01", engine_faults.greedy_takes_the_second_best),
    Break("01", engine_faults.logprobs_are_those_of_the_next_token_id),
    Break("01", engine_faults.stop_strings_are_ignored),
    Break("01", faults.the_template_is_dropped),
    Break("01", engine_faults.scores_are_in_the_order_of_probability),
    Break("02", engine_faults.the_seed_is_ignored),
    Break("02", engine_faults.the_temperature_is_ignored),
    Break("02", engine_faults.every_draw_is_cut_to_five_tokens),
    Break("02", engine_faults.top_k_is_ignored),
    Break("02", engine_faults.top_p_is_ignored),
    Break("02", engine_faults.looking_back_draws_anew),
    Break("03", engine_faults.logprobs_are_those_of_the_next_token_id),
    Break("03", engine_faults.logprobs_are_not_normalised),
    Break("03", faults.surprises_lose_their_minus),
    Break("03", faults.scores_are_not_divided_by_the_length),
    Break("03", engine_faults.scores_leave_out_the_first_token),
    Break("04", engine_faults.tokens_become_text_one_by_one),
    Break("04", engine_faults.bytes_are_those_of_the_shown_text),
    Break("04", faults.texts_lose_the_space_at_their_end),
    Break("04", faults.typed_control_tokens_are_taken_for_real),
    Break("05", faults.the_template_is_dropped),
    Break("05", faults.system_messages_are_ignored),
    Break("05", faults.only_the_last_message_is_sent),
    Break("05", faults.the_assistant_is_not_asked_to_speak),
    Break("05", faults.typed_control_tokens_are_taken_for_real),
    Break("06", faults.formats_are_ignored),
    Break("06", engine_faults.nothing_is_said_to_be_removed),
    Break("06", faults.tools_run_without_approval),
    Break("06", faults.approved_tools_do_not_run),
    Break("07", engine_faults.vectors_come_in_another_order),
    Break("07", engine_faults.vectors_are_twice_as_long),
    Break("08", faults.a_batch_mixes_up_its_rows),
    Break("08", engine_faults.every_precision_is_fp8),
    Break("09", engine_faults.no_prefix_is_reused),
    Break("09", engine_faults.any_text_is_taken_for_a_prefix),
    Break("09", engine_faults.a_step_mixes_up_its_rows),
    Break("09", engine_faults.every_request_waits_for_the_one_before),
    Break("09", engine_faults.quantization_is_ignored),
    Break("10", faults.changed_capsules_are_taken),
    Break("10", faults.a_replay_finds_no_difference),
    Break("10", faults.a_trace_answers_whatever_it_is_asked),
    Break("11", faults.a_provider_is_asked_for_what_it_does_not_offer),
    Break("11", faults.registrations_are_forgotten),
    Break("12", faults.surprises_are_in_nats),
    Break("12", faults.bets_are_paid_for_another_word),
    Break("12", faults.the_rest_of_a_bet_is_lost),
    Break("12", engine_faults.scores_leave_out_the_first_token),
    Break("13", faults.the_best_chunk_comes_last),
    Break("13", faults.deleted_documents_are_still_found),
    Break("13", faults.chunks_do_not_reach_the_prompt),
    Break("13", faults.another_chunk_is_left_out),
    Break("13", faults.shields_pass_everything),
    Break("14", engine_faults.the_lens_has_no_norm),
    Break("14", engine_faults.the_lens_reads_the_layer_before),
    Break("14", engine_faults.the_lens_looks_ahead_from_another_layer),
    Break("14", engine_faults.captures_are_of_the_token_before),
    Break("14", engine_faults.parts_are_not_scaled_by_the_last_norm),
    Break("14", engine_faults.the_embedding_is_no_part),
    Break("14", engine_faults.attention_and_mlp_change_names),
    Break("15", faults.attention_is_that_of_the_next_head),
    Break("15", engine_faults.attention_weights_are_not_scaled),
    Break("15", engine_faults.captures_are_of_the_layer_before),
    Break("15", engine_faults.edits_are_ignored),
    Break("15", engine_faults.edits_are_at_another_head),
    Break("16", engine_faults.edits_are_ignored),
    Break("16", engine_faults.edits_are_one_token_late),
    Break("16", engine_faults.edits_are_one_layer_late),
    Break("16", engine_faults.edits_are_at_another_head),
    Break("16", engine_faults.cached_prefixes_forget_their_edits),
    Break("16", engine_faults.captures_are_of_the_token_before),
    Break("16", engine_faults.added_numbers_have_the_wrong_sign),
    Break("16", faults.a_patch_goes_to_the_next_token),
    Break("16", faults.steering_subtracts_the_vector),
    Break("16", faults.replays_leave_out_edits),
)
