"""A model with a LoRA adapter computes what peft computes with it, or is refused by name; peft is the judge."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.budget import budget
from tests.fakes.gguf_models import write_gguf_model
from tests.fakes.quantized_folders import save_quantized
from tests.tiny_adapters import VISION, applied, greedy_ids, logits_of, make_config, save_adapter
from tests.tiny_models import bpe_tokenizer, llama_like, save_config
from tests.tiny_vision_models import save_vision_model
from workbench import catalog
from workbench.engine import memory
from workbench.engine.adapter_config import AdapterConfig, read_config
from workbench.engine.adapters import WEIGHTS, read_adapter
from workbench.engine.fused import FusedDecoder
from workbench.engine.loading import LoadedModel, load
from workbench.engine.memory import plan, tensor_shapes
from workbench.engine.model_folder import ADAPTER_CONFIG
from workbench.engine.packing import opened
from workbench.engine.precision import PRECISIONS, Precision
from workbench.engine.weight_sizes import RESERVE_BYTES
from workbench.engine.weights import BLOCKS_FILE, Blocks
from workbench.errors import InsufficientMemoryError, ModelFormatError, UnsafeModelError

Folder = Callable[[str], Path]

PROMPT = [5, 17, 33, 2, 9, 41, 120, 7, 7, 63, 300, 8]
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "patterns": (
        "llama",
        {
            "target_modules": [*LINEAR, "lm_head", "embed_tokens"],
            "rank_pattern": {"q_proj": 3, "layers.1.mlp.down_proj": 5},
            "alpha_pattern": {".*mlp.*": 7},
            "use_rslora": True,
        },
    ),
    "expression": ("llama", {"target_modules": r"model\.layers\.1\..*_proj"}),
    "directions": ("llama", {"target_modules": "all-linear", "use_dora": True}),
    "embedding-direction": ("llama", {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True}),
    "layers": (
        "llama",
        {
            "target_modules": ["q_proj"],
            "layers_to_transform": [1],
            "layers_pattern": "layers",
            "modules_to_save": ["lm_head", "norm"],
        },
    ),
    "all-biases": ("qwen2", {"target_modules": ["q_proj", "v_proj"], "bias": "all"}),
    "own-biases": ("qwen2", {"target_modules": ["q_proj", "v_proj"], "bias": "lora_only"}),
    "updated-biases": ("qwen2", {"target_modules": ["q_proj"], "lora_bias": True}),
    "tied-head": ("qwen2", {"target_modules": ["q_proj", "lm_head"]}),
    "tied-embedding": ("qwen2", {"target_modules": ["q_proj", "embed_tokens"]}),
    "tied-both": ("qwen2", {"target_modules": ["lm_head", "embed_tokens"]}),
    "tied-embedding-saved": ("qwen2", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "tied-head-saved": ("qwen2", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "transposed": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "transposed-directions": ("gpt2", {"target_modules": ["c_proj", "wte"], "use_dora": True, "fan_in_fan_out": True}),
    "fused": ("phi3", {"target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]}),
    "scaled-embedding": ("gemma3", {"target_modules": ["embed_tokens", "o_proj"], "exclude_modules": r".*\.0\..*"}),
    "mixture": ("mixtral", {"target_modules": ["q_proj", "o_proj"]}),
}
GENERAL = ("patterns", "updated-biases", "tied-both", "tied-embedding-saved", "transposed-directions", "mixture")


@pytest.fixture(scope="module")
def base_folder(family_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of a small model, made once; Phi-3's matrices are fused."""

    def folder(family: str) -> Path:
        if family != "phi3":
            return family_folder(family)
        path = tmp_path_factory.getbasetemp() / "adapted-phi3"
        if not path.exists():
            tokenizer = bpe_tokenizer()
            save_config(path, transformers.Phi3Config(vocab_size=len(tokenizer), **llama_like()), tokenizer)
        return path

    return folder


