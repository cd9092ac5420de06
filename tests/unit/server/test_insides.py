"""Numbers inside a model over HTTP, judged by transformers; switched off, there is no way to them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.fakes.http_server import HEADERS, PATIENCE_S, TOKEN, Served, eventually, serving, tasks_of
from tests.fakes.serving import FakeModels
from tests.tiny_models import save_model, save_sentence_model
from tests.unit.server.conftest import ECHO
from workbench.protocol import CaptureResponse, Insides, LensToken, LogitAttribution, PointInfo, routes_of
from workbench.providers.transformers.insides import EngineInsides
from workbench.server import Limits
from workbench.stack.insides import MAX_LENS_WORDS, MAX_NUMBERS
from workbench.stack.stack import Stack

pytestmark = pytest.mark.timeout(300)  # the first model that is loaded compiles the engine

ROUTES = ("/insides/capture", "/insides/lens", "/insides/attribution")
TEXT: dict[str, Any] = {"model": "tiny", "content": "The quick brown fox"}
EDIT: dict[str, Any] = {"point": "resid_post.0", "operation": "add", "value": 0.5}
CAPTURE: dict[str, Any] = TEXT | {"points": ["resid_post.0"]}
BODIES: dict[str, dict[str, Any]] = {ROUTES[0]: CAPTURE, ROUTES[1]: TEXT, ROUTES[2]: TEXT}
LAYERS, WIDTH, VOCAB = 2, 32, 384


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("insides") / "tiny", "llama")


@pytest.fixture(scope="module")
def config(folder: Path) -> dict[str, Any]:
    """A run config of the tiny model, a sentence model, and ``echo``."""
    models = [str(folder), str(save_sentence_model(folder.parent / "sentences"))]
    tiny = {"provider_id": "local", "provider_type": "inline::transformers", "config": {"models": models}}
    return {"providers": {"inference": [tiny, *ECHO["providers"]["inference"]]}}


@pytest.fixture(scope="module")
def opened(config: dict[str, Any]) -> Iterator[Served]:
    with serving(config | {"apis": ["inference", "insides"]}) as served:
        yield served


@pytest.fixture(scope="module")
def client(opened: Served) -> httpx.Client:
    return opened.client(timeout=300)


@pytest.fixture(scope="module")
def judge(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def post(client: httpx.Client, route: str, **body: Any) -> Any:
    response = client.post(route, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def answer(client: httpx.Client, tokens: int = 5) -> Any:
    """The response to a capture of all numbers that the tests compare."""
    points = ["embeddings", "resid_post", "attn_scores.1", "attn_probs", "final_norm", "lm_head"]
    return post(client, ROUTES[0], **TEXT, points=points, sampling_params={"max_tokens": tokens})


def by_name(response: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in response["points"]}


def test_the_captured_numbers_are_those_of_transformers(client: httpx.Client, judge: Any) -> None:
    found = answer(client)
    points = by_name(found)
    ids = [token["token_id"] for token in found["tokens"]]
    assert [token["position"] for token in found["tokens"]] == found["positions"] == list(range(len(ids)))
    assert len(ids) == found["prompt_tokens"] + 5
    judge.set_attn_implementation("eager")
    with torch.no_grad():
        expected = judge(torch.tensor([ids]), output_hidden_states=True, output_attentions=True)
    theirs = {
        "embeddings": expected.hidden_states[0][0],
        "resid_post.0": expected.hidden_states[1][0],
        "final_norm": expected.hidden_states[-1][0],
        "lm_head": expected.logits[0],
    } | {f"attn_probs.{layer}": expected.attentions[layer][0].transpose(0, 1) for layer in range(LAYERS)}
    for name, numbers in theirs.items():
        assert points[name]["shape"] == list(numbers.shape)
        np.testing.assert_allclose(points[name]["numbers"], numbers.numpy(), atol=1e-4)
    assert points["attn_probs.0"]["axes"] == ["token", "head", "key"]
    assert points["lm_head"]["axes"] == ["token", "token_id"]
    scores = np.array(points["attn_scores.1"]["numbers"], np.float32)
    assert scores[0, 0, 1] == np.finfo(np.float32).min, "a key that is not attended to"
    assert CaptureResponse.model_validate_json(json.dumps(found)).prompt_tokens == found["prompt_tokens"]


def test_rows_are_those_of_the_positions_in_their_order(client: httpx.Client) -> None:
    whole = by_name(answer(client))["resid_post.1"]["numbers"]
    some = post(client, ROUTES[0], **TEXT, points=["resid_post.last"], positions=[3, 0, 3])
    assert some["positions"] == [3, 0, 3]
    (point,) = some["points"]
    assert point["name"] == "resid_post.1"
    assert point["numbers"] == [whole[3], whole[0], whole[3]]
    assert len(some["tokens"]) == some["prompt_tokens"] + 1, "one token is generated if nothing else is requested"


def test_the_lens_shows_what_each_layer_foresaw(client: httpx.Client, judge: Any) -> None:
    captured = answer(client)
    columns = post(client, ROUTES[1], **TEXT, words=3, sampling_params={"max_tokens": 5})
    first, stream = captured["prompt_tokens"], by_name(captured)
    assert [column["position"] for column in columns] == list(range(first, first + 5))
    for column in map(LensToken.model_validate, columns):
        assert column.token_id == captured["tokens"][column.position]["token_id"]
        for layer, cell in enumerate(column.layers):
            hidden = torch.tensor(stream[f"resid_post.{layer}"]["numbers"][column.position - 1])
            with torch.no_grad():
                expected = judge.lm_head(judge.model.norm(hidden)).softmax(-1)
            assert cell.probability == pytest.approx(float(expected[column.token_id]), abs=1e-4)
            assert cell.rank == 1 + int((expected > expected[column.token_id]).sum())
            assert [word.token_id for word in cell.words] == expected.topk(3).indices.tolist()
            assert [word.probability for word in cell.words] == pytest.approx(
                expected.topk(3).values.tolist(), abs=1e-4
            )
    assert [column.layers[-1].rank for column in map(LensToken.model_validate, columns)] == [1] * 5, "it is greedy"
    again = post(client, ROUTES[1], **TEXT, words=3, positions=[first, 1, first])
    assert [again[0], again[2]] == [columns[0]] * 2
    assert again[1]["position"] == 1


def test_the_parts_of_a_logit_add_up_to_it(client: httpx.Client) -> None:
    captured = answer(client)
    first = captured["prompt_tokens"]
    logits = np.array(by_name(captured)["lm_head"]["numbers"])
    for asked, position in (({}, first), ({"position": 2}, 2)):
        found = LogitAttribution.model_validate(post(client, ROUTES[2], **TEXT, **asked))
        assert (found.position, found.token_id) == (position, captured["tokens"][position]["token_id"])
        assert found.logit == pytest.approx(logits[position - 1, found.token_id], abs=1e-4)
        assert sum(found.parts.values()) == pytest.approx(found.logit, abs=1e-4)
        assert set(found.parts) == {"embeddings"} | {
            f"{part}.{layer}" for part in ("attn_out", "mlp_out") for layer in range(LAYERS)
        }


def test_an_answer_that_ends_at_once_has_no_tokens_to_look_into(client: httpx.Client) -> None:
    end = {"point": "lm_head", "operation": "set", "value": 0.0}  # of equal logits, the first one is the end's
    assert post(client, ROUTES[1], **TEXT, edits=[end]) == []
    response = client.post(ROUTES[2], json=TEXT | {"edits": [end]})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "position must be given: the answer is empty; got None"
    assert post(client, ROUTES[2], **TEXT, edits=[end], position=1)["position"] == 1


@pytest.mark.parametrize("route", ROUTES)
def test_an_edit_with_which_the_model_computes_no_number_is_a_typed_error(client: httpx.Client, route: str) -> None:
    edit = EDIT | {"operation": "scale", "value": 3e38}
    response = client.post(route, json=BODIES[route] | {"edits": [edit]})
    assert response.json()["error"]["type"] == "NumericalError"
    assert post(client, ROUTES[0], **CAPTURE)["points"]


def test_the_points_are_listed_with_their_axes(client: httpx.Client) -> None:
    listed = [PointInfo.model_validate(one) for one in client.get("/insides/points", params={"model": "tiny"}).json()]
    found = {one.name: one for one in listed}
    assert found["resid_post.{layer}"].model_dump(include={"layers", "axes", "sizes", "derived", "missing"}) == {
        "layers": LAYERS,
        "axes": ["feature"],
        "sizes": [WIDTH],
        "derived": False,
        "missing": None,
    }
    assert found["attn_probs.{layer}"].sizes == [4, None]
    assert (found["lm_head"].layers, found["lm_head"].axes) == (0, ["token_id"])
    assert (listed[0].name, listed[-1].name) == ("embeddings", "lm_head")


def test_edits_change_the_answer_and_the_numbers_as_a_hook_does(client: httpx.Client, judge: Any) -> None:
    value = [float(number) for number in np.random.default_rng(3).normal(size=WIDTH).astype(np.float32) * 4]
    edits = [EDIT | {"value": value, "start": 1}]
    found = post(client, ROUTES[0], **TEXT, points=["lm_head"], edits=edits)
    plain = post(client, ROUTES[0], **TEXT, points=["lm_head"])
    ids = torch.tensor([[token["token_id"] for token in found["tokens"]]])

    def add(_: Any, __: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        hidden[:, 1:] += torch.tensor(value)
        return output

    hook = judge.model.layers[0].register_forward_hook(add)
    with torch.no_grad():
        expected = judge(ids).logits[0].numpy()
    hook.remove()
    np.testing.assert_allclose(found["points"][0]["numbers"], expected, atol=1e-3)
    assert np.abs(np.array(plain["points"][0]["numbers"][1]) - expected[1]).max() > 0.1
    whole = post(client, "/inference/completion", **TEXT, edits=edits, sampling_params={"max_tokens": 8})
    without = post(client, "/inference/completion", **TEXT, sampling_params={"max_tokens": 8})
    assert whole["completion_message"]["content"] != without["completion_message"]["content"]


def test_a_conversation_is_looked_into_as_it_is_rendered(client: httpx.Client, opened: Served) -> None:
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    found = post(client, ROUTES[0], **chat, points=["embeddings"], sampling_params={"max_tokens": 3})
    said = post(client, "/inference/chat_completion", **chat, sampling_params={"max_tokens": 3})
    tokens = found["tokens"][found["prompt_tokens"] :]
    assert "".join(token["text"] for token in tokens) == said["completion_message"]["content"]
    assert isinstance(opened.stack.insides, Insides)


LENS = TEXT | {"words": 1}
ATTRIBUTION = TEXT | {"position": 1}
HUGE = [0] * 500_000
HOSTILE: list[tuple[str, dict[str, Any], Any, str]] = [
    *((route, body, change, field)
      for route, body in BODIES.items()
      for change, field in [
          ({"model": 1}, "model"),
          ({"model": "sentences"}, "model"),
          ({"content": None}, "content"),
          ({"content": ""}, "content"),
          ({"content": {"image": {"uri": "data:,"}}}, "content"),
          ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
          ({"content": None, "messages": []}, "messages"),
          ({"content": None, "messages": HUGE[:9]}, "messages[0]"),
          ({"content": None, "messages": [{"role": "user", "content": "x"}] * 200}, "messages"),
          ({"content": "x " * 600}, "content"),
          ({"sampling_params": None}, "sampling_params"),
          ({"sampling_params": {"max_tokens": -1}}, "sampling_params.max_tokens"),
          ({"edits": {}}, "edits"),
          ({"edits": [EDIT | {"point": "resid_post.9"}]}, "edits[0].point"),
          ({"edits": [EDIT | {"value": [1.0, [2.0]]}]}, "edits[0].value[1][0]"),
          ({"edits": [EDIT | {"value": [[1.0], [1.0, 2.0]]}]}, "edits[0].value"),
          ({"edits": [EDIT | {"value": 1e300}]}, "edits[0].value"),
          ({"edits": [EDIT | {"value": HUGE}]}, "edits[0].value"),
          ({"edits": [EDIT | {"start": -1}]}, "edits[0].start"),
          ({"edits": [EDIT | {"head": 0}]}, "edits[0].head"),
          ({"shields": ["x"]}, "shields"),
      ]),
    *((route, body, change, field)
      for route, body in ((ROUTES[0], CAPTURE), (ROUTES[1], LENS))
      for change, field in [
          ({"positions": []}, "positions"),
          ({"positions": "all"}, "positions"),
          ({"positions": 3}, "positions"),
          ({"positions": [-1]}, "positions[0]"),
          ({"positions": [1, 1.5]}, "positions[1]"),
          ({"positions": [True]}, "positions[0]"),
          ({"positions": [1, None]}, "positions[1]"),
          ({"positions": [511]}, "positions"),
          ({"positions": [10**30]}, "positions"),
          ({"positions": [1, 10**9], "sampling_params": {"max_tokens": 0}}, "positions"),
      ]),
    (ROUTES[0], CAPTURE, {"positions": HUGE}, "points"),
    (ROUTES[0], CAPTURE, {"points": []}, "points"),
    (ROUTES[0], CAPTURE, {"points": None}, "points"),
    (ROUTES[0], CAPTURE, {"points": "resid_post"}, "points"),
    (ROUTES[0], CAPTURE, {"points": [1]}, "points[0]"),
    (ROUTES[0], CAPTURE, {"points": ["lm_head", "x" * 100_000]}, "points[1]"),
    (ROUTES[0], CAPTURE, {"points": ["resid_post.2"]}, "points"),
    (ROUTES[0], CAPTURE, {"points": ["resid_post"] * 100_000}, "points"),
    (ROUTES[0], CAPTURE, {"points": ["attn_probs.0"], "positions": [10**30]}, "points"),
    (ROUTES[1], LENS, {"positions": [0]}, "positions[0]"),
    (ROUTES[1], LENS, {"positions": [1] * 500_000}, "positions"),
    (ROUTES[1], LENS, {"kind": "tuned"}, "kind"),
    (ROUTES[1], LENS, {"kind": None}, "kind"),
    (ROUTES[1], LENS, {"words": 0}, "words"),
    (ROUTES[1], LENS, {"words": 10**30}, "words"),
    (ROUTES[1], LENS, {"words": 1.0}, "words"),
    (ROUTES[2], ATTRIBUTION, {"position": 0}, "position"),
    (ROUTES[2], ATTRIBUTION, {"position": -1}, "position"),
    (ROUTES[2], ATTRIBUTION, {"position": 10**30}, "position"),
    (ROUTES[2], ATTRIBUTION, {"position": "1"}, "position"),
    (ROUTES[2], ATTRIBUTION, {"position": [1]}, "position"),
]  # fmt: skip


@pytest.mark.parametrize("route, body, change, field", HOSTILE)
def test_whatever_is_sent_the_field_is_named_and_the_server_lives_on(
    client: httpx.Client, route: str, body: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    response = client.post(route, json=body | change)
    assert response.status_code == 400, response.text[:1000]
    assert response.json()["error"]["param"] == field
    assert len(response.text) < 2000
    assert post(client, ROUTES[0], **CAPTURE)["points"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("field", ["positions", "edits"])
def test_json_has_no_such_numbers(client: httpx.Client, field: str, number: str) -> None:
    value = f"[{number}]" if field == "positions" else json.dumps([EDIT]).replace("0.5", number)
    body = json.dumps(CAPTURE)[:-1] + f', "{field}": {value}}}'
    response = client.post(ROUTES[0], content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "body"


@pytest.mark.parametrize("model, status", [("echo", 501), ("nobody", 404)])
@pytest.mark.parametrize("route", ROUTES)
def test_a_model_that_cannot_be_looked_into_is_refused(
    client: httpx.Client, route: str, model: str, status: int
) -> None:
    response = client.post(route, json=BODIES[route] | {"model": model})
    assert response.status_code == client.get("/insides/points", params={"model": model}).status_code == status
    assert model in response.json()["error"]["message"]


def test_what_is_too_large_is_refused_before_anything_is_computed(
    client: httpx.Client, opened: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened.stack.inference, "stream", None)
    assert client.post(ROUTES[0], json=CAPTURE).status_code == 500, "whatever is computed now fails"
    positions = [1] * (MAX_NUMBERS // VOCAB + 1)
    capture, lens = {"points": ["lm_head"], "positions": positions}, {"words": 20, "positions": positions}
    for route, body, field, said in (
        (ROUTES[0], capture, "points", f"at fewer positions: a response has at most {MAX_NUMBERS:,} numbers"),
        (ROUTES[1], lens, "positions", f"or words smaller: a response has at most {MAX_LENS_WORDS:,} words"),
    ):
        response = client.post(route, json=TEXT | body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, field)
        assert said in response.json()["error"]["message"]
        smaller = body | {"positions": positions[:10]}
        assert client.post(route, json=TEXT | smaller).status_code == 500, "this one is computed"


def test_a_prompt_that_is_too_long_for_its_points_is_refused_at_its_first_token(client: httpx.Client) -> None:
    points = ["attn_scores", "attn_probs"]
    body = {"model": "tiny", "content": "x" * 400, "points": points, "sampling_params": {"max_tokens": 100}}
    error = client.post(ROUTES[0], json=body).json()["error"]
    assert error["param"] == "points"
    assert "4 points at 4" in error["message"], "of the 500 positions that it would have in the end"
    assert post(client, ROUTES[0], **body | {"points": points[:1], "content": "x" * 100})


def test_a_client_that_is_gone_stops_its_lens(
    client: httpx.Client, opened: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert post(client, ROUTES[1], **TEXT)
    read, reached, may_go_on = EngineInsides.lens, threading.Event(), threading.Event()
    calls: list[list[int]] = []

    def held(insides: EngineInsides, indices: Any, **options: Any) -> Any:
        calls.append(list(indices))
        reached.set()
        assert may_go_on.wait(PATIENCE_S)
        return read(insides, indices, **options)

    async def leave() -> None:
        async with httpx.AsyncClient(base_url=opened.url, headers=HEADERS, timeout=PATIENCE_S) as leaving:
            body = TEXT | {"content": "x " * 60, "positions": list(range(1, 50))}
            request = asyncio.create_task(leaving.post(ROUTES[1], json=body))
            assert await asyncio.to_thread(reached.wait, PATIENCE_S)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    monkeypatch.setattr(EngineInsides, "lens", held)
    before = tasks_of(opened)
    asyncio.run(leave())
    assert eventually(lambda: tasks_of(opened) <= before)
    may_go_on.set()
    assert calls == [list(range(1, 9))]
    assert len(post(client, ROUTES[1], **TEXT, positions=list(range(1, 5)) * 5)) == 20
    assert calls[1:] == [[1, 2, 3, 4]]


# ------------------------------------------------------------------------------------------------------ the switch


def test_switched_off_there_are_no_routes_and_no_edits(fake_models: FakeModels) -> None:
    fake_models.add("random")
    with serving(fake_models.config) as served:
        client = served.client()
        assert "insides" not in served.stack.apis
        assert not [path for path in client.get("/openapi.json").json()["paths"] if "insides" in path]
        assert client.get("/insides/points", params={"model": "random"}).status_code == 404
        assert client.post(ROUTES[0], json=CAPTURE).status_code == 404
        chat: dict[str, Any] = {"model": "random", "messages": [{"role": "user", "content": "x"}]}
        for path, body in (("completion", TEXT | {"model": "random"}), ("chat_completion", chat)):
            for stream in (False, True):
                for edits in ([EDIT], []):
                    response = client.post(f"/inference/{path}", json=body | {"edits": edits, "stream": stream})
                    assert (response.status_code, response.json()["error"]["param"]) == (501, "edits")
                    assert "--insides" in response.json()["error"]["message"]
                    assert "apis of the run config" in response.json()["error"]["message"]
            limited = body | {"sampling_params": {"max_tokens": 2}, "edits": None}
            assert client.post(f"/inference/{path}", json=limited).status_code == 200
        assert fake_models.loads == ["random"]


def test_switched_on_its_routes_are_listed(opened: Served, client: httpx.Client) -> None:
    marked = {(route.route, route.method.lower()) for route in routes_of(Insides)}
    assert len(marked) == 4
    paths = client.get("/openapi.json").json()["paths"]
    assert marked == {(path, method) for path in paths for method in paths[path] if path.startswith("/insides")}
    assert list(opened.stack.apis) == ["inference", "insides"]


def test_the_option_switches_it_on_beside_the_other_apis() -> None:
    off, on = Stack(ECHO), Stack(ECHO, insides=True)
    assert set(on.apis) - set(off.apis) == {"insides"}
    assert set(off.apis) < set(on.apis)
    few = Stack(ECHO | {"apis": ["inspect"]}, insides=True)
    assert list(few.apis) == ["inspect", "insides"]
    for stack in (off, on, few):
        stack.close()


def test_the_limits_of_the_server_hold_here_too(config: dict[str, Any]) -> None:
    with serving(config | {"apis": ["insides"]}, limits=Limits(max_tokens=2)) as served:
        client = served.client(timeout=300)
        found = post(client, ROUTES[0], **CAPTURE)
        assert len(found["tokens"]) == found["prompt_tokens"] + 1
        found = post(client, ROUTES[0], **CAPTURE, sampling_params={})
        assert len(found["tokens"]) <= found["prompt_tokens"] + 2
        response = client.post(ROUTES[1], json=TEXT | {"sampling_params": {"max_tokens": 3}})
        assert response.json()["error"]["param"] == "sampling_params.max_tokens"


def test_openais_routes_take_no_edits_even_when_it_is_switched_on(opened: Served) -> None:
    with openai.OpenAI(base_url=f"{opened.url}/v1", api_key=TOKEN, max_retries=0) as api:
        chat: Any = api.chat.completions.create
        completion: Any = api.completions.create
        message = {"role": "user", "content": "x"}
        for create, own in ((chat, {"messages": [message]}), (completion, {"prompt": "x"})):
            with pytest.raises(openai.BadRequestError) as caught:
                create(model="tiny", **own, extra_body={"edits": [EDIT]})
            assert caught.value.param == "edits"
