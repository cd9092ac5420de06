"""A sentence model's own pipeline is applied as sentence-transformers applies it, or refused by the part's name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling
from torch import Tensor, nn

from tests.budget import budget
from tests.sentence_models import Judge, save_base, save_pipeline
from workbench.engine import unpadded
from workbench.engine.embeddings import EmbeddingModel, check_sentence_model
from workbench.engine.loading import load
from workbench.engine.model_folder import is_sentence_model
from workbench.engine.pooling import MODES
from workbench.errors import InvalidRequestError, ModelFormatError, UnsafeModelError

TEXTS = ["a", "the quick brown fox", "", "Ünïcode 猫", "a " * 30, "jumps over the lazy dog " * 40, "b", "query: b"]
PROMPTS = {"query": "query: ", "passage": "Represent the passage: "}
BASES = ["bert", "roberta", "mpnet", "fnet", "gemma3", "qwen3", "llama", "gpt2"]


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a random model of a family, written once."""
    root = tmp_path_factory.mktemp("bases")

    def base(family: str, **how: Any) -> Path:
        folder = root / "-".join([family, *map(str, how.values())])
        return folder if folder.exists() else save_base(folder, family, **how)

    return base


def random_layer(seed: int, module: Any) -> Any:
    """The module with weights that are far from those that it starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5 + 0.1)
    return module


def vectors_of(folder: Path, texts: list[str]) -> Tensor:
    return torch.tensor(EmbeddingModel(folder).embed(texts))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


PIPELINES: dict[str, Callable[[], list[Any]]] = {
    "mean": lambda: [Pooling(32, "mean")],
    "cls, dense, unit": lambda: [Pooling(32, "cls"), random_layer(0, Dense(32, 20)), Normalize()],
    "mean and max": lambda: [Pooling(32, ("mean", "max"))],
    "weighted mean, norm": lambda: [Pooling(32, "weightedmean"), random_layer(1, LayerNorm(32))],
    "last": lambda: [Pooling(32, "lasttoken"), Normalize()],
    "all six, two dense, unit": lambda: [
        Pooling(32, MODES),
        random_layer(2, Dense(192, 40, bias=False, activation_function=nn.Identity())),
        Dropout(0.5),
        random_layer(3, Dense(40, 24, activation_function=nn.GELU(), use_residual=True)),
        random_layer(4, Dense(24, 24, activation_function=nn.PReLU(), use_residual=True)),
        Normalize(),
    ],
    "dense on tokens": lambda: [
        Normalize("token_embeddings"),
        random_layer(5, Dense(32, 8, module_input_name="token_embeddings")),
        Pooling(8, ("max", "mean_sqrt_len_tokens")),
        random_layer(6, Dense(16, 16, activation_function=nn.Softmax(dim=None))),
    ],
}


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")  # the judge's, of torch's softmax
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_each_pipeline_is_that_of_sentence_transformers(
    base_of: Callable[..., Path], tmp_path: Path, pipeline: str
) -> None:
    base = base_of(BASES[list(PIPELINES).index(pipeline) % 3])
    folder = save_pipeline(tmp_path / "model", base, *PIPELINES[pipeline](), options={"max_seq_length": 24})
    check_sentence_model(folder)
    model, expected = EmbeddingModel(folder), Judge(folder)(TEXTS)
    together = torch.tensor(model.embed(TEXTS))
    assert expected.std(0).min() > 1e-4, "no vector could be told from another"
    assert together.shape == expected.shape == (len(TEXTS), model.dimensions)
    close(together, expected)
    close(torch.tensor([model.embed([text])[0] for text in TEXTS]), together)


@pytest.mark.parametrize(
    "family,side",
    [
        *((family, "right") for family in BASES if family != "bert"),
        ("fnet", "left"),
        ("llama", "left"),
        ("gpt2", "left"),
    ],
)
def test_a_text_has_one_vector_in_each_family_on_whichever_side_it_is_padded(
    base_of: Callable[..., Path], tmp_path: Path, family: str, side: str
) -> None:
    """As sentence-transformers has it alone: beside others, some models mix its padding in, or count it as places."""
    base = base_of(family, padding_side=side)
    folder = save_pipeline(
        tmp_path / "model",
        base,
        Pooling(32, ("lasttoken", "weightedmean"), include_prompt=False),
        options={"max_seq_length": 30},
        prompts=PROMPTS,
        default_prompt_name="query",
    )
    close(vectors_of(folder, TEXTS), Judge(folder)(TEXTS, batch=1))


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_models_that_ignore_padding_are_computed_as_sentence_transformers_batches_them(
    base_of: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    base = base_of(family, padding_side="left")
    folder = save_pipeline(tmp_path / "model", base, Pooling(32, "lasttoken"), Normalize())
    close(vectors_of(folder, TEXTS), Judge(folder)(TEXTS))
    assert EmbeddingModel(folder)._pads


@pytest.mark.parametrize("name", [None, "query", "passage", "document"])
@pytest.mark.parametrize("include", [True, False])
def test_the_default_prompt_stands_before_each_text(
    base_of: Callable[..., Path], tmp_path: Path, name: str | None, include: bool
) -> None:
    """And is left out of the pooling where the folder says so; also where it fills all that is read."""
    modules = [Pooling(32, ("mean", "cls", "lasttoken"), include_prompt=include)]
    for limit in (7, 40) if name else (40,):
        folder = save_pipeline(
            tmp_path / str(limit),
            base_of("roberta"),
            *modules,
            options={"max_seq_length": limit},
            prompts=PROMPTS,
            default_prompt_name=name,
        )
        close(vectors_of(folder, TEXTS), Judge(folder)(TEXTS))


@given(
    modes=st.lists(st.sampled_from(MODES), min_size=1, max_size=4),
    activation=st.sampled_from([None, nn.Tanh, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Hardswish]),
    tail=st.lists(st.sampled_from(["norm", "unit"]), max_size=2),
    prompt=st.sampled_from([None, *PROMPTS]),
    include=st.booleans(),
    cut=st.sampled_from([None, 5, 1000]),
    texts=st.lists(st.text(max_size=40), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=budget(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pipeline_is_that_of_sentence_transformers(
    base_of: Callable[..., Path],
    tmp_path: Path,
    modes: list[str],
    activation: type[nn.Module] | None,
    tail: list[str],
    prompt: str | None,
    include: bool,
    cut: int | None,
    texts: list[str],
    seed: int,
) -> None:
    width = 32 * len(modes)
    modules: list[Any] = [Pooling(32, modes, include_prompt=include)]
    if activation:
        modules.append(
            random_layer(seed, Dense(width, width := 12, bias=seed % 2 == 0, activation_function=activation()))
        )
    modules += [random_layer(seed, LayerNorm(width)) if name == "norm" else Normalize() for name in tail]
    shutil.rmtree(tmp_path / "model", ignore_errors=True)
    folder = save_pipeline(
        tmp_path / "model",
        base_of(BASES[seed % 3]),
        *modules,
        options={"max_seq_length": 16},
        prompts=PROMPTS,
        default_prompt_name=prompt,
        truncate_dim=cut,
    )
    close(vectors_of(folder, texts), Judge(folder)(texts))


# -------------------------------------------------------------------------------------------------- what folders say


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def change(path: Path, **changes: Any) -> None:
    write(path, (json.loads(path.read_text()) if path.exists() else {}) | changes)


@pytest.fixture(scope="module")
def of_many_parts(base_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    dense = random_layer(7, Dense(64, 16))
    modules = [Pooling(32, ("cls", "mean")), dense, random_layer(8, LayerNorm(16)), Normalize()]
    return save_pipeline(tmp_path_factory.mktemp("parts") / "model", base_of("roberta"), *modules, prompts=PROMPTS)


@pytest.fixture
def folder(of_many_parts: Path, tmp_path: Path) -> Path:
    """A model of many parts, to change."""
    return shutil.copytree(of_many_parts, tmp_path / "model")


@pytest.mark.parametrize("modes", [[], ["lasttoken", "cls"], ["mean_sqrt_len_tokens", "weightedmean_tokens"]])
def test_folders_of_older_versions_are_read_as_sentence_transformers_reads_them(folder: Path, modes: list[str]) -> None:
    names = [f"pooling_mode_{mode}" for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")]
    switches = dict.fromkeys([*names, "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"], False)
    on = {name: any(name.startswith(f"pooling_mode_{mode}") for mode in modes) for name in switches}
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32} | on)
    listed = json.loads((folder / "modules.json").read_text())[:2]
    for module in listed:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    write(folder / "modules.json", listed)
    (folder / "sentence_bert_config.json").unlink()
    write(folder / "sentence_roberta_config.json", {"max_seq_length": 9, "do_lower_case": True})
    texts = [*TEXTS, "The QUICK Brown FOX"]
    close(vectors_of(folder, texts), Judge(folder)(texts))


@pytest.mark.parametrize("normalised", [False, True])
def test_lower_case_is_made_before_anything_else(
    base_of: Callable[..., Path], tmp_path: Path, normalised: bool
) -> None:
    base = shutil.copytree(base_of("mpnet"), tmp_path / "base")
    if normalised:
        change(base / "tokenizer.json", normalizer={"type": "Replace", "pattern": {"String": "q"}, "content": "Z"})
    folder = save_pipeline(tmp_path / "model", base, Pooling(32, "mean"), options={"do_lower_case": True})
    texts = ["The QUICK Brown FOX", "Zz", "q", "Q"]
    close(vectors_of(folder, texts), Judge(folder)(texts))


@pytest.mark.parametrize(
    "config,of_tokenizer,limit",
    [
        ({"max_seq_length": 9}, 20, 9),
        ({"max_seq_length": 30}, 20, 30),
        ({"max_seq_length": 30, "tokenizer_args": {"model_max_length": 11}}, 20, 11),
        ({}, 20, 20),
        ({}, None, 40),
    ],
)
def test_texts_are_cut_where_sentence_transformers_cuts_them(
    folder: Path, config: dict[str, Any], of_tokenizer: int | None, limit: int
) -> None:
    write(folder / "sentence_bert_config.json", config)
    change(folder / "tokenizer_config.json", model_max_length=of_tokenizer)
    model = EmbeddingModel(folder)
    assert model.max_tokens == limit
    long = ["a " * 15, "a b c d e f g h " * 20]
    judge = Judge(folder)
    if not config and not of_tokenizer:
        judge.model.max_seq_length = 40  # by itself it reads two tokens more than the model has places, and fails
    close(torch.tensor(model.embed(long)), judge(long))


def test_a_decoder_reads_beyond_512_tokens(base_of: Callable[..., Path], tmp_path: Path) -> None:
    base = shutil.copytree(base_of("qwen3"), tmp_path / "base")
    change(base / "config.json", max_position_embeddings=2048)
    folder = save_pipeline(tmp_path / "model", base, Pooling(32, "lasttoken"))
    texts = ["word " * 300, "word " * 3000]
    model = EmbeddingModel(folder)
    assert model.max_tokens == 2048
    close(torch.tensor(model.embed(texts)), Judge(folder)(texts))


def test_a_text_without_a_token_is_refused_by_its_place(base_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "model", base_of("qwen3", ends=False), Pooling(32, "mean"))
    with pytest.raises(InvalidRequestError, match="at least one token") as caught:
        EmbeddingModel(folder).embed(["fine", ""])
    assert caught.value.field == "contents[1]"


def test_the_way_without_padding_is_taken_for_plain_pipelines_alone(
    base_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpadded, "AVAILABLE", True)
    monkeypatch.setattr(
        unpadded, "split_linears", lambda _model: None
    )  # torch's products, so that any processor will do
    unit = Normalize()
    cases: list[tuple[bool, list[Any]]] = [
        (True, [Pooling(32, "mean"), unit]),
        (True, [Pooling(32, "cls"), unit]),
        (False, [Pooling(32, "mean")]),
        (False, [Pooling(32, ("mean", "max")), unit]),
        (False, [Pooling(32, "lasttoken"), unit]),
        (False, [Pooling(32, "mean", include_prompt=False), unit]),
        (False, [Pooling(32, "mean"), random_layer(9, Dense(32, 8)), unit]),
    ]
    for index, (plain, modules) in enumerate(cases):
        folder = save_pipeline(tmp_path / str(index), base_of("bert"), *modules, options={"max_seq_length": 20})
        model = EmbeddingModel(folder)
        assert model._unpadded == plain, modules
        close(torch.tensor(model.embed(TEXTS)), Judge(folder)(TEXTS))


# ------------------------------------------------------------------------------------------------- refused by name


@pytest.mark.parametrize(
    "kind",
    [
        *("Asym", "Router", "CLIPModel", "StaticEmbedding", "WordEmbeddings", "LSTM", "CNN", "BoW", "WordWeights"),
        *("WeightedLayerPooling", "MLMTransformer", "SpladePooling"),
    ],
)
@pytest.mark.parametrize("place", [0, 2])
def test_a_part_that_is_not_supported_is_refused_by_its_name(folder: Path, kind: str, place: int) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed[place] |= {"type": f"sentence_transformers.models.{kind}", "path": f"{place}_{kind}"}
    write(folder / "modules.json", listed)
    for refuse in (check_sentence_model, EmbeddingModel):
        with pytest.raises(ModelFormatError, match=rf"models\.{kind}, which is not supported"):
            refuse(folder)


@pytest.mark.parametrize(
    "listed,named",
    [
        ([], "one Transformer"),
        ({}, "list"),
        ([{"type": "sentence_transformers.models.Transformer"}], "a type and a path"),
        ([{"type": "custom_st.Transformer", "path": ""}], r"custom_st\.Transformer"),
        ([{"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}], "0_Transformer"),
        ([{"type": "sentence_transformers.models.Transformer", "path": ""}], "no Pooling"),
        ([{"type": "sentence_transformers.models.Transformer", "path": ""}] * 2, "one Transformer"),
    ],
)
def test_a_list_of_parts_that_makes_no_sentence_model_is_refused(folder: Path, listed: Any, named: str) -> None:
    write(folder / "modules.json", listed)
    for refuse in (check_sentence_model, EmbeddingModel):
        with pytest.raises(ModelFormatError, match=named):
            refuse(folder)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "a/../../b", "..\\b"])
def test_a_part_outside_the_folder_is_refused(folder: Path, path: str) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed[2]["path"] = path
    write(folder / "modules.json", listed)
    with pytest.raises(ModelFormatError, match="outside its folder"):
        EmbeddingModel(folder)


@pytest.mark.parametrize(
    "file,changes,named",
    [
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "median"),
        ("1_Pooling/config.json", {"pooling_mode": []}, "pooling_mode"),
        ("1_Pooling/config.json", {"pooling_mode": [["mean"]]}, "pooling_mode"),
        ("1_Pooling/config.json", {"pooling_mode_median_tokens": True}, "pooling_mode_median_tokens"),
        ("2_Dense/config.json", {"activation_function": "transformers.activations.GELUActivation"}, "GELUActivation"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Threshold"}, "Threshold"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Linear"}, "Linear"),
        ("2_Dense/config.json", {"activation_function": None}, "activation_function"),
        ("2_Dense/config.json", {"in_features": 32}, "Dense"),
        ("2_Dense/config.json", {"out_features": "16"}, "out_features"),
        ("2_Dense/config.json", {"bias": False}, "Dense"),
        ("2_Dense/config.json", {"use_residual": True}, "Dense"),
        ("2_Dense/config.json", {"gate": True}, "gate"),
        ("2_Dense/config.json", {"module_input_name": "scores"}, "module_input_name"),
        ("3_LayerNorm/config.json", {"dimension": 17}, "LayerNorm"),
        ("4_Normalize/config.json", {"module_output_name": "unit"}, "module_output_name"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
        ("sentence_bert_config.json", {"module_output_name": "sentence_embedding"}, "module_output_name"),
        ("sentence_bert_config.json", {"modality_config": {"message": {"method": "forward"}}}, "modality_config"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 5}}}, "processing_kwargs"),
        ("sentence_bert_config.json", {"model_args": {"quantization_config": {}}}, r"model_args\.quantization_config"),
        ("sentence_bert_config.json", {"config_kwargs": {"is_decoder": True}}, r"config_kwargs\.is_decoder"),
        ("sentence_bert_config.json", {"tokenizer_args": {"truncation_side": "left"}}, "truncation_side"),
        ("sentence_bert_config.json", {"tokenizer_name_or_path": "other"}, "tokenizer_name_or_path"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length"),
        ("sentence_bert_config.json", {"max_seq_length": "9"}, "max_seq_length"),
        ("sentence_bert_config.json", {"do_lower_case": "no"}, "do_lower_case"),
        ("sentence_bert_config.json", {"backend": "onnx"}, "backend"),
        ("config_sentence_transformers.json", {"default_prompt_name": "nobody"}, "default_prompt_name"),
        ("config_sentence_transformers.json", {"prompts": {"query": 1}}, "prompts"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
        ("adapter_config.json", {}, "adapter_config"),
    ],
)
def test_a_setting_that_is_not_supported_is_refused_by_its_name(
    folder: Path, file: str, changes: dict[str, Any], named: str
) -> None:
    change(folder / file, **changes)
    for refuse in (check_sentence_model, EmbeddingModel):
        with pytest.raises(ModelFormatError, match=named):
            refuse(folder)


@pytest.mark.parametrize("part", ["2_Dense", "3_LayerNorm"])
def test_weights_of_a_part_are_read_from_safetensors_or_not_at_all(folder: Path, part: str) -> None:
    weights = folder / part / "model.safetensors"
    tensors, name = load_file(weights), part[2:]
    save_file({f"other.{key}": tensor for key, tensor in tensors.items()}, weights)
    with pytest.raises(ModelFormatError, match=name):
        check_sentence_model(folder)
    weights.write_bytes(b"{")
    with pytest.raises(ModelFormatError, match=name):
        check_sentence_model(folder)
    weights.unlink()
    with pytest.raises(ModelFormatError, match=f"no model.safetensors for its {name}"):
        check_sentence_model(folder)
    torch.save(tensors, weights.with_name("pytorch_model.bin"))
    with pytest.raises(UnsafeModelError, match=rf"{name} only as pickles .pytorch_model\.bin"):
        check_sentence_model(folder)
    shutil.rmtree(weights.parent)
    with pytest.raises(ModelFormatError, match=name):
        check_sentence_model(folder)


@pytest.mark.parametrize(
    "kind", ["BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification"]
)
def test_an_encoder_without_a_list_of_parts_is_neither_a_sentence_model_nor_one_that_generates(
    base_of: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    folder = shutil.copytree(base_of("bert"), tmp_path / "encoder")
    model: Any = getattr(transformers, kind)(transformers.AutoConfig.from_pretrained(folder))
    model.save_pretrained(folder)
    assert not is_sentence_model(folder)
    with pytest.raises(ModelFormatError, match=rf"{kind}, which does not generate text, and without modules\.json"):
        load(folder)


def test_parts_are_counted_with_the_model(folder: Path) -> None:
    model = EmbeddingModel(folder)
    assert model.memory_bytes == pytest.approx(model.predicted_memory_bytes, rel=0.02)
    parts = [load_file(path).values() for path in folder.glob("*_*/model.safetensors")]
    assert len(parts) == 2
    assert model.parameters == model._model.num_parameters() + sum(one.numel() for part in parts for one in part)


@pytest.mark.parametrize(
    "part,name",
    [
        ("1_Pooling", "include_prompt"),
        ("1_Pooling", "pooling_mode_cls_token"),
        ("2_Dense", "bias"),
        ("2_Dense", "use_residual"),
    ],
)
def test_a_switch_that_is_neither_on_nor_off_is_refused(
    base_of: Callable[..., Path], tmp_path: Path, part: str, name: str
) -> None:
    folder = save_pipeline(tmp_path / "model", base_of("bert"), Pooling(32), Dense(32, 8))
    settings = folder / part / "config.json"
    change(settings, **{name: "no"})
    if name.startswith("pooling_mode_"):
        change(settings, pooling_mode=None)
        settings.write_text(
            json.dumps({key: value for key, value in json.loads(settings.read_text()).items() if value})
        )
    with pytest.raises(ModelFormatError, match=rf"{part}.*{name} to 'no'"):
        check_sentence_model(folder)


def test_a_part_in_an_impossible_place_is_refused(folder: Path) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed[1]["path"] = "1_Pooling\0"
    write(folder / "modules.json", listed)
    with pytest.raises(ModelFormatError, match=r"modules\.json"):
        check_sentence_model(folder)
