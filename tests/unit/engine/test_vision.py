"""Images read one at a time compute what the model's own forward computes for all at once, and never mix."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.fakes.listening import generate, submit
from tests.fakes.models import FakeDecoder, fake_model
from tests.tiny_models import save_model
from tests.tiny_vision_models import FAMILIES, PLACES, noise, save_vision_model
from workbench.engine.images import ImageReader, PlacedImage, cache_keys, next_part
from workbench.engine.loading import LoadedModel, load
from workbench.engine.precision import Precision
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.engine.vision import GridCache, GridDecoder
from workbench.errors import InvalidRequestError, ModelFormatError, UnsupportedContentError, UnsupportedFieldError

MakeEngine = Callable[..., Engine]
Parts = Sequence[str | Image.Image]

TALK: Parts = ("The quick ", noise(40, 70, 1), "\nfox jumps", noise(56, 30, 2), " over", noise(40, 70, 3), "lazy dog\n")
"""Three images, two of a size, with text between, before and after them."""


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small random vision-language model of a family, made once."""
    root = tmp_path_factory.mktemp("vision")

    def folder(family: str) -> Path:
        path = root / family
        return path if path.exists() else save_vision_model(path, family)

    return folder


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def vision_model(request: pytest.FixtureRequest, vision_folder: Callable[[str], Path]) -> LoadedModel:
    """A vision-language model of every family in turn."""
    return load(vision_folder(request.param))


@pytest.fixture(scope="session", params=["idefics3", "qwen2_vl"])
def one_of_each_kind(request: pytest.FixtureRequest, vision_folder: Callable[[str], Path]) -> LoadedModel:
    """A model whose positions count tokens, and one whose images have positions of their own."""
    return load(vision_folder(request.param))


def reader_of(model: LoadedModel) -> ImageReader:
    assert model.images is not None
    return model.images


def request_of(model: LoadedModel, parts: Parts, **options: Any) -> GenerationRequest:
    """A request for text and images in turn, as the template of the model's family would place them."""
    before, _, after = PLACES.get(model.folder.name, "<image>").partition(_placeholder(model))
    token_ids: list[int] = []
    images: list[PlacedImage] = []
    for part in parts:
        if isinstance(part, str):
            token_ids += model.tokenizer.backend_tokenizer.encode(part).ids
            continue
        token_ids += model.tokenizer.backend_tokenizer.encode(before).ids
        images.append(PlacedImage(len(token_ids), reader_of(model).read(part, "image")))
        token_ids += [*images[-1].image.token_ids, *model.tokenizer.backend_tokenizer.encode(after).ids]
    return GenerationRequest(prompt_ids=tuple(token_ids), images=tuple(images), **options)


def own_inputs(model: LoadedModel, parts: Parts) -> Any:
    """What the model's own processor makes of the whole prompt with all its images."""
    place = PLACES.get(model.folder.name, "<image>")
    text = "".join(part if isinstance(part, str) else place for part in parts)
    images = [part for part in parts if not isinstance(part, str)]
    return reader_of(model)._processor(text=[text], images=[images], return_tensors="pt", add_special_tokens=False)


def own_logits(model: LoadedModel, parts: Parts) -> torch.Tensor:
    """The logits after the prompt that the model computes in one forward of its own, shape (vocab,)."""
    with torch.inference_mode():
        logits: torch.Tensor = transformers_model(model)(**own_inputs(model, parts)).logits[0, -1]
    forget_positions(model)
    return logits


def transformers_model(model: LoadedModel) -> Any:
    return model.decoder.model  # type: ignore[attr-defined]


def forget_positions(model: LoadedModel) -> None:
    """transformers keeps the positions of the last sequence in the model; our decoder must not need them."""
    if hasattr(inner := transformers_model(model).model, "rope_deltas"):
        inner.rope_deltas = None


def first_logits(engine: Engine, request: GenerationRequest) -> torch.Tensor:
    """The logits that a request's first token is chosen from, shape (vocab,)."""
    handle, heard = submit(engine, replace(request, max_tokens=1, stop_ids=frozenset()))
    heard.wait()
    return engine.kept(handle, 0).logits


def _placeholder(model: LoadedModel) -> str:
    return str(model.tokenizer.backend_tokenizer.id_to_token(reader_of(model).token_id))


# ------------------------------------------------------------------------------------------ against the model itself


def test_the_logits_are_those_of_the_models_own_forward_over_what_its_processor_made(
    vision_model: LoadedModel, engine_of: MakeEngine
) -> None:
    request = request_of(vision_model, TALK)
    assert list(request.prompt_ids) == own_inputs(vision_model, TALK)["input_ids"][0].tolist()
    ours = first_logits(engine_of(model=vision_model), request)
    assert torch.allclose(ours, own_logits(vision_model, TALK), atol=5e-5)