@pytest.fixture(scope="module")
def adapter_folder(base_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of an adapter in ``ADAPTERS``, made once."""
    root = tmp_path_factory.mktemp("adapters")

    def folder(name: str) -> Path:
        family, options = ADAPTERS[name]
        path = root / name
        return path if path.exists() else save_adapter(path, base_folder(family), seed=len(name), **options)

    return folder


@pytest.fixture
def plain(tmp_path: Path, base_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound adapter of the small Llama to spoil."""
    made = tmp_path_factory.getbasetemp() / "plain-adapter"
    if not made.exists():
        save_adapter(made, base_folder("llama"), target_modules=["q_proj", "v_proj"])
    return shutil.copytree(made, tmp_path / "adapter")


@torch.inference_mode()
def logits(model: LoadedModel, token_ids: list[int]) -> Tensor:
    return model.decoder.decode_known(token_ids, model.decoder.new_cache())


def assert_near(found: Tensor, expected: Tensor, share: float = 1e-4) -> None:
    """Assert that logits differ by at most a share of the largest one."""
    assert float((found - expected).abs().max()) <= share * float(expected.abs().max())


def change_config(folder: Path, **values: Any) -> None:
    path = folder / ADAPTER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rewrite(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Write an adapter's tensors again after an edit of them by name."""
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


# ------------------------------------------------------------------------------------------------------------ exactness


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_merged_model_computes_what_peft_computes_beside_the_weights(
    name: str, base_folder: Folder, adapter_folder: Folder
) -> None:
    base, adapter = base_folder(ADAPTERS[name][0]), adapter_folder(name)
    judge = applied(base, adapter)
    ids = greedy_ids(judge, PROMPT, 20)
    expected = logits_of(judge, [*PROMPT, *ids])
    for fast in (True, False) if name in GENERAL else (True,):
        model = load(base, adapter=adapter, fast=fast)
        assert isinstance(model.decoder, FusedDecoder) == fast
        found = logits(model, [*PROMPT, *ids])
        assert_near(found, expected)
        assert found[len(PROMPT) - 1 : -1].argmax(-1).tolist() == ids


def test_a_vision_language_model_is_merged_where_its_files_name_modules_as_transformers_does(tmp_path: Path) -> None:
    for family in ("qwen3_vl", "qwen2_vl"):
        base, adapter = save_vision_model(tmp_path / family, family), tmp_path / f"{family}-adapter"
        save_adapter(adapter, base, kind=VISION, target_modules=["q_proj", "v_proj"])
        if family == "qwen3_vl":
            expected = logits_of(applied(base, adapter, VISION), PROMPT)
            assert_near(logits(load(base, adapter=adapter), PROMPT), expected)
        else:
            with pytest.raises(ModelFormatError, match=r"files have no model\.language_model\.layers"):
                load(base, adapter=adapter)


def test_an_adapter_of_a_quantized_folder_is_merged_into_its_numbers(tmp_path: Path) -> None:
    """Peft computes with the numbers that the judge of each format reads."""
    for name in ("gptq", "awq", "asymmetric"):
        base, dense = save_quantized(tmp_path / name, name)
        options = {"use_dora": True} if name == "awq" else {}
        targets = ["q_proj", "down_proj", "lm_head"]
        adapter = save_adapter(tmp_path / f"{name}-adapter", dense, spread=0.1, target_modules=targets, **options)
        judge = applied(dense, adapter)
        model = load(base, adapter=adapter)
        assert_near(logits(model, PROMPT), logits_of(judge, PROMPT))
        assert logits(model, PROMPT)[-1].argmax() == logits_of(judge, PROMPT)[-1].argmax()
        assert model.memory_bytes == pytest.approx(model.predicted_memory_bytes, rel=0.02)


@pytest.mark.parametrize(
    "architecture, targets",
    [
        ("llama", ["q_proj", "down_proj"]),
        ("gemma3", ["embed_tokens", "o_proj"]),
        ("phi3", ["qkv_proj", "gate_up_proj"]),
        ("gpt2", ["c_proj", "lm_head"]),
    ],
)
def test_an_adapter_of_a_gguf_file_is_merged_into_its_numbers(
    architecture: str, targets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file's own precision, what is merged is held in float32, and the rest as it is."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    reference = write_gguf_model(tmp_path / "tiny.gguf", architecture, types=lambda _: "Q4_0", seed=3)
    reference.save_pretrained(tmp_path / "dense")
    adapter = save_adapter(tmp_path / "adapter", tmp_path / "dense", target_modules=targets)
    folders = catalog.resolve_folders(f"gguf:{tmp_path / 'tiny.gguf'}+{adapter}")
    assert folders.adapter == adapter
    expected = logits_of(applied(tmp_path / "dense", adapter), PROMPT)
    assert_near(logits(load(folders.model, adapter=adapter), PROMPT), expected)
    model = load(folders.model, adapter=adapter, precision="file")
    assert model.memory_bytes == pytest.approx(model.predicted_memory_bytes, rel=0.02)
    assert_near(logits(model, PROMPT), expected, 0.02)
    own, changed = (
        load(folders.model, precision="file"),
        read_adapter(adapter, folders.model, tensor_shapes(folders.model)),
    )
    assert own.memory_bytes < model.memory_bytes
    with opened(folders.model, str, changed) as merged:
        matrices = [name for name in merged.names() if len(merged.shape(name)) == 2]
        exact = {name for name in matrices if merged.stored_format([name]) == "float32"}
    assert exact == set(changed.changes)


@pytest.mark.parametrize("name", ["patterns", "directions", "layers", "tied-embedding"])
def test_an_adapter_changes_the_answer_of_its_base_model(
    name: str, base_folder: Folder, adapter_folder: Folder
) -> None:
    base = base_folder(ADAPTERS[name][0])
    with pytest.raises(AssertionError):
        assert_near(logits(load(base), PROMPT), logits(load(base, adapter=adapter_folder(name)), PROMPT), 0.1)


def test_a_model_in_fewer_bits_is_merged_in_float32_and_then_rounded_once(
    base_folder: Folder, adapter_folder: Folder, tmp_path: Path
) -> None:
    """A folder with weights of 16 bits, as most have; the sum must not be rounded to them."""
    base = shutil.copytree(base_folder("llama"), tmp_path / "base")
    halves = {name: tensor.bfloat16() for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(halves, base / "model.safetensors", {"format": "pt"})
    adapter = read_adapter(adapter_folder("patterns"), base, tensor_shapes(base))
    parts = load_file(adapter.weights)
    with opened(base, str, adapter) as files:
        assert len(adapter.changes) == adapter.layers == 16
        for name, change in adapter.changes.items():
            assert change.low_rank is not None
            weight = halves[name] if change.replacement is None else parts[change.replacement]
            update = change.low_rank.scale * parts[change.low_rank.b].double() @ parts[change.low_rank.a].double()
            expected = weight.double() + (update.T if change.low_rank.is_transposed else update)
            assert files.dense(name).dtype == torch.float32
            assert torch.allclose(files.dense(name).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fast", [True, False])
def test_every_precision_rounds_the_merged_weights(
    precision: Precision, fast: bool, base_folder: Folder, adapter_folder: Folder, tmp_path: Path
) -> None:
    """The same as of a folder that holds the merged weights."""
    base, adapter = base_folder("llama"), adapter_folder("patterns")
    merged = shutil.copytree(base, tmp_path / "merged")
    with opened(base, str, read_adapter(adapter, base, tensor_shapes(base))) as files:
        save_file({name: files.dense(name) for name in files.names()}, merged / "model.safetensors", {"format": "pt"})
    found = load(base, adapter=adapter, precision=precision, fast=fast)
    assert torch.equal(logits(found, PROMPT), logits(load(merged, precision=precision, fast=fast), PROMPT))


def test_blocks_of_the_file_are_used_only_where_nothing_is_merged(
    base_folder: Folder, plain: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(base_folder("llama"), tmp_path / "base")
    names = [f"model.layers.0.self_attn.{name}.weight" for name in ("q_proj", "o_proj")]
    parts = {}
    for name in names:
        parts[f"{name}.q"] = torch.zeros(32, 16, dtype=torch.uint8)
        parts[f"{name}.scale"] = parts[f"{name}.minimum"] = torch.ones(32, 1, dtype=torch.float16)
    parts = {name: part.clone() for name, part in parts.items()}
    save_file(parts, base / BLOCKS_FILE, {"types": json.dumps(dict.fromkeys(names, "Q4_1"))})
    with opened(base, str, read_adapter(plain, base, tensor_shapes(base))) as files:
        adapted, own = (files.blocks(name).dense() for name in names)
        assert torch.equal(adapted, Blocks.of(files.dense(names[0])).dense())
        assert torch.equal(own, torch.ones(32, 32))


# -------------------------------------------------------------------------------------------------------- the store


def test_stored_models_of_one_base_are_never_mixed_up(base_folder: Folder, plain: Path, tmp_path: Path) -> None:
    base, stored = base_folder("llama"), tmp_path / "stored"
    other = shutil.copytree(plain, tmp_path / "other")
    rewrite(other, lambda tensors: [tensor.mul_(2) for tensor in tensors.values()])
    expected = {one: logits(load(base, precision="int8", adapter=one), PROMPT) for one in (None, plain, other)}
    assert not torch.equal(expected[plain], expected[other])
    for _ in range(2):  # packed, then found
        for one in (plain, None, other):
            found = load(base, precision="int8", adapter=one, packed_models=stored)
            assert torch.equal(logits(found, PROMPT), expected[one])
    assert len([*stored.glob("*.packed")]) == 3

    shutil.copy(other / WEIGHTS, plain / WEIGHTS)
    found = load(base, precision="int8", adapter=plain, packed_models=stored)
    assert torch.equal(logits(found, PROMPT), expected[other])


def test_a_proof_of_a_base_model_is_none_of_the_merged_one(base_folder: Folder, plain: Path, tmp_path: Path) -> None:
    for adapter in (None, plain, None, plain):
        load(base_folder("llama"), adapter=adapter, fast=False, proofs=tmp_path / "proofs")
    proofs = [path for path in (tmp_path / "proofs").iterdir() if not path.name.startswith("folder-")]
    assert len(proofs) == 2


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "values, message",
    [
        ({"peft_type": "IA3"}, r"peft_type must be 'LORA'.*IA3"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
        ({"peft_type": None}, "peft_type"),
        ({"task_type": "SEQ_CLS"}, r"task_type.*SEQ_CLS"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters must be left out"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"use_qalora": True}, "use_qalora"),
        ({"an_option_of_tomorrow": 3}, "an_option_of_tomorrow"),
        ({"init_lora_weights": "pissa"}, r"init_lora_weights.*path_initial_model_for_weight_conversion.*pissa"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying"),
        ({"bias": "some"}, "bias must be 'none', 'all' or 'lora_only'"),
        ({"r": 0}, "r must be a whole number above 0"),
        ({"r": 8}, r"lora_A.*\[4, 32\], but \[8, 32\]"),
        ({"rank_pattern": {"v_proj": 2}}, r"v_proj\.lora_A"),
        ({"rank_pattern": {"q_proj": "4"}}, r"rank_pattern\.q_proj"),
        ({"alpha_pattern": [1]}, "alpha_pattern must be an object"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a finite number"),
        ({"target_modules": None}, "target_modules"),
        ({"target_modules": ["q_proj"]}, r"update of model\.layers\.0\.self_attn\.v_proj, which target_modules"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, r"no update of model\.layers\.0\.self_attn\.o_proj"),
        ({"target_modules": "("}, r"target_modules.*regular expression"),
        ({"target_modules": r"(\w|\w\w|\w\w\w|.|..)+[X-Z]"}, r"target_modules.*regular expression"),
        ({"layers_to_transform": [0]}, r"layers\.1\."),
        ({"layers_to_transform": "0"}, "layers_to_transform"),
        ({"layers_to_transform": 0, "layers_pattern": "(h|layers)"}, "layers_pattern"),
        ({"modules_to_save": ["lm_head"]}, "no weights of lm_head, which modules_to_save"),
        ({"modules_to_save": "lm_head"}, "modules_to_save must be a list"),
        ({"use_dora": True}, r"no lora_magnitude_vector .* use_dora"),
        ({"use_dora": "yes"}, "use_dora must be true or false"),
    ],
)
def test_a_config_that_cannot_be_served_exactly_is_refused_by_the_option(
    plain: Path, base_folder: Folder, values: dict[str, Any], message: str
) -> None:
    change_config(plain, **values)
    base = base_folder("llama")
    with pytest.raises(ModelFormatError, match=message):
        read_adapter(plain, base, tensor_shapes(base))


FIRST = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda one: one.pop(f"{FIRST}.lora_B.weight"), r"only .*lora_A.* needs A and B"),
        (lambda one: [one.pop(f"{FIRST}.lora_{part}.weight") for part in "AB"], r"no update of .*0\.self_attn\.q_proj"),
        (lambda one: one.update({f"{FIRST}.lora_A.weight": torch.ones(4, 31)}), r"q_proj\.lora_A.*\[4, 31\]"),
        (lambda one: one.update({f"{FIRST}.lora_B.weight": torch.ones(32)}), r"q_proj\.lora_B.*\[32\]"),
        (lambda one: one.update({f"{FIRST}.lora_A.second.weight": torch.ones(4, 32)}), "several adapters"),
        (
            lambda one: one.update({f"{FIRST}.lora_B.bias": torch.ones(32)}),
            r"no model\.layers\.0\.self_attn\.q_proj\.bias",
        ),
        (lambda one: one.update({f"{FIRST}.lora_magnitude_vector": torch.ones(32)}), "use_dora"),
        (lambda one: one.update({f"{FIRST}.ia3_l": torch.ones(32)}), r"q_proj\.ia3_l"),
        (lambda one: one.update({f"{FIRST[:-6]}t_proj.lora_A.weight": torch.ones(4, 32)}), "t_proj"),
        (lambda one: one.update({"base_model.model.lm_head.weight": torch.ones(500, 32)}), r"\[500, 32\].*vocabulary"),
        (lambda one: one.update({f"{FIRST[17:]}.lora_A.weight": torch.ones(4, 32)}), "holds both"),
        (lambda one: one.clear(), "no tensors"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_before_any_is_computed(
    plain: Path, base_folder: Folder, edit: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    rewrite(plain, edit)
    base = base_folder("llama")
    with pytest.raises(ModelFormatError, match=message):
        read_adapter(plain, base, tensor_shapes(base))


def test_an_adapter_of_another_model_is_refused_by_name(plain: Path, base_folder: Folder) -> None:
    with pytest.raises(ModelFormatError, match=r"q_proj.*was it trained on this model"):
        load(base_folder("gpt2"), adapter=plain)
    with pytest.raises(ModelFormatError, match=r"no update of .*layers\.2\."):
        load(base_folder("gemma3"), adapter=plain)


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_truncated_weights_are_refused(plain: Path, base_folder: Folder, keep: int) -> None:
    (plain / WEIGHTS).write_bytes((plain / WEIGHTS).read_bytes()[:keep])
    with pytest.raises(ModelFormatError, match=WEIGHTS):
        load(base_folder("llama"), adapter=plain)


def test_pickled_weights_are_refused_unread(plain: Path, base_folder: Folder) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (plain / "exploded",))

    (plain / WEIGHTS).unlink()
    with pytest.raises(ModelFormatError, match=f"no {WEIGHTS}"):
        load(base_folder("llama"), adapter=plain)
    (plain / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UnsafeModelError, match=r"adapter_model\.bin"):
        load(base_folder("llama"), adapter=plain)
    assert not (plain / "exploded").exists()


def test_a_folder_with_several_adapters_is_refused_and_one_with_checkpoints_is_not(
    plain: Path, base_folder: Folder
) -> None:
    shutil.copytree(plain, plain / "checkpoint-100")
    base = base_folder("llama")
    assert read_adapter(plain, base, tensor_shapes(base)).layers == 4
    shutil.copytree(plain / "checkpoint-100", plain / "second")
    with pytest.raises(ModelFormatError, match=r"several adapters.*second"):
        load(base, adapter=plain)


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_config_that_is_no_object_is_named(plain: Path, base_folder: Folder, content: str) -> None:
    (plain / ADAPTER_CONFIG).write_text(content, encoding="latin-1")
    with pytest.raises(ModelFormatError, match=r"adapter_config\.json"):
        load(base_folder("llama"), adapter=plain)
    (plain / ADAPTER_CONFIG).unlink()
    with pytest.raises(ModelFormatError, match=r"adapter_config\.json"):
        load(base_folder("llama"), adapter=plain)
    with pytest.raises(ModelFormatError, match="not a folder"):
        load(base_folder("llama"), adapter=plain / "nowhere")


def test_a_base_that_is_quantized_in_another_way_is_refused(plain: Path, base_folder: Folder, tmp_path: Path) -> None:
    base = shutil.copytree(base_folder("llama"), tmp_path / "base")
    shapes, path = tensor_shapes(base), base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": {"quant_method": "mxfp4"}}))
    with pytest.raises(ModelFormatError, match="quantized by mxfp4, into which adapters cannot be merged"):
        read_adapter(plain, base, shapes)


def test_a_model_with_an_adapter_beside_it_is_refused(plain: Path, base_folder: Folder, tmp_path: Path) -> None:
    """Transformers would apply it, but only where peft is installed and the fused step does not serve the model."""
    base = shutil.copytree(base_folder("llama"), tmp_path / "base")
    shutil.copy(plain / ADAPTER_CONFIG, base)
    for fast in (True, False):
        with pytest.raises(ModelFormatError, match=r"adapter_config\.json.*move"):
            load(base, fast=fast)


OPTIONS = sorted(json.loads(json.dumps(make_config().to_dict(), default=str)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=budget(500))
@given(option=st.sampled_from(OPTIONS), value=JSON)
def test_any_value_of_any_option_is_read_or_refused_by_its_name(
    option: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-adapter"
    folder.mkdir(exist_ok=True)
    sound = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["q_proj"]}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(sound | {option: value}))
    try:
        config = read_config(folder)
    except ModelFormatError as error:
        refusal = str(error)
    else:
        refusal = f"none for {option}"
        assert config.rank > 0
    assert option in refusal


# ------------------------------------------------------------------------------------------------------ names and notes

MODULES = [
    *(f"model.layers.{layer}.self_attn.{name}" for layer in (0, 1, 11) for name in ("q_proj", "o_proj")),
    *(f"transformer.h.{layer}.mlp.c_fc" for layer in (0, 1, 11)),
    "model.layers.1.mlp.experts.0.up_proj",
    "model.embed_tokens",
    "lm_head",
    "h.1.mlp.c_fc",
]
NAMES = st.lists(
    st.sampled_from(
        ["q_proj", "o_proj", "c_fc", "up_proj", "mlp.c_fc", "proj", "lm_head", "layers.1.self_attn.q_proj"]
    ),
    max_size=3,
)
PATTERNS = st.sampled_from(
    [r".*q_proj", "q_proj", "mlp.*", r".*\.1\..*", r"layers\.(0|1)\.self_attn\.q_proj", "lm_head"]
)


@settings(max_examples=budget(300))
@given(
    targets=NAMES | PATTERNS,
    excluded=st.none() | NAMES | PATTERNS,
    layers=st.none() | st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2),
    lists=st.none() | st.sampled_from(["layers", "h", "experts"]) | st.lists(st.sampled_from(["layers", "h"])),
    saved=st.none() | st.lists(st.sampled_from(["lm_head", "embed_tokens", "mlp"]), max_size=2),
    ranks=st.dictionaries(PATTERNS, st.integers(1, 9), max_size=3),
    module=st.sampled_from(MODULES),
)
def test_names_are_matched_as_peft_matches_them(
    targets: Any,
    excluded: Any,
    layers: Any,
    lists: Any,
    saved: Any,
    ranks: dict[str, int],
    module: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    options = {
        "target_modules": targets,
        "exclude_modules": excluded,
        "layers_to_transform": None if isinstance(targets, str) else layers,
        "layers_pattern": None if isinstance(targets, str) or layers is None else lists,
        "modules_to_save": saved,
        "rank_pattern": ranks,
    }
    judge = make_config(r=4, lora_alpha=6, **options)
    folder = tmp_path_factory.getbasetemp() / "named-adapter"
    folder.mkdir(exist_ok=True)
    (folder / ADAPTER_CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 6} | options))
    config: AdapterConfig = read_config(folder)
    assert config.targets_module(module) == bool(check_target_module_exists(judge, module))
    assert config.rank_of(module) == ranks.get(get_pattern_key(list(ranks), module), 4)


def test_the_reader_is_told_of_another_base_and_of_a_tokenizer_that_is_not_used(
    plain: Path, base_folder: Folder
) -> None:
    base = base_folder("llama")
    shutil.copy(base / "tokenizer.json", plain)
    assert read_adapter(plain, base, tensor_shapes(base)).notes("organization/LLAMA") == ()
    change_config(plain, base_model_name_or_path="organization/other")
    (plain / "chat_template.jinja").write_text("{{ messages }}")
    first, second = read_adapter(plain, base, tensor_shapes(base)).notes("my-model")
    assert first == "the adapter was trained on organization/other, and is merged into my-model"
    assert "chat_template.jinja" in second
    assert "tokenizer.json" not in second


@pytest.mark.parametrize("packed", [True, False])
def test_the_memory_guard_counts_the_merge(
    packed: bool, plain: Path, base_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_folder("llama")
    adapter = read_adapter(plain, base, tensor_shapes(base))
    needed = plan(base, "float32", "model", packed=packed).nbytes
    monkeypatch.setattr(memory, "memory_available_bytes", lambda: RESERVE_BYTES + needed)
    assert plan(base, "float32", "model", packed=packed).nbytes == needed
    with pytest.raises(InsufficientMemoryError):
        plan(base, "float32", "model", packed=packed, adapter=adapter)
    merging = 4 * (3 * 32 * 32 + (0 if packed else 2 * (32 * 32 + 16 * 32)))
    monkeypatch.setattr(memory, "memory_available_bytes", lambda: RESERVE_BYTES + needed + merging)
    assert plan(base, "float32", "model", packed=packed, adapter=adapter).nbytes == needed
