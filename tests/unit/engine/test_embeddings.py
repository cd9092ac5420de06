"""Vectors of texts are those of the model's own recipe, in order, however the texts are put together."""

from __future__ import annotations

import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.fakes.models import EOS, FakeDecoder
from tests.tiny_models import save_modules, save_sentence_model
from workbench.engine.embeddings import BATCH_TOKENS, EmbeddingModel, Inputs
from workbench.engine.loading import LoadedModel
from workbench.engine.model_folder import is_sentence_model
from workbench.engine.scheduler import Engine
from workbench.errors import ContextLengthError, InvalidRequestError, ModelFormatError

WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "mats",
    "großmutter",
    "read",
    "猫",
    "😀",
    "quantum",
    "chromodynamics,",
    "&",
    "again;",
)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Texts of very different lengths, from nothing to beyond what the model reads."""
    rng = random.Random(seed)
    lengths = [0, 1, 400, *(rng.choice([1, 3, 8, 20, 50]) for _ in range(count - 3))]
    return [" ".join(rng.choice(WORDS) for _ in range(length)) for length in lengths]


# ----------------------------------------------------------------------------------------------- the embedded model


@pytest.fixture(scope="session")
def minilm(minilm_path: Path) -> EmbeddingModel:
    return EmbeddingModel(minilm_path)


@pytest.fixture(scope="session")
def references(minilm_path: Path) -> Any:
    """The model's own recipe for one text: tokens up to 256, the mean of their last hidden states, unit length."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(minilm_path)
    model: Any = transformers.AutoModel.from_pretrained(minilm_path, dtype=torch.float32).eval()

    def reference(text: str) -> Tensor:
        encoded = tokenizer([text], truncation=True, max_length=256, padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**encoded).last_hidden_state  # (1, tokens, 384)
        mask = encoded["attention_mask"].unsqueeze(-1)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1)[0]

    return reference


@pytest.mark.timeout(300)
def test_sixty_four_texts_of_mixed_lengths_are_those_of_the_models_own_recipe(
    minilm: EmbeddingModel, references: Any
) -> None:
    texts = sentences(64)
    vectors = torch.tensor(minilm.embed(texts))
    assert vectors.shape == (64, minilm.dimensions) == (64, 384)
    expected = torch.stack([references(text) for text in texts])
    assert float((vectors * expected).sum(-1).min()) >= 1 - 1e-6
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(64), atol=1e-6, rtol=0)


def test_a_text_has_one_vector_alone_and_among_others(minilm: EmbeddingModel) -> None:
    texts = sentences(20, 1)
    together = torch.tensor(minilm.embed(texts))
    alone = torch.tensor([minilm.embed([text])[0] for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(minilm.embed(texts[::-1])).flip(0), together, atol=1e-6, rtol=0)
    assert float((together @ together.T).triu(1).max()) < 0.999, "the order could not be told otherwise"


def test_the_same_texts_give_the_same_numbers(minilm: EmbeddingModel) -> None:
    texts = sentences(10, 2)
    assert minilm.embed(texts) == minilm.embed(texts)


def test_the_empty_text_is_that_of_begin_and_end_alone(minilm: EmbeddingModel, references: Any) -> None:
    (vector,) = minilm.embed([""])
    assert float(torch.tensor(vector) @ references("")) >= 1 - 1e-6


def test_what_lies_beyond_the_limit_changes_nothing(minilm: EmbeddingModel) -> None:
    assert minilm.max_tokens == 256
    long = "word " * 2560
    cut, longer, changed = minilm.embed([long, long + "different", "word " * 100 + "different " * 100])
    assert cut == pytest.approx(longer, abs=1e-6)
    assert cut != pytest.approx(changed, abs=1e-3)
    assert len(minilm.tokenizer("word " * 254).input_ids) == 256
    exact, beyond = minilm.embed(["word " * 254, "word " * 255])
    assert exact == pytest.approx(beyond, abs=1e-6)
    assert exact != pytest.approx(minilm.embed(["word " * 253])[0], abs=1e-9)


def test_alike_is_near(minilm: EmbeddingModel) -> None:
    cat, kitten, stocks = torch.tensor(
        minilm.embed(["A cat sleeps.", "A kitten is napping.", "Stocks fell sharply on Monday."])
    )
    assert float(cat @ kitten) > 0.5 > float(cat @ stocks)


def test_no_texts_are_no_vectors(minilm: EmbeddingModel) -> None:
    assert minilm.embed([]) == []


def test_many_threads_get_their_own_answers(minilm: EmbeddingModel) -> None:
    texts = sentences(12, 4)
    expected = [minilm.embed([text])[0] for text in texts]
    answers: dict[int, list[float]] = {}

    def ask(index: int) -> None:
        answers[index] = minilm.embed([texts[index]])[0]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[index] for index in range(12)] == expected


def test_its_memory_is_what_was_predicted(minilm: EmbeddingModel) -> None:
    assert minilm.memory_bytes == pytest.approx(minilm.predicted_memory_bytes, rel=0.02)
    assert minilm.parameters == 22_713_216


# ------------------------------------------------------------------------------------------------ small random models


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_model(tmp_path_factory.mktemp("sentences") / "tiny-bert")


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def sentence_folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(tiny_bert, tmp_path / "sentences")


def hidden_of(folder: Path, text: str, limit: int) -> Tensor:
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        encoded = tokenizer([text], truncation=True, max_length=limit, return_tensors="pt")
        hidden: Tensor = model(**encoded).last_hidden_state[0]
    return hidden


LETTERS = ["a", "abc", "", "the quick brown fox", "a b c d e f g h i j k l m n o p q r s t u v w x y z"]