def test_greedy_text_is_what_transformers_generate_gives(vision_model: LoadedModel, engine_of: MakeEngine) -> None:
    inputs = own_inputs(vision_model, TALK)
    with torch.inference_mode():
        generated = transformers_model(vision_model).generate(**inputs, max_new_tokens=12, do_sample=False)
    forget_positions(vision_model)
    theirs = generated[0, inputs["input_ids"].shape[1] :].tolist()
    ours = generate(engine_of(model=vision_model), request_of(vision_model, TALK, max_tokens=12))
    assert ours.ids == [token_id for token_id in theirs if token_id not in vision_model.eos_ids]


def test_text_alone_is_read_as_by_any_model(vision_model: LoadedModel, engine_of: MakeEngine) -> None:
    input_ids = torch.tensor([vision_model.tokenizer.backend_tokenizer.encode("The quick brown fox").ids])
    with torch.inference_mode():
        theirs = transformers_model(vision_model)(input_ids=input_ids).logits[0, -1]
    ours = first_logits(engine_of(model=vision_model), request_of(vision_model, ["The quick brown fox"]))
    assert torch.allclose(ours, theirs, atol=5e-5)


def test_the_image_changes_the_logits(vision_model: LoadedModel, engine_of: MakeEngine) -> None:
    engine = engine_of(model=vision_model)
    one, other = (first_logits(engine, request_of(vision_model, ["a", noise(seed=seed), "b"])) for seed in (1, 2))
    assert (one - other).abs().max() > 1e-2


def test_scores_of_continuations_take_the_images_into_account(
    one_of_each_kind: LoadedModel, engine_of: MakeEngine
) -> None:
    request = request_of(one_of_each_kind, TALK)
    chosen = one_of_each_kind.tokenizer.backend_tokenizer.encode("dog").ids
    (stats,) = engine_of(model=one_of_each_kind).score(request.prompt_ids, [chosen], images=request.images)
    expected = own_logits(one_of_each_kind, TALK).log_softmax(-1)[chosen[0]]
    assert stats[0].logprob == pytest.approx(float(expected), abs=1e-4)


# ------------------------------------------------------------------------------------------------ the prefix cache


def test_two_images_with_one_text_share_no_prefix_beyond_the_text_before_them(
    one_of_each_kind: LoadedModel, engine_of: MakeEngine
) -> None:
    before = "The quick brown fox jumps over the lazy dog. " * 3
    engine = engine_of(model=one_of_each_kind, prefix_cache_bytes=2**24)
    requests = [request_of(one_of_each_kind, [before, noise(seed=seed), "fox"], max_tokens=4) for seed in (1, 2, 1)]
    assert requests[0].prompt_ids == requests[1].prompt_ids, "to the eye of token ids they are one prompt"
    first, second, again = (generate(engine, request) for request in requests)
    start = requests[0].images[0].start
    assert first.started.reused_tokens == 0
    assert second.started.reused_tokens == start
    assert again.started.reused_tokens == len(requests[0].prompt_ids) - 1, "the same image is read once"
    cold = [generate(engine_of(model=one_of_each_kind), request) for request in requests]
    assert [one.ids for one in (first, second, again)] == [one.ids for one in cold]
    assert first.ids != second.ids


def test_a_talk_that_goes_on_about_an_image_reads_it_once_and_says_what_a_cold_run_says(
    one_of_each_kind: LoadedModel, engine_of: MakeEngine
) -> None:
    warm, cold = engine_of(model=one_of_each_kind, prefix_cache_bytes=2**24), engine_of(model=one_of_each_kind)
    parts: list[str | Image.Image] = []
    for turn in range(4):
        parts += ["see: ", noise(40 + 10 * turn, 30, turn), f" {turn} and so on\n"]
        request = request_of(one_of_each_kind, parts, max_tokens=3)
        (handle, again), (other, anew) = submit(warm, request), submit(cold, request)
        assert again.wait().ids == anew.wait().ids
        assert again.started.reused_tokens >= (request.images[-2].end if turn else 0)
        assert torch.allclose(warm.kept(handle, 0).logits, cold.kept(other, 0).logits, atol=5e-5)


def test_many_requests_at_once_get_what_each_gets_alone(one_of_each_kind: LoadedModel, engine_of: MakeEngine) -> None:
    talks: list[Parts] = [
        TALK,
        ["just text"],
        ["about ", noise(30, 50, 1), "1"],
        ["about ", noise(37, 45, 2), "2"],
        ["about ", noise(37, 45, 3), "2"],
        [noise(seed=1), "two in a row", noise(seed=1), noise(seed=2), "."],
    ]
    requests = [request_of(one_of_each_kind, talk, max_tokens=8) for talk in talks]
    alone = engine_of(model=one_of_each_kind)
    expected = [generate(alone, request).ids for request in requests]
    together = engine_of(model=one_of_each_kind, prefix_cache_bytes=2**20)
    for _ in range(2):  # cold, then with whatever was kept
        heard = [submit(together, request)[1] for request in requests]
        assert [one.wait().ids for one in heard] == expected


