"""A lens has the Jacobians that torch computes of transformers' own model, however often its fit was interrupted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.exact_logits import some_ids, transformers_model
from tests.tiny_models import bpe_tokenizer, save_config
from tests.tiny_structures import FUSED, VOCAB, FolderOf, saved_structures
from workbench.engine.insides.jacobian_lens import JacobianLens, LensFacts, read_lens
from workbench.engine.insides.lens_fitting import SKIPPED, FitProgress, fit_lens, load_differentiable
from workbench.errors import InvalidRequestError, ModelFormatError

CASES = ("grouped", "gpt2", "gemma2", "gemma3", "stablelm-parallel", "olmo2", "qwen3-moe", "cohere2", "gpt-neox")
FACTS = LensFacts("tiny", "0" * 64)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    return saved_structures(tmp_path_factory.mktemp("structures"))


def first(output: Any) -> Tensor:
    stream: Tensor = output[0] if isinstance(output, tuple) else output
    return stream


def brute_force(model: Any, token_ids: list[int], layer: int) -> Tensor:
    """The Jacobian of the targets' sum in the last stream by each source in the stream after a layer, their mean."""
    blocks = next(
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == model.config.num_hidden_layers
    )
    seen: dict[str, Tensor] = {}
    source = torch.tensor(0.0)

    def replace(_module: Any, _inputs: Any, output: Any) -> Any:
        seen["source"] = first(output)
        if not source.dim():
            return output
        return (source, *output[1:]) if isinstance(output, tuple) else source

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        seen["last"] = first(output)

    hooks = [blocks[layer].register_forward_hook(replace), blocks[-1].register_forward_hook(keep)]

    def last_of(stream: Tensor) -> Tensor:
        nonlocal source
        source = stream
        model(torch.tensor([token_ids]), use_cache=False)
        return seen["last"][0, SKIPPED:].sum(0)

    last_of(source)
    jacobian: Any = torch.autograd.functional.jacobian(last_of, seen["source"].detach())  # (hidden, 1, tokens, hidden)
    for hook in hooks:
        hook.remove()
    found: Tensor = jacobian[:, 0, SKIPPED:].mean(1)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_fit_has_the_jacobians_of_transformers_model(case: str, folder_of: FolderOf) -> None:
    token_ids = some_ids(SKIPPED + 12, seed=len(case))
    lens = fit_lens(load_differentiable(folder_of(case)), [token_ids], FACTS)
    model = transformers_model(folder_of(case))
    assert lens.layers == model.config.num_hidden_layers
    for layer in range(lens.layers - 1):
        expected = brute_force(model, token_ids, layer)
        assert float((lens.matrices[layer] - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


def test_sources_of_all_texts_count_the_same(folder_of: FolderOf) -> None:
    texts, model = [some_ids(count, count) for count in (17, 20, 40)], load_differentiable(folder_of("grouped"))
    together = fit_lens(model, texts, FACTS)
    alone = [fit_lens(model, [text], FACTS) for text in texts]
    assert together.facts.positions == 1 + 4 + 24
    expected = sum((1.0 * one.facts.positions * one.matrices for one in alone), torch.zeros(())) / 29
    torch.testing.assert_close(together.matrices, expected)


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupted_fit_goes_on_to_the_same_bits(stop: int, folder_of: FolderOf, tmp_path: Path) -> None:
    texts, model = [some_ids(30 + index, index) for index in range(4)], load_differentiable(folder_of("gpt2"))
    whole, state = fit_lens(model, texts, FACTS), tmp_path / "state.safetensors"

    def interrupt(progress: FitProgress) -> None:
        if progress.texts_done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_lens(model, texts, FACTS, state=state, progress=interrupt)
    part = fit_lens(model, texts, FACTS, state=state, seconds=0)
    assert part.facts.texts == stop
    done: list[FitProgress] = []
    resumed = fit_lens(model, texts, FACTS, state=state, progress=done.append)
    assert [one.texts_done for one in done] == list(range(stop + 1, 5))
    assert done[-1].remaining_s == 0.0
    assert torch.equal(resumed.matrices, whole.matrices)
    assert (resumed.facts.texts, resumed.facts.positions) == (4, whole.facts.positions)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_fit_goes_on_with_its_own_texts_and_model_alone(folder_of: FolderOf, tmp_path: Path) -> None:
    model, state = load_differentiable(folder_of("grouped")), tmp_path / "state.safetensors"
    fit_lens(model, [some_ids(20)], FACTS, state=state)
    with pytest.raises(InvalidRequestError, match="texts must be those that the fit in"):
        fit_lens(model, [some_ids(20, seed=1)], FACTS, state=state)
    with pytest.raises(ModelFormatError, match="the fit of another model, tiny"):
        fit_lens(model, [some_ids(20)], LensFacts("other", "1" * 64), state=state)
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(ModelFormatError, match=r"state\.safetensors"):
        fit_lens(model, [some_ids(20)], FACTS, state=state)


def test_texts_without_a_source_are_refused(folder_of: FolderOf) -> None:
    model = load_differentiable(folder_of("grouped"))
    with pytest.raises(InvalidRequestError, match="texts must be at least one text"):
        fit_lens(model, [], FACTS)
    with pytest.raises(InvalidRequestError, match=r"texts\[1\] must be longer than 16 tokens; got '16 tokens'"):
        fit_lens(model, [some_ids(17), some_ids(16)], FACTS)


@pytest.fixture(scope="module")
def lens() -> JacobianLens:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 8, 8, generator=generator) * 0.01 + torch.eye(8)
    matrices[1, 2] = torch.eye(8)[2]  # a row without any other number
    return JacobianLens(matrices, LensFacts("tiny", "ab" * 32, 5, 400, 12.5))


def test_a_file_has_the_lens_rounded_to_a_127th_of_each_row(lens: JacobianLens, tmp_path: Path) -> None:
    path = tmp_path / "lens.safetensors"
    lens.save(path)
    found = read_lens(path)
    assert found.facts == lens.facts
    assert (found.layers, found.hidden) == (4, 8)
    rest = lens.matrices - torch.diag_embed(lens.matrices.diagonal(dim1=1, dim2=2))
    step = rest.abs().amax(-1, keepdim=True) / 127
    assert ((found.matrices - lens.matrices).abs() <= 0.5001 * step + 1e-7).all()
    found.save(path)
    torch.testing.assert_close(read_lens(path).matrices, found.matrices, rtol=1e-6, atol=1e-7)


def test_it_transports_states_of_all_layers_but_the_last(lens: JacobianLens) -> None:
    states = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    for layer in range(3):
        expected = torch.einsum("kh,bth->btk", lens.matrices[layer], states)
        torch.testing.assert_close(lens.transport(layer, states), expected)
    assert torch.equal(lens.transport(3, states), states)


def test_it_is_refused_for_a_model_of_another_size(lens: JacobianLens) -> None:
    lens.check_model(4, 8)
    for layers, hidden in ((5, 8), (4, 16)):
        with pytest.raises(ModelFormatError, match=f"for 4 layers of size 8; the model has {layers} of size {hidden}"):
            lens.check_model(layers, hidden)


@given(cut=st.floats(0, 1, exclude_max=True), data=st.data())
def test_a_damaged_file_is_refused_by_name(cut: float, data: st.DataObject, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    matrices = torch.eye(4).repeat(2, 1, 1)
    JacobianLens(matrices, FACTS).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(ModelFormatError, match=r"damaged\.safetensors"):
        read_lens(path)
    flipped = bytearray(content)
    position = data.draw(st.integers(0, len(content) - 1))
    flipped[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(flipped))
    with suppress(ModelFormatError):  # unless the flipped bits are a number or a fact, which only a checksum protects
        found = read_lens(path)
        assert found.matrices.isfinite().all()
        assert found.matrices.shape == matrices.shape


def test_other_files_are_no_lenses(lens: JacobianLens, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path, facts = tmp_path / "lens.safetensors", '{"model": "m", "weights_sha256": "a"}'
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read_lens(path)
    good = {"off_diagonal": torch.zeros(1, 2, 2, dtype=torch.int8), "scale": torch.zeros(1, 2)}
    good["diagonal"] = torch.ones(1, 2)
    metadata = {"format": "jacobian-lens-1", "facts": facts}
    save_file(good, path, metadata)
    assert read_lens(path).facts.model == "m"
    faults: list[tuple[dict[str, Tensor], dict[str, str], str]] = [
        (good | {"off_diagonal": torch.zeros(1, 2, 3, dtype=torch.int8)}, {}, "no tensor off_diagonal of shape"),
        (good | {"scale": torch.zeros(1, 3)}, {}, "tensor scale must be F32"),
        (good | {"diagonal": torch.zeros(1, 2).half()}, {}, "tensor diagonal must be F32"),
        (good | {"diagonal": torch.full((1, 2), torch.nan)}, {}, "not finite"),
        (good, {"format": "jacobian-lens-2"}, "its format is 'jacobian-lens-2'"),
        (good, {"facts": "[]"}, "what it was fitted to"),
        (good, {"facts": '{"model": "m"}'}, "metadata are incomplete"),
        (good, {"facts": '{"model": 3, "weights_sha256": "a"}'}, "model is 3"),
    ]
    for tensors, changed, message in faults:
        save_file(tensors, path, metadata | changed)
        with pytest.raises(ModelFormatError, match=message):
            read_lens(path)


def test_only_models_of_the_fused_step_with_two_layers_are_fitted(tmp_path: Path) -> None:
    config = FUSED["grouped"]()
    config.num_hidden_layers = 1
    folder = save_config(tmp_path / "shallow", config, bpe_tokenizer(VOCAB))
    with pytest.raises(ModelFormatError, match="cannot be fitted to shallow"):
        load_differentiable(folder)


def test_rounded_products_stay_near(folder_of: FolderOf) -> None:
    model, texts = load_differentiable(folder_of("grouped")), [some_ids(40)]
    exact, rounded = (fit_lens(model, texts, FACTS, products=products) for products in ("float32", "bf16"))
    assert float((exact.matrices - rounded.matrices).norm()) < 0.02 * float(exact.matrices.norm())
    assert torch.get_float32_matmul_precision() == "highest"
