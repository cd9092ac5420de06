"""Take the screenshots of the widgets in README.md and docs/, with the real model in a real JupyterLab.

Run it from the repository's root after `make test` has set up what tests need:

    .venv/bin/python scripts/screenshots.py                      # all of them, into docs/images
    .venv/bin/python scripts/screenshots.py token-table --into /tmp/pictures --theme "JupyterLab Dark"
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.jupyterlab import Lab, running_lab  # noqa: E402 - found by the line above
from tests.browser.notebook_page import NotebookPage, running_chromium  # noqa: E402

# The views select a whole word at which the entropy is high.
SETUP = """\
import workbench as wb

bench = wb.Workbench()
bench.load()
bench.completion("Warm up", sampling_params=wb.SamplingParams(max_tokens=4)).result()
params = wb.SamplingParams(strategy="top_p", temperature=0.7, max_tokens=120, seed=3)
logprobs = wb.LogProbConfig(top_k=5)
run = bench.chat_completion([wb.UserMessage(content="Why is the sky blue? Two sentences.")],
                            sampling_params=params, logprobs=logprobs)
run.result()

def fork(run):
    words = (t for t in run.tokens[5:-5] if t.text[0] == " " and t.text.strip().isalpha() and t.rank > 1)
    return max(words, key=lambda token: token.entropy).position

feed = wb.widgets.RunFeed(run)
feed.selected = fork(run)"""
TOOLS = """\
def get_weather(location: str) -> str:
    '''Tell the weather.

    Args:
        location: the city.
    '''
    return f"Sunny in {location}."

few = wb.SamplingParams(max_tokens=64)
"""
SCENES = {
    "playground": """\
playground = bench.playground(prompt="Why is the sky blue? Two sentences.", sampling_params=params)
playground.start().result()
playground.selected = [fork(playground.run)]
playground""",
    "model-picker": """\
from tests.fakes.large_models import models_of_a_made_up_home
bench.models_found = models_of_a_made_up_home
wb.widgets.ModelPicker(bench)""",
    "sampling-controls": "wb.widgets.SamplingControls(params)",
    "stream-view": "wb.widgets.StreamView(bench, feed=feed, prompt='Why is the sky blue? Two sentences.')",
    "token-inspector": "wb.widgets.TokenInspector(feed=feed)",
    "token-table": "wb.widgets.TokenTable(feed=feed)",
    "chat-view": f"""{TOOLS}
chat = bench.chat(system="You are brief.", tools=[get_weather], tool_choice="required", sampling_params=few)
chat.say("What is the weather in Rome?")
chat.wait()
chat.decide(0, approved=True)
chat.wait()
chat""",
    "tool-call-microscope": f"""{TOOLS}
chat_run = bench.chat_completion([wb.UserMessage(content="What is the weather in Rome?")], tools=[get_weather],
                                 tool_choice="required", sampling_params=few, logprobs=logprobs)
chat_run.result()
microscope = wb.widgets.ToolCallMicroscope(chat_run)
microscope.wait()
microscope""",
    "prediction-game": """\
prompt, text = "One, two, three,", " four, five, six, seven, eight."
score = bench.score(prompt, [text], logprobs=wb.LogProbConfig(top_k=12))[0]
game = wb.widgets.PredictionGame(score, prompt)
game.bet(0, 0.6)
game""",
    "prompt-view": "wb.widgets.PromptView(run)",
    "token-tree": """\
trunk = bench.completion("My favourite animal is", logprobs=logprobs,
                         sampling_params=wb.SamplingParams(strategy="top_p", temperature=0.8, max_tokens=24, seed=7))
trunk.result()
branches = [trunk.branch(at, trunk.tokens[at].alternatives[0].token_id) for at in (1, 6, 10)]
for branch in branches:
    branch.result()
wb.widgets.TokenTree([*branches, trunk])""",
    "compare-view": """\
cold, warm = (wb.SamplingParams(strategy="top_p", temperature=t, max_tokens=48, seed=5) for t in (0.5, 0.8))
comparison = bench.compare("Why do cats purr? One sentence.", sampling_params=[cold, warm])
comparison.start().wait()
comparison.position = comparison.divergence
comparison""",
    "read-view": """\
