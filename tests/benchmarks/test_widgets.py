"""What watching costs: messages and bytes of a long stream, the model's speed beside it, and the browser's frames."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

import workbench as wb
from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import running_chromium
from tests.unit.widgets.fake_session import FakeRun, FakeSession
from tests.unit.widgets.recorded_page import Page, recorded_page
from workbench.widgets import Playground
from workbench.widgets.contract import RunLike

ROUNDS = 7
PROMPT = "Once upon a time there was a lighthouse keeper who"
LONG = wb.SamplingParams(strategy=wb.SamplingStrategy.top_p, temperature=1.2, top_p=1.0, seed=2, max_tokens=1000)
SHORT = LONG.model_copy(update={"max_tokens": 256})
LONG_RUN = 5_000
LONGEST_TASK_MS = 50  # below it the browser itself reports none


@pytest.fixture
def page() -> Iterator[Page]:
    with recorded_page() as shown:
        yield shown


@pytest.fixture
def browser() -> Iterator[Browser]:
    with running_chromium() as started:
        yield started


def tokens_per_s(run: RunLike) -> float:
    assert run.wait(120)
    speed = run.usage.decode_tokens_per_s
    assert speed is not None
    return speed


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("smollm2_path")
def test_a_thousand_tokens_are_few_messages_and_take_no_speed_from_the_model(page: Page) -> None:
    with wb.Workbench() as bench:
        playground = Playground(bench, prompt=PROMPT, mode="completion", sampling_params=LONG)
        before = len(page.messages)
        run = playground.start()
        assert run.wait(300)
        assert playground.feed.wait(60)
        sent = [data for _, _, data in page.messages[before:]]
        seconds = run.tokens[-1].elapsed_s
        size = sum(len(json.dumps(data, ensure_ascii=False).encode()) for data in sent)
        print(
            f"\n{len(run.tokens)} tokens in {seconds:.1f} s: {len(sent)} messages, {len(sent) / seconds:.1f} a second, "
            f"{size / 1e3:.0f} KB"
        )
        playground.sampling_params = SHORT
        logprobs = wb.LogProbConfig(top_k=5)
        ratios = []
        for _ in range(ROUNDS):
            alone = tokens_per_s(bench.completion(PROMPT, sampling_params=SHORT, logprobs=logprobs))
            watched = tokens_per_s(playground.start())
            assert playground.feed.wait(60)
            ratios.append(watched / alone)
        playground.close()
    print(f"tokens a second with the playground against without: {statistics.median(ratios):.3f} {sorted(ratios)}")
    assert len(run.tokens) == LONG.max_tokens
    assert len(sent) / seconds < 30
    assert size < 150_000
    assert statistics.median(ratios) >= 0.95


@pytest.mark.timeout(300)
def test_a_result_of_five_thousand_tokens_scrolls_and_is_walked_without_a_long_frame(
    page: Page, browser: Browser
) -> None:
    run = FakeRun(texts=[f" word{i % 97}" for i in range(LONG_RUN)])
    playground = Playground(FakeSession())
    playground.feed.follow(run)
    run.step(LONG_RUN)
    run.finish()
    assert playground.feed.wait(60)
    host = ModuleHost(browser.new_page(viewport={"width": 1090, "height": 900}), page)
    host.show(playground)
    host.wait(f"document.querySelectorAll('.wb-output [data-wb-position]').length === {LONG_RUN}", timeout_s=60)
    host.wait("document.querySelectorAll('.wb-table [role=row], .wb-table tr').length > 5", timeout_s=60)
    found = host.browser.evaluate(
        """async () => {
          const frame = () => new Promise(requestAnimationFrame);
          for (let i = 0; i < 30; i += 1) await frame();  // what showing it has left to do
          const tasks = [];
          const heard = (list) => tasks.push(...list.getEntries().map((one) => one.duration));
          const observer = new PerformanceObserver(heard);
          observer.observe({ type: "longtask" });
          const output = document.querySelector(".wb-output");
          const scroller = document.querySelector(".wb-scroller");
          for (const box of [output, scroller])
            for (let i = 0; i <= 100; i += 1) {
              box.scrollTop = (box.scrollHeight - box.clientHeight) * i / 100;
              await frame();
            }
          output.focus();
          let gap = 0, last = performance.now();
          for (let i = 0; i < 200; i += 1) {
            const key = i % 50 === 49 ? (i % 100 === 49 ? "End" : "Home") : "ArrowRight";
            output.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
            await frame();
            gap = Math.max(gap, performance.now() - last);
            last = performance.now();
          }
          await frame();
          return { tasks, gap, selected: document.querySelectorAll(".wb-output .wb-selected").length };
        }"""
    )
    print(
        f"\n{LONG_RUN} tokens: tasks over 50 ms: {found['tasks']}; "
        f"longest time between two frames {found['gap']:.0f} ms"
    )
    assert found["selected"] == 1
    assert [task for task in found["tasks"] if task > LONGEST_TASK_MS] == []