def test_a_cache_is_cut_anywhere_but_within_an_image(vision_folder: Callable[[str], Path]) -> None:
    model = load(vision_folder("qwen2_vl"))
    request = request_of(model, ["ab", noise(), "cd", noise(60, 20, 2), "ef"])
    cache, decoder = model.decoder.new_cache(), model.decoder
    assert isinstance(cache, GridCache)
    assert isinstance(decoder, GridDecoder)
    positions = {0: 0}
    with torch.inference_mode():
        while cache.length < len(request.prompt_ids):
            part = next_part(request.prompt_ids, request.images, cache.length, 1)
            if part.image is None:
                decoder.prefill(part.token_ids, cache)
            else:
                decoder.prefill_image(part.image, cache)
            positions[cache.length] = cache.next_position
    assert cache.next_position < cache.length, "an image takes up fewer positions than it has tokens"
    for length in range(len(request.prompt_ids) + 1):
        cut = cache.fork(length)
        assert (cut.next_position if cut else None) == positions.get(length)


def test_parts_cover_the_prompt_once_and_never_cut_an_image(vision_folder: Callable[[str], Path]) -> None:
    model = load(vision_folder("llava"))
    request = request_of(model, TALK)
    for size in (1, 3, 512):
        done = 0
        read: list[int] = []
        while done < len(request.prompt_ids):
            part = next_part(request.prompt_ids, request.images, done, size)
            assert part.image is not None or len(part.token_ids) <= size
            read += part.token_ids
            done += len(part.token_ids)
        assert tuple(read) == request.prompt_ids


def test_an_images_number_stands_for_its_pixels_and_size(vision_folder: Callable[[str], Path]) -> None:
    reader = reader_of(load(vision_folder("llava")))
    pixels = noise(20, 10)
    of_other_shape = Image.frombytes("RGB", (10, 20), pixels.tobytes())
    others = (pixels, pixels.copy(), of_other_shape, noise(20, 10, 1))
    numbers = [reader.read(image, "image").key for image in others]
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 3
    assert max(numbers) < 0, "no token id"


# -------------------------------------------------------------------------------------------------------- refusals


def test_a_place_holder_without_an_image_is_refused_before_any_compute(
    one_of_each_kind: LoadedModel, engine_of: MakeEngine
) -> None:
    engine = engine_of(model=one_of_each_kind)
    request = request_of(one_of_each_kind, TALK)
    forged = (*request.prompt_ids, reader_of(one_of_each_kind).token_id, 5)
    for bad in (
        replace(request, images=()),
        replace(request, images=request.images[1:]),
        replace(request, prompt_ids=forged),
    ):
        with pytest.raises(InvalidRequestError, match="free of placeholder tokens other than those of its images"):
            generate(engine, bad)
        with pytest.raises(InvalidRequestError, match="free of placeholder tokens"):
            engine.score(bad.prompt_ids, [[5]], images=bad.images)
    assert generate(engine, replace(request, max_tokens=1)).finished.reason, "the engine lives on"


def test_an_image_at_the_very_end_is_refused(one_of_each_kind: LoadedModel, engine_of: MakeEngine) -> None:
    request = request_of(one_of_each_kind, ["a", noise(), "b"])
    cut = replace(request, prompt_ids=request.prompt_ids[: request.images[0].end])
    with pytest.raises(InvalidRequestError, match="text after its last image"):
        generate(engine_of(model=one_of_each_kind), cut)


def test_logprobs_of_a_prompt_with_images_are_refused(one_of_each_kind: LoadedModel, engine_of: MakeEngine) -> None:
    with pytest.raises(UnsupportedFieldError, match=r"logprobs\.prompt"):
        generate(engine_of(model=one_of_each_kind), request_of(one_of_each_kind, TALK, prompt_logprobs=True))


def test_a_text_model_refuses_images(vision_folder: Callable[[str], Path], engine_of: MakeEngine) -> None:
    request = request_of(load(vision_folder("llava")), TALK)
    with pytest.raises(UnsupportedContentError, match="text-only cannot read images"):
        generate(engine_of(model=fake_model(FakeDecoder(vocab_size=1000), name="text-only")), request)


