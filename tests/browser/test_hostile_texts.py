"""Whatever a model, a person, a tool or an error says is text: in every widget, its static twin, and an export."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter

from tests.browser.module_host import ModuleHost
from tests.unit.widgets.fake_answers import AnsweringSession
from tests.unit.widgets.fake_attribution import FakeAskedRun, attributed, chunk
from tests.unit.widgets.fake_scores import WORDS, scored
from tests.unit.widgets.fake_session import FakeRun, FakeSession, wait_until
from tests.unit.widgets.hostile import PAYLOADS
from workbench.protocol import (
    ModelDefWithProvider,
    Provider,
    RunConfig,
    SamplingParams,
    ToolCall,
    ToolDefinition,
    ToolParamDefinition,
    UserMessage,
)
from workbench.providers.capabilities import Capabilities
from workbench.records import Alternative, Breakpoint, FoundModel, ModelCard, TokenRecord
from workbench.widgets import (
    AttentionView,
    AttributionView,
    ChatView,
    EditView,
    ModelPicker,
    Playground,
    PredictionGame,
    PromptView,
    StreamView,
    TokenTree,
    ToolCallMicroscope,
    compare,
    read,
)
from workbench.widgets.base import WorkbenchWidget

ALL = " ".join(PAYLOADS)
CALL = ToolCall(call_id=ALL, tool_name=ALL, arguments={ALL: ALL})
TOOL = ToolDefinition(tool_name=ALL, description=ALL, parameters={ALL: ToolParamDefinition(param_type=ALL)})
PATIENCE_S = 60

# Elements and attributes of which no widget makes any.
TAGS = (
    "script, img, iframe, object, embed, a, details, video, audio, source, style, link, meta, base, math, mtext, "
    "animate, template, noscript, title, x, form:not([class^=wb-]), svg:not([class^=wb-], .wb-scope *)"
)
ATTRIBUTES = ["src", "href", "srcdoc", "action", "data", "http-equiv", "autofocus", "data-commandlinker-command"]
INTRUDERS = """([tags, names]) => {
  const isOdd = ({ name }) => name.startsWith("on") || names.includes(name);
  const all = [...document.body.querySelectorAll("*")];
  const found = all.filter((one) => one.matches(tags) || [...one.attributes].some(isOdd));
  return found.map((one) => one.outerHTML.slice(0, 200));
}"""
# All that can be read or heard.
SAID = """() => {
  const all = [...document.body.querySelectorAll("*")];
  const named = all.flatMap((one) => [one.title, one.getAttribute("aria-label"), one.value, one.label]);
  return [document.body.textContent, ...named].filter((text) => typeof text === "string").join(" ");
}"""
# Every tooltip comes up, and everything that opens is open.
STIR = """() => {
  for (const one of document.querySelectorAll("[aria-expanded=false]")) one.click();
  for (const one of document.querySelectorAll("[data-wb-position], .wb-root *"))
    for (const kind of ["pointerover", "mouseover", "focus"]) one.dispatchEvent(new Event(kind, { bubbles: true }));
}"""


class HostileModels(FakeSession):
    """Models, their cards and their providers are called like that, too."""

    def list_models(self) -> list[ModelDefWithProvider]:
        return [ModelDefWithProvider(identifier=name, llama_model=name, provider_id=ALL) for name in (ALL, *PAYLOADS)]

    @property
    def config(self) -> RunConfig:
        providers = [Provider(provider_id=text, provider_type=text, config={}) for text in PAYLOADS]
        return super().config.model_copy(update={"providers": {"inference": providers}})

    def card(self, model: str | None = None) -> ModelCard:
        name = model or ALL
        names = ("architecture", "precision", "device", "chat_template", "template_sha256", "tool_syntax", "licence")
        facts: dict[str, Any] = dict.fromkeys(names, ALL)
        return ModelCard(name, ALL, ALL, ALL, **facts, has_chat_template=True, parameters=1000, context_length=8192)

    def capabilities(self, model: str | None = None) -> Capabilities:
        return Capabilities(pause=False)

    def models_found(self) -> list[FoundModel]:
        facts: dict[str, Any] = {"architecture": ALL, "precision": ALL, "fits_in": ALL, "memory_bytes": 5}
        return [
            FoundModel(text, text, "gguf", text, problem=problem, **facts)
            for text in PAYLOADS
            for problem in (text, "")
        ]

    def register_model(self, *_: Any, **__: Any) -> ModelDefWithProvider:
        raise RuntimeError(ALL)

    def _start(self, run: FakeRun) -> None:
        run.notes = tuple(PAYLOADS)
        super()._start(run)


class HostileAnswers(HostileModels, AnsweringSession):
    """Models that answer differently, and fail in the end."""

    def _start(self, run: FakeRun) -> None:
        run._failure = RuntimeError(ALL)
        super()._start(run)


def record(position: int, text: str, token_id: int = 5) -> TokenRecord:
    """A token with all the others beside it."""
    others = tuple(Alternative(500 + i, other, other.encode(), -4.0 - i, i + 2) for i, other in enumerate(PAYLOADS))
    return TokenRecord(position, token_id, text, text.encode(), -3.0, 2, 1.0, others)


def finished(run: FakeRun) -> FakeRun:
    run.step(100_000)
    return run


def fails(*_: Any) -> Any:
    raise RuntimeError(ALL)


def state_is(kind: str, state: str) -> str:
    return f"document.querySelector('.wb-{kind}').dataset.wbState === '{state}'"


# ------------------------------------------------------------------------------------------------------- the scenes


def playground_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    records = [record(i, text) for i, text in enumerate(PAYLOADS)]
    shown = Playground(HostileModels(), prompt=ALL, sampling_params=SamplingParams(stop=PAYLOADS[:16]))
    shown.table.height = 2000
    modules.show(shown)
    shown.feed.follow(finished(FakeRun(records=records, prompt=ALL)))
    for tab, ready in (
        ("waterfall", ".wb-fall-chosen"),
        ("layers", ".wb-layers-cell:not(.wb-waiting)"),
        ("tree", ".wb-tree"),
        ("code", ".wb-code code"),
        ("tokens", ".wb-instead code"),
    ):
        shown.tab = tab
        shown.selected = 3
        modules.wait(f"document.querySelector('{ready}')", timeout_s=PATIENCE_S)
    return [shown, shown.picker, shown.stream, shown.inspector, shown.table, shown.waterfall, shown.layers]


def stream_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    """Paused where all of them have come; before, one that ended in an error."""
    settings = {"model": ALL, "sampling_params": None, "logprobs": None}
    failed, paused = (
        StreamView(
            HostileModels([*PAYLOADS, "."], tokens_per_s=1e6, error=error),
            prompt=ALL,
            settings=lambda: settings,
            breakpoints=breakpoints,
        )
        for error, breakpoints in ((RuntimeError(ALL), ()), (None, [Breakpoint(text="".join(PAYLOADS))]))
    )
    for view, state in ((failed, "failed"), (paused, "paused")):
        view.refresh()
        modules.show(view)
        view.start()
        modules.wait(f"document.querySelector('.wb-stream[data-wb-state={state}]')")
    return [failed, paused]


def picker_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    picker = ModelPicker(HostileModels())
    modules.show(picker)
    page = modules.browser
    page.get_by_role("button", name="Register…").click()
    for field in ("Source", "Name"):
        page.get_by_label(field, exact=True).fill(ALL)
    page.get_by_role("button", name="Register", exact=True).click()
    modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'failed'")
    page.get_by_role("button", name="Model card").click()
    page.get_by_role("button", name="Unregister…").click()
    return [picker]


def chat_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    session = HostileModels(PAYLOADS, tokens_per_s=1e6, calls=[[CALL]])
    view = ChatView(session, system=ALL, tools=[TOOL])
    modules.show(view)
    view.draft = ALL
    view.say(ALL)
    modules.wait(state_is("chat", "deciding"))
    modules.browser.evaluate(STIR)
    view.decide(0, approved=True, result=ALL)
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 3 && {state_is('chat', 'idle')}")
    session._error = RuntimeError(ALL)
    view.say(ALL)
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 5 && {state_is('chat', 'idle')}")
    return [view]


def compare_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    answers = {ALL: ALL, " ".join(reversed(PAYLOADS)): " ".join(reversed(PAYLOADS))}
    params = SamplingParams(stop=PAYLOADS[:16])
    view = compare(HostileAnswers(answers), ALL, models=list(answers), sampling_params=params)
    modules.show(view)
    assert view.wait(PATIENCE_S)
    modules.wait(state_is("compare", "done"))
    view.position = 3
    modules.wait("document.querySelector('.wb-compare-candidates code')")
    return [view]


def read_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    view = read(HostileModels(tokens_per_s=1e6), ALL, " ".join(reversed(PAYLOADS)))
    modules.show(view)
    modules.wait(state_is("read", "done"))
    view.feeds[0].selected = 3
    return [view]


def microscope_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    odd = finished(FakeRun())
    odd.call_steps = fails  # type: ignore[method-assign]
    scopes = [ToolCallMicroscope(run) for run in (finished(FakeRun(texts=PAYLOADS, calls=[CALL])), odd)]
    for scope in scopes:
        assert scope.wait(PATIENCE_S)
        scope.feed.selected = 1
        modules.show(scope)
    return list(scopes)


def prompt_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    odd = finished(FakeRun())
    odd.render = fails  # type: ignore[method-assign]
    views = [PromptView(run) for run in (finished(FakeRun(prompt=[UserMessage(content=ALL)], model=ALL)), odd)]
    for view in views:
        assert view.wait(PATIENCE_S)
        modules.show(view)
    return list(views)


def tree_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    """Each branch is parted by one of the texts; a tree has room for some of them."""
    trees = []
    for start in range(0, len(PAYLOADS), 20):
        own = [record(1, text, i) for i, text in enumerate(PAYLOADS[start : start + 20])]
        runs = [FakeRun(one.text, records=[record(0, "One"), one], model=ALL) for one in own]
        trees.append(TokenTree([finished(run) for run in runs]))
        modules.show(trees[-1])
    return list(trees)


def game_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    """Only words are asked for; the texts stand before them, in the prompt and in what was scored."""
    game = PredictionGame(scored([*((f" {text}", 0.3, {" a": 0.1}) for text in PAYLOADS), *WORDS]), ALL)
    modules.show(game)
    game.bet(0, 0.5)
    modules.wait(state_is("game", "told"))
    return [game]


def attribution_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    """Said by the model, by documents and by their names; one more view ends in an error."""
    records = [record(i, text) for i, text in enumerate(PAYLOADS)]
    chunks = [*(chunk(text, text) for text in PAYLOADS[:20]), chunk(ALL, ALL)]
    raised = {(i % len(chunks), i): 3.0 for i in range(len(records))}
    shown = AttributionView(attributed(chunks=chunks, records=records, raised=raised))
    shown.selected, shown.chosen = 3, len(chunks) - 1
    run = FakeAskedRun()
    failed = AttributionView(run)
    wait_until(lambda: len(run.futures) == 1)
    run.futures[0].set_exception(RuntimeError(ALL))
    assert failed.wait(PATIENCE_S)
    for view in (shown, failed):
        modules.show(view)
    return [shown, failed]


def attention_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    """Said by prompt and answer; one more view ends in an error."""
    run = finished(FakeRun(records=[record(i, text) for i, text in enumerate(PAYLOADS)], prompt=ALL))
    odd = finished(FakeRun())
    odd.capture = fails  # type: ignore[assignment, method-assign]
    views = [AttentionView(one) for one in (run, odd)]
    for view in views:
        assert view.wait(PATIENCE_S)
        modules.show(view)
    return list(views)


def edit_scene(modules: ModuleHost) -> list[WorkbenchWidget]:
    """Said by both prompts, the answers, the texts of steering, and an error."""
    records = [record(i, text) for i, text in enumerate(PAYLOADS)]
    run, odd = (finished(FakeRun(records=records, prompt=ALL)) for _ in range(2))
    odd.edit = fails  # type: ignore[assignment, method-assign]
    views = [EditView(one, session=HostileModels(PAYLOADS)) for one in (run, odd)]
    for view in views:
        assert view.wait(PATIENCE_S)
        view.mode = "patch"
        modules.show(view)
        view._choose_source(view.feed.run)
        view.ablate("mlp", 0, position=1)
        view.steer(ALL, ALL, 1)
        view._changes = view._changes[:1]  # what it does is known without the texts
        view.start()
        assert view._work.wait(PATIENCE_S)
    for one in views[0].comparison.runs[1:]:
        finished(one)
    assert views[0].wait(PATIENCE_S)
    return [*views, views[0].comparison]


SCENES: list[Callable[[ModuleHost], list[WorkbenchWidget]]] = [
    playground_scene,
    stream_scene,
    picker_scene,
    chat_scene,
    compare_scene,
    read_scene,
    microscope_scene,
    prompt_scene,
    tree_scene,
    game_scene,
    attribution_scene,
    attention_scene,
    edit_scene,
]


def exported(widgets: list[WorkbenchWidget]) -> str:
    """A notebook that shows them, as `nbconvert --to html` makes a page of it, without what loads from elsewhere."""
    bundles = [widget._repr_mimebundle_()[0] for widget in widgets]
    outputs = [
        {"output_type": "display_data", "data": {"text/html": bundle["text/html"]}, "metadata": {}}
        for bundle in bundles
    ]
    cell = {"cell_type": "code", "id": "view", "execution_count": 1, "metadata": {}, "source": "view"}
    content = {"cells": [{**cell, "outputs": outputs}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook = nbformat.from_dict(content)  # type: ignore[no-untyped-call]
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)  # type: ignore[no-untyped-call]
    return str(page)


def bare(text: str) -> str:
    """Without white space, what cannot be seen, and the signs that stand for either."""
    told = re.sub(r"⟨U\+[0-9A-F]{4,}⟩|[␣⏎⇥\u2400-\u2421]", "", text)
    return "".join(char for char in told if char.isprintable() and not char.isspace())


def assert_all_is_text(modules: ModuleHost) -> None:
    said = bare(modules.browser.evaluate(SAID))
    assert [text for text in PAYLOADS if bare(text) not in said] == []
    assert modules.browser.evaluate(INTRUDERS, [TAGS, ATTRIBUTES]) == []
    assert modules.browser.evaluate("window.wbHit") is None


@pytest.mark.parametrize("scene", SCENES)
def test_whatever_anybody_says_is_text_in_the_page_its_twin_and_an_export(
    modules: ModuleHost, scene: Callable[[ModuleHost], list[WorkbenchWidget]]
) -> None:
    widgets = scene(modules)
    modules.browser.evaluate(STIR)
    modules.carry()
    assert_all_is_text(modules)
    # As strict as it can be: a page that runs whatever its text holds, as a browser opens an exported notebook.
    modules.browser.set_content(exported(widgets))
    assert_all_is_text(modules)