@pytest.mark.parametrize(
    "first,normalised,limit", [(False, True, 12), (True, True, 12), (False, False, 7), (True, False, 9)]
)
def test_pooling_length_and_limit_are_those_that_the_folder_asks_for(
    sentence_folder: Path, first: bool, normalised: bool, limit: int
) -> None:
    """Without sentence-transformers' help; more of its pipelines are in `test_sentence_pipelines`."""
    pooling = {"pooling_mode_cls_token": first, "pooling_mode_mean_tokens": not first}
    save_modules(sentence_folder, Pooling=pooling, **({"Normalize": {}} if normalised else {}))
    write(sentence_folder / "sentence_bert_config.json", {"max_seq_length": limit})
    vectors = EmbeddingModel(sentence_folder).embed(LETTERS)
    for text, vector in zip(LETTERS, vectors, strict=True):
        hidden = hidden_of(sentence_folder, text, limit)
        pooled = hidden[0] if first else hidden.mean(0)
        expected = torch.nn.functional.normalize(pooled, dim=0) if normalised else pooled
        torch.testing.assert_close(torch.tensor(vector), expected, atol=1e-5, rtol=1e-5)


def test_without_a_limit_of_its_own_a_model_reads_as_many_tokens_as_it_has_positions(sentence_folder: Path) -> None:
    (sentence_folder / "sentence_bert_config.json").unlink()
    model = EmbeddingModel(sentence_folder)
    assert model.max_tokens == 40
    assert torch.tensor(model.embed(["a " * 500])).isfinite().all()


@pytest.mark.parametrize("name", ["1_Pooling/config.json", "sentence_bert_config.json", "modules.json"])
@pytest.mark.parametrize("content", ["{", '"text"'])
def test_a_damaged_file_of_the_recipe_is_named(sentence_folder: Path, name: str, content: str) -> None:
    (sentence_folder / name).parent.mkdir(exist_ok=True)
    (sentence_folder / name).write_text(content)
    with pytest.raises(ModelFormatError, match=Path(name).stem):
        EmbeddingModel(sentence_folder)


def test_weights_that_are_missing_are_never_made_up(sentence_folder: Path) -> None:
    tensors = load_file(sentence_folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, sentence_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFormatError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        EmbeddingModel(sentence_folder)


def test_a_pooler_that_nobody_uses_may_be_missing(sentence_folder: Path) -> None:
    expected = EmbeddingModel(sentence_folder).embed(LETTERS)
    tensors = load_file(sentence_folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    assert len(kept) < len(tensors)
    save_file(kept, sentence_folder / "model.safetensors", {"format": "pt"})
    assert EmbeddingModel(sentence_folder).embed(LETTERS) == expected


def test_weights_of_another_shape_are_an_error(sentence_folder: Path) -> None:
    tensors = load_file(sentence_folder / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"] = torch.ones(3, 3)
    save_file(tensors, sentence_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFormatError, match="in the shape"):
        EmbeddingModel(sentence_folder)


def test_little_is_computed_for_padding(sentence_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of one length fill their batches; short ones are not padded to the longest of all."""
    model = EmbeddingModel(sentence_folder, fast=False)
    batches: list[list[int]] = []
    forward = model._forward

    def watched(rows: list[Inputs]) -> Tensor:
        batches.append([len(row["input_ids"]) for row in rows])
        return forward(rows)

    monkeypatch.setattr(model, "_forward", watched)
    rng = random.Random(0)
    model.embed(["a " * rng.choice([1, 2, 10]) for _ in range(500)])
    assert sum(map(len, batches)) == 500
    padded = sum(max(lengths) * len(lengths) for lengths in batches)
    assert padded <= 1.05 * sum(map(sum, batches))
    assert all(max(lengths) * len(lengths) <= BATCH_TOKENS for lengths in batches)


def test_a_sentence_model_is_known_by_its_modules(tiny_bert: Path, tiny_llama: LoadedModel) -> None:
    assert is_sentence_model(tiny_bert)
    assert not is_sentence_model(tiny_llama.folder)


def test_the_global_random_state_is_left_alone(tiny_bert: Path) -> None:
    state = torch.random.get_rng_state()
    EmbeddingModel(tiny_bert).embed(["abc"])
    assert torch.equal(torch.random.get_rng_state(), state)


# ------------------------------------------------------------------------------------------------------ causal models


def test_a_causal_models_vector_is_the_mean_of_its_last_hidden_states_at_unit_length(
    engine_of: Any, tiny_model: LoadedModel
) -> None:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(tiny_model.folder, dtype=torch.float32).eval()
    prompts = [[5], [7, 8, 9], list(range(3, 103))]
    engine: Engine = engine_of(model=tiny_model)
    vectors = engine.embed(prompts)
    for prompt, vector in zip(prompts, vectors, strict=True):
        with torch.inference_mode():
            hidden = model.base_model(torch.tensor([prompt]), use_cache=False).last_hidden_state[0]
        expected = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        torch.testing.assert_close(torch.tensor(vector), expected, atol=1e-5, rtol=1e-4)
    assert engine.embed(prompts) == vectors
    assert engine.embed(prompts[::-1]) == vectors[::-1]
    assert [float(torch.tensor(vector).norm()) for vector in vectors] == pytest.approx([1] * 3)


@pytest.mark.parametrize(
    "prompt,error", [([], InvalidRequestError), ([10**6], InvalidRequestError), ([EOS] * 5000, ContextLengthError)]
)
def test_a_causal_model_refuses_what_it_cannot_read(engine_of: Any, prompt: list[int], error: type[Exception]) -> None:
    with pytest.raises(error):
        engine_of(FakeDecoder()).embed([[1], prompt])