def test_an_image_that_the_processor_cannot_take_is_refused_by_field(vision_folder: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidRequestError, match=r"pictures\[3\] must be an image that the model's processor accepts"):
        reader_of(load(vision_folder("qwen2_vl"))).read(noise(900, 2), "pictures[3]")


def test_a_run_does_not_keep_its_pixels(one_of_each_kind: LoadedModel, engine_of: MakeEngine) -> None:
    handle, heard = submit(engine_of(model=one_of_each_kind), request_of(one_of_each_kind, TALK, max_tokens=2))
    heard.wait()
    assert not handle.request.images


# --------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("precision, off", [("bf16", 0.1), ("int8", 0.2), ("fp8", 0.6), ("int4", 0.9)])
def test_in_other_precisions_the_language_part_alone_is_quantized_and_the_prediction_holds(
    family: str, precision: Precision, off: float, vision_folder: Callable[[str], Path], engine_of: MakeEngine
) -> None:
    exact, model = load(vision_folder(family)), load(vision_folder(family), precision=precision)
    assert model.memory_bytes == pytest.approx(model.predicted_memory_bytes, rel=0.02)
    eyes, language = (Counter(type(module).__name__ for module in part.modules()) for part in _eyes_and_language(model))
    assert eyes["Linear"] > 0 == eyes["_QuantizedModule"]
    assert (language["Linear"] == 0) == (language["_QuantizedModule"] > 0) == (precision != "bf16")
    one, other = (first_logits(engine_of(model=each), request_of(each, TALK)).softmax(-1) for each in (exact, model))
    assert float((one - other).abs().sum()) / 2 < off, "of random weights every error is large"


def _eyes_and_language(model: LoadedModel) -> tuple[Any, Any]:
    inner = transformers_model(model).model
    names = ("visual", "vision_model", "vision_tower")
    return next(getattr(inner, name) for name in names if hasattr(inner, name)), inner.get_decoder()


def changed(folder: Path, copy: Path, name: str, **values: Any) -> Path:
    shutil.copytree(folder, copy)
    path = copy / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return copy


def test_a_folder_as_older_and_other_programs_write_it_is_read_too(
    vision_folder: Callable[[str], Path], tmp_path: Path, engine_of: MakeEngine
) -> None:
    """No settings of the processor's own, the image processor by the name of its torchvision form, and the template in
    a file beside both."""
    folder = changed(
        vision_folder("qwen2_vl"),
        tmp_path / "older" / "qwen2_vl",
        "preprocessor_config.json",
        image_processor_type="Qwen2VLImageProcessorFast",
        processor_class="Qwen2VLProcessor",
    )
    (folder / "processor_config.json").unlink()
    (folder / "chat_template.jinja").rename(tmp_path / "template")
    template = (tmp_path / "template").read_text()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    model, known = load(folder), load(vision_folder("qwen2_vl"))
    assert model.tokenizer.chat_template == known.tokenizer.chat_template == template
    one, other = (first_logits(engine_of(model=each), request_of(each, TALK)) for each in (model, known))
    assert torch.equal(one, other)


def test_a_processor_of_another_family_is_refused_by_name(vision_folder: Callable[[str], Path], tmp_path: Path) -> None:
    wrong = {"processor_class": "PixtralProcessor"}
    folder = changed(vision_folder("llava"), tmp_path / "new", "processor_config.json", **wrong)
    older = changed(vision_folder("llava"), tmp_path / "older", "preprocessor_config.json", **wrong)
    (older / "processor_config.json").unlink()
    for each in (folder, older):
        with pytest.raises(ModelFormatError, match="asks for PixtralProcessor, but for this family only Llava"):
            load(each)


def test_a_folder_without_a_processor_is_refused_by_name(vision_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "blind"
    shutil.copytree(vision_folder("qwen2_vl"), folder, ignore=shutil.ignore_patterns("*processor_config.json"))
    with pytest.raises(ModelFormatError, match="has no image processor that can be loaded"):
        load(folder)


def test_code_in_a_processors_config_is_refused(vision_folder: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("processor_config.json", "preprocessor_config.json"):
        folder = changed(vision_folder("llava"), tmp_path / name, name, auto_map={"AutoProcessor": "x.Y"})
        with pytest.raises(ModelFormatError.__base__, match="asks for custom code"):  # type: ignore[arg-type]
            load(folder)


def test_a_family_that_is_not_read_is_refused_by_name(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "llama", "llama")
    (folder / "config.json").write_text(json.dumps({"model_type": "paligemma", "architectures": ["X"]}))
    with pytest.raises(
        ModelFormatError, match=r"of the family paligemma, which is not supported; supported families: idefics3"
    ):
        load(folder)


def test_keys_of_text_are_its_token_ids() -> None:
    assert cache_keys((1, 2, 3), ()) == [1, 2, 3]