reader = bench.read("I drink my coffee with milk and sugar.", "I drink my coffee with milk and concrete.")
reader.wait()
reader.feeds[0].selected = reader.feeds[1].selected = len(reader.runs[0].tokens) - 2
reader""",
    "attribution-view": """\
bench.register_memory_bank("observatory", "keyword")
notes = {
    "hours.md": "On Fridays the observatory opens at nine in the evening. On other days it stays closed.",
    "staff.md": "Marta Quill keeps the key of the dome of the observatory. Ask her before you climb the stairs.",
    "history.md": "The observatory was built in 1911 on the hill behind the school.",
}
bench.insert("observatory", notes)
asked = bench.ask("When does the observatory open, and who keeps the key?", bank="observatory",
                  sampling_params=wb.SamplingParams(max_tokens=60))
attribution = bench.attribution(asked)
attribution.wait()
changes = attribution.attribution.to_frame().drop(columns=["position", "text", "logprob"])
attribution.selected = int(changes.max(axis=1).idxmax())
attribution""",
    "attention-view": """\
looked = bench.attention(run)
looked.layer, looked.head = 3, 4
looked.position = len(looked.prompt) + 5 if looked.wait() else 0
looked.wait()
looked""",
    "edit-view": """\
question = bench.completion("The capital of France is", sampling_params=wb.SamplingParams(max_tokens=16))
question.result()
changed = bench.edit(question)
changed.wait()
changed.ablate("mlp", 20)
changed.ablate("head", 11, 1, method="mean", position=3)
changed.start()
changed.wait()
changed""",
    "sampling-waterfall": "wb.widgets.SamplingWaterfall(feed=feed)",
    "layers-view": """\
layers = wb.widgets.LayersView(feed=feed)
layers.wait()
layers""",
}
"""Code of a cell by the name of its picture; its last line is the widget."""

CLICKS = {"model-picker": ("Model card", "On this machine…")}
"""Buttons to press before the picture is taken, by scene."""
APPEARS = {"model-picker": ".wb-found li", "layers-view": ".wb-layers-words tr:nth-child(5)"}
"""What appears last, by scene."""

# Wide enough for the playground's two columns inside the notebook's margin.
WIDTH, HEIGHT = 1240, 2400
_SETTLED = """async () => {
  await document.fonts.ready;
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Take screenshots of the widgets.")
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"any of {', '.join(SCENES)} (default: all)")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images", metavar="FOLDER")
    parser.add_argument("--theme", default="JupyterLab Light")
    args = parser.parse_args()
    if unknown := set(args.scenes) - set(SCENES):
        parser.error(f"unknown scene: {', '.join(sorted(unknown))}")
    args.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, running_lab(Path(home)) as lab:
        take(lab, args.scenes or list(SCENES), args.into, args.theme)
    return 0


def take(lab: Lab, names: list[str], folder: Path, theme: str) -> None:
    """Run a notebook with a cell for each scene, and take a picture of each cell's widget."""
    (lab.root / "scenes.ipynb").write_text(json.dumps(_notebook([SETUP, *(SCENES[name] for name in names)])))
    with running_chromium() as browser:
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.5)
        notebook = NotebookPage(context.new_page(), lab, "scenes.ipynb")
        notebook.page.set_default_timeout(300_000)
        notebook.theme(theme)
        notebook.run_all()
        for number, name in enumerate(names, start=1):
            widget = notebook.page.locator(".jp-Cell").nth(number).locator(".wb-root").first
            widget.wait_for()
            notebook.python("None")  # returns after all cells have run
            for button in CLICKS.get(name, ()):
                widget.get_by_role("button", name=button).click()
            if name in APPEARS:
                widget.locator(APPEARS[name]).first.wait_for()
            widget.scroll_into_view_if_needed()
            notebook.page.mouse.move(0, 0)
            notebook.page.evaluate(_SETTLED)
            widget.screenshot(path=folder / f"{name}.png")
            print(folder / f"{name}.png", flush=True)


def _notebook(sources: list[str]) -> dict[str, object]:
    cells: list[dict[str, object]] = [
        {"cell_type": "code", "id": f"c{n}", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
        for n, source in enumerate(sources)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    raise SystemExit(main())
