from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.fakes.devices import NVIDIA, stand_on
from workbench.errors import ContextLengthError, InvalidRequestError, ModelNotFoundError, NumericalError
from workbench.protocol import JsonSchemaResponseFormat, RegexResponseFormat, SamplingStrategy, StopReason
from workbench.stack import load_run_config
from workbench.stack.registrations import FILE_NAME, RegistrationStore, StoredRegistration

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli, FakeWorkbench

CANDIDATE = {
    "type": "object",
    "required": ["token_id", "text", "bytes", "logprob", "rank"],
    "properties": {
        "token_id": {"type": "integer"},
        "text": {"type": "string"},
        "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
        "logprob": {"type": ["number", "null"], "maximum": 0},
        "rank": {"type": "integer", "minimum": 0},
    },
}
DOCUMENT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["text", "model", "stop_reason", "tokens", "logprobs", "usage"],
    "properties": {
        "text": {"type": "string"},
        "model": {"type": "string"},
        "stop_reason": {"enum": ["end_of_turn", "end_of_message", "out_of_tokens", None]},
        "tokens": {"type": "array", "items": {"type": "object", "required": ["token_id", "text"]}},
        "logprobs": {
            "type": ["array", "null"],
            "items": {
                "allOf": [CANDIDATE],
                "required": ["alternatives"],
                "properties": {"alternatives": {"type": "array", "items": CANDIDATE}},
            },
        },
        "usage": {"type": "object", "required": ["prompt_tokens", "reused_tokens", "generated_tokens"]},
    },
}


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_the_text_is_streamed_to_standard_output_and_ends_with_a_newline(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says(" Paris", ".", " It")
    outcome = cli("complete", "The capital of France is")
    assert (outcome.code, outcome.out, outcome.err) == (0, " Paris. It\n", "")
    assert bench.prompts == ["The capital of France is"]


def test_the_workbench_is_closed_afterwards(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("a")
    cli("complete", "x")
    assert (bench.opened, bench.closed) == (1, 1)


def test_a_dash_reads_standard_input_without_its_last_newline(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.says("a")
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines\n"))
    cli("complete", "-")
    assert bench.prompts == ["two\nlines"]


def test_json_fits_its_schema_and_has_one_logprob_entry_a_token(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says(" Paris", "é", "😀")
    outcome = cli("complete", "x", "--logprobs", "1", "--json")
    document = json.loads(outcome.out, parse_constant=refuse_constant)
    jsonschema.validate(document, DOCUMENT)
    assert document["text"] == " Parisé😀"
    assert len(document["logprobs"]) == len(document["tokens"]) == document["usage"]["generated_tokens"] == 3
    assert bytes(document["logprobs"][2]["bytes"]) == "😀".encode()
    assert document["logprobs"][0]["alternatives"] == [
        {"token_id": 7, "text": "\n", "bytes": [10], "logprob": -1.5, "rank": 2}
    ]


def test_json_has_null_where_a_number_is_nan(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("a")
    document = json.loads(cli("complete", "x", "--json").out, parse_constant=refuse_constant)
    assert document["usage"]["time_to_first_token_s"] is None


def test_json_without_logprobs_asks_for_none_and_says_null(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("a")
    assert json.loads(cli("complete", "x", "--json").out)["logprobs"] is None
    assert bench.logprobs is None


def test_logprobs_are_shown_as_a_table_below_the_text(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says(" a\n")
    lines = cli("complete", "x", "--logprobs", "1").out.splitlines()
    assert [line.split() for line in lines[-2:]] == [
        ["#", "token", "prob", "rank", "alternatives"],
        ["0", "a\\n", "0.5000", "1", "\\n", "0.2231"],
    ]


def test_a_terminal_is_shown_escape_sequences_as_text(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.says("a\x1b[31m\tb\n")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli("complete", "x").out == "a\\x1b[31m\tb\n\n"


def test_options_reach_the_sampling_parameters(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("a")
    cli(
        *("complete", "x", "--strategy", "top_k", "--top-k", "40", "--temperature", "0.5", "--max-tokens", "9"),
        *("--repetition-penalty", "1.1", "--min-p", "0.1", "--presence-penalty", "-0.5"),
        *("--logit-bias", "50:-100", "--logit-bias", "7:2.5"),
        *("--seed", "3", "--stop", "\n\n", "--stop", "END", "--logprobs", "5"),
    )
    params = bench.sampling_params
    assert params is not None
    assert (params.strategy, params.top_k, params.temperature) == (SamplingStrategy.top_k, 40, 0.5)
    assert (params.max_tokens, params.repetition_penalty, params.seed) == (9, 1.1, 3)
    assert params.stop == ["\n\n", "END"]
    assert params.logit_bias == {50: -100.0, 7: 2.5}
    assert (params.min_p, params.presence_penalty) == (0.1, -0.5)
    assert bench.logprobs is not None
    assert bench.logprobs.top_k == 5


@pytest.mark.parametrize(
    "options",
    [
        ["--top-p", "1.5"],
        ["--top-p", "nan"],
        ["--max-tokens", "-1"],
        ["--temperature", "nan"],
        ["--temperature", "inf"],
        ["--temperature", "warm"],
        ["--top-k", "-1"],
        ["--top-k", "2.5"],
        ["--top-k", "5", "--top-p", "0.5"],
        ["--repetition-penalty", "0"],
        ["--min-p", "1.5"],
        ["--frequency-penalty", "2.5"],
        ["--logit-bias", "50"],
        ["--logit-bias", "x:1"],
        ["--logit-bias", "50:101"],
        ["--logit-bias", "-5:1"],
        ["--stop", ""],
        ["--logprobs", "-1"],
        ["--strategy", "beam"],
        ["--precision", "float64"],
        ["--model", ""],
        ["--precision", "int4", "--config", "run.yaml"],
        ["--device", "tpu"],
        ["--no-such-option"],
    ],
)
def test_bad_usage_is_code_2_and_says_which_option_before_anything_is_opened(
    cli: Cli, bench: FakeWorkbench, options: list[str]
) -> None:
    outcome = cli("complete", "x", *options)
    assert outcome.code == 2
    assert bench.opened == 0
    assert options[0].strip("-").replace("-", "_") in outcome.err.replace("-", "_")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "error,code",
    [
        (ContextLengthError(9000, 8192), 2),
        (ModelNotFoundError("nope", ["a"]), 2),
        (NumericalError("the model computed NaN"), 1),
    ],
)
def test_an_error_is_one_line_and_a_code(cli: Cli, bench: FakeWorkbench, error: Exception, code: int) -> None:
    bench.says(error=error)
    outcome = cli("complete", "x")
    assert (outcome.code, outcome.err) == (code, f"workbench: {error}\n")


def test_debug_shows_where_an_error_came_from(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says(error=NumericalError("the model computed NaN"))
    outcome = cli("complete", "x", "--debug")
    assert outcome.code == 1
    assert "Traceback" in outcome.err


def test_control_c_cancels_the_run(cli: Cli, bench: FakeWorkbench) -> None:
    run = bench.says("a", "b", interrupted_after=1)
    outcome = cli("complete", "x")
    assert (outcome.code, outcome.out) == (130, "a")
    assert run.cancelled
    assert bench.closed == 1


def test_without_options_the_workbench_chooses_config_and_model(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("a")
    cli("complete", "x")
    assert (bench.config, bench.model) == (None, None)


@pytest.mark.parametrize(
    "precision,quantization", [("float32", None), ("bf16", {"type": "bf16"}), ("int4", {"type": "int4"})]
)
def test_precision_becomes_the_providers_quantization(
    cli: Cli, bench: FakeWorkbench, precision: str, quantization: object
) -> None:
    bench.says("a")
    cli("complete", "x", "--precision", precision)
    provider, _ = bench.config["providers"]["inference"]
    assert provider["provider_type"] == "inline::transformers"
    assert provider["config"]["models"] == ["smollm2-135m-instruct"]
    assert provider["config"]["quantization"] == quantization


def test_a_device_is_the_default_configs_or_that_of_the_model(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def devices(*options: str) -> tuple[Any, Any]:
        bench.says("a")
        assert cli("complete", "x", *options).code == 0
        config = load_run_config(bench.config, device=bench.device)
        return config.providers["inference"][0].config.get("device"), bench.model

    assert devices("--device", "cpu") == ("cpu", None)
    assert devices("--device", "auto") == (None, None)
    assert devices("--device", "cpu", "--model", "smollm2-135m-instruct") == ("cpu", "smollm2-135m-instruct")
    assert devices("--device", "cpu", "--model", "./my-model") == ("cpu", None)
    assert devices("--device", "cpu", "--precision", "int8") == ("cpu", None)
    monkeypatch.setenv("WORKBENCH_DEVICE", "cpu")
    assert devices("--model", "./my-model") == ("cpu", None)
    bench.says("a")
    assert cli("complete", "x", "--device", "cpu", "--config", "run.yaml").code == 0
    assert (bench.config, bench.device) == (Path("run.yaml"), "cpu")
    stand_on(monkeypatch, NVIDIA)
    assert devices("--device", "cuda:1") == ("cuda:1", None)
    outcome = cli("complete", "x", "--device", "cuda:2")
    assert outcome.code == 2
    assert "--device must be auto, cuda:0, cuda:1 or cpu on this machine" in outcome.err


def test_a_model_of_the_catalog_is_the_one_that_the_default_config_serves(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("a")
    cli("complete", "x", "--model", "smollm2-135m-instruct")
    assert (bench.config, bench.model) == (None, "smollm2-135m-instruct")


def test_another_model_without_a_run_config_is_served_with_the_default_shields(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("a")
    cli("complete", "x", "--model", "./my-model")
    provider, sentences = bench.config["providers"]["inference"]
    assert provider["config"] == {"models": ["./my-model"], "device": "auto"}
    assert sentences["config"] == {"models": ["all-minilm-l6-v2"]}
    assert [one["provider_type"] for one in bench.config["providers"]["safety"]] == ["inline::content_guard"]


@pytest.mark.parametrize("name", ["mine", "local/mine"])
def test_a_registered_model_is_one_that_the_default_config_serves(
    cli: Cli, bench: FakeWorkbench, own_state: Path, name: str
) -> None:
    row = StoredRegistration("model", "local", "inline::transformers", "mine", {"llama_model": "m", "metadata": {}})
    RegistrationStore(own_state / FILE_NAME).put(row)
    bench.says("a")
    cli("complete", "x", "--model", name)
    assert (bench.config, bench.model) == (None, name)


def test_registrations_that_cannot_be_read_keep_no_folder_from_being_asked(
    cli: Cli, bench: FakeWorkbench, own_state: Path
) -> None:
    own_state.mkdir(parents=True)
    (own_state / FILE_NAME).write_text("no database")
    bench.says("a")
    assert cli("complete", "x", "--model", "./my-model").code == 0


def test_with_a_run_config_the_model_is_one_that_it_serves(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("a")
    cli("complete", "x", "--model", "cluster/big", "--config", "run.yaml")
    assert (bench.config, bench.model) == (Path("run.yaml"), "cluster/big")


def test_a_run_config_from_the_environment_counts_as_one(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CONFIG", "run.yaml")
    bench.says("a")
    cli("complete", "x", "--model", "cluster/big")
    assert (bench.config, bench.model) == (None, "cluster/big")


def test_precision_beside_a_run_config_from_the_environment_is_refused_and_not_left_out(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CONFIG", "run.yaml")
    outcome = cli("complete", "x", "--precision", "int4")
    assert outcome.code == 2
    assert "run.yaml" in outcome.err
    assert bench.opened == 0


@pytest.mark.parametrize("closed,code", [("stdin", 0), ("stdout", 1), ("stderr", 0)])
def test_a_standard_stream_that_the_caller_closed_is_no_traceback(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch, closed: str, code: int
) -> None:
    """As after ``<&-``, ``>&-`` and ``2>&-``, where Python has None in its place."""
    monkeypatch.setattr(f"sys.{closed}", None)
    bench.says("a")
    outcome = cli("complete", "x")
    getattr(sys, closed).close()
    assert outcome.code == code
    assert outcome.err == ("workbench: cannot read or write: not writable\n" if code else "")


SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize("as_file", [True, False])
def test_a_schema_is_read_from_a_file_or_from_the_option_itself(
    cli: Cli, bench: FakeWorkbench, tmp_path: Path, as_file: bool
) -> None:
    given = json.dumps(SCHEMA)
    if as_file:
        (tmp_path / "person.json").write_text(given)
        given = str(tmp_path / "person.json")
    bench.says("{}")
    assert cli("complete", "x", "--json-schema", given).code == 0
    assert bench.response_format == JsonSchemaResponseFormat(json_schema=SCHEMA)


def test_a_pattern_is_asked_for_as_it_stands(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("yes")
    assert cli("complete", "x", "--regex", "yes|no").out == "yes\n"
    assert bench.response_format == RegexResponseFormat(regex="yes|no")


def test_an_answer_that_was_cut_off_says_so_beside_the_output(cli: Cli, bench: FakeWorkbench) -> None:
    bench.says("ye", stop_reason=StopReason.out_of_tokens)
    outcome = cli("complete", "x", "--regex", "yes|no")
    assert (outcome.code, outcome.out) == (0, "ye\n")
    assert "cut off" in outcome.err


@pytest.mark.parametrize(
    "options,told",
    [
        (["--regex", ""], "--regex"),
        (["--json-schema", "nowhere.json"], "--json-schema"),
        (["--json-schema", '{"type": '], "--json-schema"),
        (["--json-schema", "[" * 100_000], "--json-schema"),
        (["--json-schema", '{"a":' * 100_000], "--json-schema"),
        (["--regex", "a", "--json-schema", "{}"], "not allowed with"),
    ],
)
def test_a_format_that_cannot_be_is_bad_usage_that_names_its_option(
    cli: Cli, bench: FakeWorkbench, options: list[str], told: str
) -> None:
    outcome = cli("complete", "x", *options)
    assert outcome.code == 2
    assert told in outcome.err
    assert bench.opened == 0


@pytest.mark.parametrize("options", [["--regex", "("], ["--json-schema", '{"type": "foo"}']])
def test_a_format_that_a_model_refuses_names_its_option_too(cli: Cli, bench: FakeWorkbench, options: list[str]) -> None:
    bench.says(error=InvalidRequestError("response_format.regex", "(", "a regular expression"))
    outcome = cli("complete", "x", *options)
    assert (outcome.code, outcome.err) == (2, f"workbench: {options[0]} must be a regular expression; got '('\n")
