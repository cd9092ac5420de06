"""Pictures in chats with a small vision-language model, from the facade to the pixels."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fakes.hostile_texts import hostile_texts
from tests.tiny_models import save_model
from tests.tiny_vision_models import PLACES, noise, save_vision_model
from tests.unit.prompts.test_images import png_of_size
from workbench import Workbench
from workbench.engine.scheduler import Engine
from workbench.errors import ContextLengthError, InvalidRequestError, UnsupportedContentError, UnsupportedFieldError
from workbench.protocol import (
    URL,
    CompletionMessage,
    ImageMedia,
    LogProbConfig,
    Message,
    SamplingParams,
    StopReason,
    SystemMessage,
    UserMessage,
)
from workbench.providers.transformers import TransformersProvider
from workbench.providers.transformers.served import CausalModel

FEW = SamplingParams(max_tokens=6)
ALL = LogProbConfig(top_k=5)
PATIENCE_S = 100.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    seeing = {family: save_vision_model(root / family, family) for family in ("smolvlm", "qwen2_vl")}
    return seeing | {"blind": save_model(root / "blind", "llama")}


@pytest.fixture
def bench_of(models: dict[str, Path]) -> Iterator[Callable[..., Workbench]]:
    """Makes a workbench that serves all the models."""
    made: list[Workbench] = []

    def make(**config: Any) -> Workbench:
        spec = {"models": [str(folder) for folder in models.values()]} | config
        provider = {"provider_id": "local", "provider_type": "inline::transformers", "config": spec}
        made.append(Workbench({"image_name": "images", "providers": {"inference": [provider]}}))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture(params=["smolvlm", "qwen2_vl"])
def seer(request: pytest.FixtureRequest) -> str:
    """A model that sees: one of two kinds in turn."""
    name: str = request.param
    return name


def picture(seed: int = 0, width: int = 40, height: int = 30) -> ImageMedia:
    return ImageMedia(image=noise(width, height, seed))


def about(*parts: str | ImageMedia) -> list[Message]:
    return [UserMessage(content=list(parts))]


def at(uri: str) -> ImageMedia:
    return ImageMedia(image=URL(uri=uri))


def data_url(image: Image.Image | bytes) -> str:
    if isinstance(image, bytes):
        return f"data:image/png;base64,{base64.b64encode(image).decode()}"
    with io.BytesIO() as file:
        image.save(file, format="PNG")
        return data_url(file.getvalue())


def logprobs(run: Any) -> list[float]:
    return [token.logprob for token in run.tokens]


def answer(bench: Workbench, model: str, messages: list[Message], **more: Any) -> tuple[str, list[int], list[float]]:
    run = bench.chat_completion(messages, model=model, sampling_params=FEW, logprobs=ALL, **more)
    run.result(PATIENCE_S)
    return run.text, [token.token_id for token in run.tokens], logprobs(run)


# -------------------------------------------------------------------------------------------------------- reading


def test_the_picture_changes_the_answer(bench_of: Callable[..., Workbench], seer: str) -> None:
    bench = bench_of()
    one, other, none = (
        answer(bench, seer, about("what is ", *pictures, "?")) for pictures in ((picture(1),), (picture(2),), ())
    )
    assert one[2] != other[2] != none[2]


def test_streamed_is_whole(bench_of: Callable[..., Workbench], seer: str) -> None:
    bench = bench_of()
    talk = about("what is ", picture(1), " beside ", picture(2, 60, 20), "?")
    run = bench.chat_completion(talk, model=seer, sampling_params=FEW)
    streamed = "".join(str(chunk.event.delta) for chunk in run)
    whole = bench._loop.wait(bench.inference.chat_completion(seer, talk, FEW))
    assert streamed == whole.completion_message.content == run.text


def test_a_decoded_image_its_data_url_and_its_file_are_one(
    bench_of: Callable[..., Workbench], seer: str, tmp_path: Path
) -> None:
    bench = bench_of(image_root=str(tmp_path))
    image = noise(50, 40, 3)
    image.save(tmp_path / "a b.png")
    ways = (ImageMedia(image=image), at(data_url(image)), at(f"file://{tmp_path}/a%20b.png"))
    answers = [answer(bench, seer, about("see ", way, "?")) for way in ways]
    assert answers[0] == answers[1] == answers[2]


def test_a_batch_says_what_each_says_alone_in_order(bench_of: Callable[..., Workbench], seer: str) -> None:
    bench = bench_of(prefix_cache_mb=0)
    talks = [about("see ", picture(seed, 30 + seed * 9), f" and {seed}") for seed in range(4)] + [about("no picture")]
    batch = bench.batch_chat_completion(talks, model=seer, sampling_params=FEW)
    alone = [answer(bench, seer, talk)[0] for talk in talks]
    assert [message.content for message in batch.completion_message_batch] == alone


def test_a_talk_about_a_picture_reuses_it_and_another_picture_does_not(
    bench_of: Callable[..., Workbench], seer: str
) -> None:
    warm, cold = bench_of(), bench_of(prefix_cache_mb=0)
    asked: list[Message] = [UserMessage(content=["look closely at this ", picture(1), "what do you see?"])]
    other: list[Message] = [UserMessage(content=["look closely at this ", picture(2), "what do you see?"])]
    text = answer(warm, seer, asked)[0]
    said = CompletionMessage(content=text, stop_reason=StopReason.end_of_turn)
    again = [*asked, said, UserMessage(content="and what else?")]
    for talk, reuses_picture in ((again, True), (other, False)):
        run = warm.chat_completion(talk, model=seer, sampling_params=FEW)
        run.result(PATIENCE_S)
        assert (run.usage.reused_tokens > 40) == reuses_picture
        assert run.text == answer(cold, seer, talk)[0]


def test_scores_after_a_picture_depend_on_it(bench_of: Callable[..., Workbench], seer: str) -> None:
    bench = bench_of()
    one, other = (bench.score(about(picture(seed), "?"), ["dog", "fox"], model=seer) for seed in (1, 2))
    assert [score.logprob for score in one] != [score.logprob for score in other]
    run = bench.chat_completion(about(picture(1), "?"), model=seer, sampling_params=FEW, logprobs=ALL)
    run.result(PATIENCE_S)
    likely = {token.text: token.logprob for token in run.tokens[0].alternatives}
    scores = bench.score(about(picture(1), "?"), [text for text in likely if text.isascii()], model=seer)
    whole = [score for score in scores if len(score.tokens) == 1]
    assert whole, "at least one of the five likely tokens is what its text is encoded to"
    assert [score.logprob for score in whole] == pytest.approx([likely[score.text] for score in whole], abs=1e-4)


def test_no_text_of_a_user_becomes_a_picture(bench_of: Callable[..., Workbench], seer: str) -> None:
    """The engine refuses a place-holder without its picture, so an answer says that there was none."""
    bench = bench_of()
    place = PLACES.get(seer, "<image>")
    for text in hostile_texts(30):
        run = bench.chat_completion(about(text + place, picture(1), place, text), model=seer, sampling_params=FEW)
        assert run.result(PATIENCE_S).completion_message.stop_reason


def test_texts_are_embedded_by_a_model_that_sees_as_by_any(bench_of: Callable[..., Workbench], seer: str) -> None:
    bench = bench_of()
    bench.chat_completion(about(picture(), "?"), model=seer, sampling_params=FEW).result(PATIENCE_S)
    vectors = bench.embeddings(["The quick brown fox", "lazy dog", "The quick brown fox"], model=seer).embeddings
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(number * number for number in vectors[0]) == pytest.approx(1.0, abs=1e-5)


def test_the_prompt_can_be_seen_with_the_pieces_of_its_pictures(bench_of: Callable[..., Workbench], seer: str) -> None:
    bench = bench_of()
    place = PLACES.get(seer, "<image>")
    talk = about(f"not {place}: ", picture(), "?")
    shown = bench.render(talk, model=seer)
    run = bench.chat_completion(talk, model=seer, sampling_params=FEW)
    run.result(PATIENCE_S)
    assert len(shown.tokens) == run.usage.prompt_tokens
    assert f"not {place}: {place}?" in shown.text
    pieces = [
        token for token in shown.tokens if token.text in place and token.text.startswith("<") and token.is_control
    ]
    assert len(pieces) > 3


# ------------------------------------------------------------------------------------------------------- refusals


def refusal(bench: Workbench, model: str, messages: list[Message]) -> InvalidRequestError:
    """What streaming, waiting and a batch say, which must be the same."""
    run = bench.chat_completion(messages, model=model, sampling_params=FEW)
    with pytest.raises(InvalidRequestError) as caught:
        run.result(PATIENCE_S)
    with pytest.raises(InvalidRequestError) as in_batch:
        bench.batch_chat_completion([about("fine"), messages], model=model, sampling_params=FEW)
    assert in_batch.value.field == caught.value.field.replace("messages", "messages_batch[1]", 1)
    assert in_batch.value.allowed == caught.value.allowed
    return caught.value


def test_thirty_megapixels_a_bomb_and_other_wrong_pictures_are_refused_by_place(
    bench_of: Callable[..., Workbench], models: dict[str, Path]
) -> None:
    bench = bench_of(image_root=str(models["smolvlm"]))
    wrong = {
        data_url(png_of_size(6000, 5000)): "an image of at most 25 megapixels",
        data_url(png_of_size(20_000, 20_000)): "an image of at most 25 megapixels",
        data_url(b"\x89PNG\r\n\x1a\n"): "an undamaged PNG, JPEG, WebP or GIF image",
        "data:image/bmp;base64,Qk0=": "a data: URL of image/png, image/jpeg, image/webp, image/gif",
        f"file://{models['blind']}/config.json": "a file inside the folder that the run config sets as image_root",
        "http://127.0.0.1/a.png": "a data: URL or a decoded image: fetching from the web is switched off",
    }
    for uri, allowed in wrong.items():
        error = refusal(bench, "smolvlm", about("look: ", at(uri), "?"))
        assert (error.field, error.allowed) == ("messages[0].content[1].image", allowed)
    error = refusal(bench, "smolvlm", about("a", ImageMedia(image=Image.new("1", (6000, 5000))), "b"))
    assert error.field == "messages[0].content[1].image"


def test_a_model_for_text_alone_refuses_pictures_by_name(bench_of: Callable[..., Workbench]) -> None:
    error = refusal(bench_of(), "blind", about("look: ", picture(), "?"))
    assert isinstance(error, UnsupportedContentError)
    assert error.allowed == "text: this model cannot read images"


def test_where_pictures_mean_nothing_they_are_refused_by_place(bench_of: Callable[..., Workbench], seer: str) -> None:
    bench = bench_of()
    run = bench.completion(["a", picture()], model=seer)
    with pytest.raises(
        UnsupportedContentError, match=r"content\[1\].image must be text: a completion cannot read images"
    ):
        run.result(PATIENCE_S)
    with pytest.raises(UnsupportedContentError, match=r"content_batch\[1\]\[0\].image must be text"):
        bench.batch_completion(["a", [picture()]], model=seer)
    with pytest.raises(UnsupportedContentError, match=r"contents\[1\] must be text"):
        bench.embeddings(["a", [picture()]], model=seer)
    assert "only user messages can contain images" in refusal(bench, seer, [SystemMessage(content=[picture()])]).allowed
    talk = bench.chat_completion(about(picture(), "?"), model=seer, logprobs=LogProbConfig(prompt=True))
    with pytest.raises(UnsupportedFieldError, match=r"logprobs\.prompt"):
        talk.result(PATIENCE_S)


def test_pictures_that_fill_the_context_are_refused_with_its_length(bench_of: Callable[..., Workbench]) -> None:
    run = bench_of().chat_completion(
        about(*[picture(seed, 200, 200) for seed in range(16)], "?" * 500), model="qwen2_vl"
    )
    with pytest.raises(ContextLengthError, match="512 tokens"):
        run.result(PATIENCE_S)


def test_one_wrong_picture_refuses_a_batch_before_anything_is_computed(
    bench_of: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of()
    bench.load("smolvlm")
    monkeypatch.setattr(Engine, "submit", lambda *_: pytest.fail("computed"))
    talks = [about(picture(), "?"), about("a", at("data:,"), "?")]
    with pytest.raises(InvalidRequestError, match=r"^messages_batch\[1\]\[0\].content\[1\].image must be a data: URL"):
        bench.batch_chat_completion(talks, model="smolvlm")


# ----------------------------------------------------------------------------------------------------- the machine


def test_pictures_are_opened_beside_the_event_loop(
    bench_of: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large picture takes a second to decode and scale; other requests must stream on meanwhile."""
    bench = bench_of()
    bench.load("smolvlm")
    provider = bench.models.find("smolvlm").provider
    assert isinstance(provider, TransformersProvider)
    model = provider._models.loaded("smolvlm")
    assert isinstance(model, CausalModel)
    reader = model.engine.model.images
    assert reader is not None
    threads: list[threading.Thread] = []
    read = reader.read

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return read(*arguments)

    monkeypatch.setattr(reader, "read", noted)
    answer(bench, "smolvlm", about(picture(), "?"))
    bench.batch_chat_completion([about(picture(), "?")], model="smolvlm", sampling_params=FEW)
    bench.score(about(picture(), "?"), ["dog"], model="smolvlm")
    assert len(threads) == 3
    assert all("workbench" not in thread.name for thread in threads)


def test_the_card_tells_of_a_model_that_sees_and_counts_what_it_sees_with(
    bench_of: Callable[..., Workbench], seer: str
) -> None:
    bench = bench_of()
    card = bench.card(seer)
    assert (card.kind, card.has_chat_template, card.reads_images) == ("causal", True, True)
    assert not bench.card("blind").reads_images
    loaded = bench.load(seer)
    assert loaded.parameters == card.parameters
    assert loaded.memory_bytes == pytest.approx(card.predicted_memory_bytes, rel=0.02)


def test_the_card_shows_the_template_that_is_used_where_it_stands_beside_the_processor(
    bench_of: Callable[..., Workbench], models: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "older"
    shutil.copytree(models["smolvlm"], folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    bench = bench_of(models=[str(folder), str(models["smolvlm"])])
    assert bench.card("older").template_sha256 == bench.card("smolvlm").template_sha256
    assert bench.load("older").template_sha256 == bench.card("smolvlm").template_sha256
