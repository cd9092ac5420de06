// What is said of runs, tokens, chats, calls, bets and models.

import assert from "node:assert/strict";
import { test } from "node:test";

import { betInSentences, priceInWords, shares } from "../../workbench/widgets/static/bet_words.js";
import {
  removedInWords,
  startInWords,
  stepInWords,
  stepOf,
  summary,
} from "../../workbench/widgets/static/call_step_words.js";
import { callSteps, resultTitle } from "../../workbench/widgets/static/call_words.js";
import {
  answerFacts,
  chatInWords,
  contextInWords,
  isWorking,
  lastAsked,
  showsTokens,
} from "../../workbench/widgets/static/chat_words.js";
import { cardRows, downloadInWords, memoryInWords } from "../../workbench/widgets/static/model_facts.js";
import { perplexityOf, progressInWords, speed, stateInWords } from "../../workbench/widgets/static/run_words.js";
import {
  announcement,
  factsInWords,
  tokenExpression,
  tokenName,
  ranked,
  spoken,
  surprisals,
} from "../../workbench/widgets/static/token_words.js";
import { token, tokens } from "./tokens.js";

/**
 * @import { GamePage } from "../../workbench/widgets/static/bet_words.js"
 * @import { AnswerTurn, UserTurn } from "../../workbench/widgets/static/chat_words.js"
 * @import { Unit } from "../../workbench/widgets/static/format.js"
 * @import { PausedBy, Progress } from "../../workbench/widgets/static/run_wire.js"
 * @import { Card } from "../../workbench/widgets/static/model_facts.js"
 */

test("a run's state is told with its reason where there is one", () => {
  const said = (/** @type {string} */ state, /** @type {string | null} */ stopReason = null, pausedBy = null) =>
    stateInWords({ state, stopReason, pausedBy, unit: "bits" });
  assert.equal(said("queued"), "waiting for the model");
  assert.equal(said("finished", "out_of_tokens"), "length limit");
  assert.equal(said("finished", "something new"), "finished");
  assert.equal(said("cancelled", "end_of_turn"), "stopped by you");
  assert.equal(said("a state of tomorrow"), "a state of tomorrow");
  const paused = (/** @type {PausedBy} */ pausedBy, /** @type {Unit} */ unit = "bits") =>
    stateInWords({ state: "paused", stopReason: null, pausedBy, unit });
  assert.equal(paused(["tool_call", true]), "paused: a tool call begins");
  assert.equal(paused(["text", "\n"]), "paused: the text “⏎”");
  assert.equal(paused(["entropy_above", Math.LN2]), "paused: entropy above 1.00 bits");
  assert.equal(paused(["entropy_above", Math.LN2], "nats"), "paused: entropy above 0.69 nats");
  assert.equal(said("paused"), "paused");
});

test("before the first token it is said what goes on, how much of it and for how long", () => {
  const said = (/** @type {Progress | null} */ progress, what = "prompt", nowMs = 5_900) =>
    progressInWords({ progress, model: "tiny" }, what, nowMs);
  assert.equal(said(null), "Waiting for the model …");
  const loading = { stage: /** @type {const} */ ("loading"), done: null, total: 612_000_000, sinceMs: 1_000 };
  assert.equal(said(loading), "Loading tiny (about 612 MB of memory) … 4 s");
  assert.equal(said({ ...loading, total: null, sinceMs: 5_500 }), "Loading tiny …");
  const compiling = { ...loading, stage: /** @type {const} */ ("compiling"), total: null };
  assert.equal(said(compiling), "Compiling the engine for this processor (a minute or two, once) … 4 s");
  const reading = { ...loading, stage: /** @type {const} */ ("reading"), done: 0, total: 1_340 };
  assert.equal(said(reading), "Reading the prompt (1,340 tokens) …");
  assert.equal(said({ ...reading, done: 512 }, "text"), "Reading the text: 512 of 1,340 tokens …");
  const state = (/** @type {Progress | null} */ progress) =>
    stateInWords({ state: "running", stopReason: null, pausedBy: null, unit: "bits", progress });
  assert.deepEqual([loading, compiling, reading, null].map(state), [
    "loading the model",
    "compiling the engine",
    "reading the prompt",
    "running",
  ]);
});

test("perplexity is the inverse geometric mean of what is known", () => {
  assert.equal(perplexityOf([]), null);
  assert.equal(perplexityOf(tokens(null, null)), null);
  assert.ok(Math.abs(/** @type {number} */ (perplexityOf(tokens(Math.log(0.5), null, Math.log(0.125)))) - 4) < 1e-12);
  assert.deepEqual([speed(9.94), speed(10), speed(10.2)], ["9.9", "10", "10"]);
});

test("the sampled token and its alternatives stand in the order of their probability", () => {
  const others = [
    { id: 1, label: " b", logprob: -0.2, rank: 1 },
    { id: 2, label: " c", logprob: null, rank: 0 },
  ];
  const candidates = ranked(token({ id: 7, logprob: -2 }), others);
  assert.deepEqual(
    candidates.map(({ id, isSelf }) => [id, isSelf]),
    [
      [1, false],
      [7, true],
      [2, false],
    ],
  );
  assert.equal(candidates[2].probability, 0);
});

test("the most surprising tokens come first, and certain ones are none", () => {
  const { mean, worst } = surprisals(tokens(-Math.LN2, 0, -3 * Math.LN2, null), 2);
  assert.deepEqual(worst, [
    { position: 2, nats: 3 * Math.LN2 },
    { position: 0, nats: Math.LN2 },
  ]);
  assert.equal(mean, Math.LN2);
  assert.deepEqual(surprisals(tokens(0, null), 6).worst, []);
});

test("a token is told with what is known of it", () => {
  assert.equal(
    factsInWords(token({ logprob: -Math.LN2, entropy: Math.LN2, rank: 2 }), "bits"),
    "50.0 %, rank 2, 1.0 bits, entropy 1.0 bits",
  );
  assert.equal(
    factsInWords(token({ logprob: -Math.LN2, entropy: Math.LN2, rank: 2 }), "nats"),
    "50.0 %, rank 2, 0.7 nats, entropy 0.7 nats",
  );
  assert.equal(factsInWords(token({ logprob: -Math.LN2, entropy: null, rank: 0 }), "bits"), "50.0 %, 1.0 bits");
  assert.equal(factsInWords(token({ logprob: null, entropy: null }), "bits"), "probability unknown");
  assert.deepEqual([spoken({ label: " a" }), spoken({ label: " \n" })], ["a", "␣⏎"]);
  const run = { tokens: tokens(0, 0), steps: tokens(0, 0, -Math.LN2), forks: [1], unit: /** @type {Unit} */ ("bits") };
  assert.match(announcement(run, 0), /^Token 1 of 2: t0\. 100 %, rank 1, 0\.0 bits, entropy 2\.9 bits\.$/);
  assert.ok(announcement(run, 1).endsWith(" Branches fork here."));
  assert.ok(announcement(run, 2).startsWith("End token, after 2 tokens: t2. 50.0 %"));
  assert.equal(tokenName({ tokens: tokens(0) }, 1), "End token, after 1 token");
  assert.deepEqual(
    [0, 1, 2].map((position) => tokenExpression(run, position)),
    ["run.tokens[0]", "run.tokens[1]", "run.end"],
  );
});

/** @param {Partial<AnswerTurn>} facts @returns {AnswerTurn} */
function answer(facts = {}) {
  return {
    role: "assistant",
    turn: 0,
    version: null,
    text: "",
    run: "r1",
    model: "m",
    state: "finished",
    stop_reason: "end_of_turn",
    generated: 12,
    tokens_per_s: 20.4,
    notes: [],
    error: null,
    refused_by: null,
    calls: [],
    ...facts,
  };
}

test("an answer is told by its length, its speed and what cut it short", () => {
  assert.equal(answerFacts(answer()), "12 tokens · 20 tokens/s");
  assert.equal(answerFacts(answer({ stop_reason: "out_of_tokens", tokens_per_s: null })), "12 tokens · length limit");
  assert.equal(answerFacts(answer({ state: "cancelled" })), "12 tokens · 20 tokens/s · stopped by you");
  const refused = answer({ state: "failed", refused_by: "content_guard" });
  assert.equal(answerFacts(refused), "12 tokens · 20 tokens/s · refused by content_guard");
  assert.equal(answerFacts(answer({ state: "running" })), "");
});

test("a chat says who is to move", () => {
  /** @type {UserTurn} */ const asked = { role: "user", text: "Hi", turn: 0 };
  const open = {
    status: /** @type {const} */ ("success"),
    text: "",
    name: "get",
    arguments: "{}",
    state: /** @type {const} */ ("waiting"),
  };
  const calls = [open, { ...open, name: "put", state: /** @type {const} */ ("ran") }];
  assert.equal(chatInWords("idle", []), "");
  assert.equal(chatInWords("answering", [asked]), "The model is answering.");
  assert.equal(chatInWords("deciding", [asked, answer({ calls })]), "The model wants to call get. Approve or decline.");
  assert.equal(chatInWords("idle", [asked, answer()]), "Answer finished, 12 tokens.");
  assert.equal(chatInWords("idle", [asked, answer({ state: "failed" })]), "The answer failed, 12 tokens.");
  const refused = answer({ state: "failed", refused_by: "content_guard" });
  assert.equal(chatInWords("idle", [asked, refused]), "Refused by the shield content_guard, 12 tokens.");
  assert.equal(chatInWords("idle", [answer(), asked]), "");
  assert.deepEqual([lastAsked([asked, answer()]), lastAsked([answer()])], [asked, undefined]);
  assert.deepEqual(/** @type {const} */ (["idle", "answering", "deciding", "calling"]).map(isWorking), [
    false,
    true,
    false,
    true,
  ]);
});

test("what became of a call is told apart from how far it was parsed", () => {
  const said = (/** @type {Parameters<typeof callSteps>} */ ...call) =>
    callSteps(...call).map(({ text, isReached, isCurrent }) =>
      isCurrent ? `[${text}]` : isReached ? text : `(${text})`,
    );
  assert.deepEqual(said("started", null), ["[started]", "(in progress)", "(parsed)"]);
  assert.deepEqual(said("in_progress", null), ["started", "[in progress]", "(parsed)"]);
  assert.deepEqual(said("success", null), ["started", "in progress", "[parsed]"]);
  assert.deepEqual(said("failure", null), ["started", "in progress", "[not parsed]"]);
  const ends = /** @type {const} */ (["waiting", "running", "ran", "declined", "failed", "stopped"]);
  assert.deepEqual(
    ends.map((state) => said("success", state)),
    ["waiting for you", "running", "ran", "declined", "failed", "stopped"].map((text) => ["parsed", `[${text}]`]),
  );
  assert.deepEqual(new Set(ends.map(resultTitle)).size, 4);
});

test("an answer is drawn as tokens while it is written, and as its reader has chosen after that", () => {
  const views = /** @type {const} */ (["auto", "reading", "tokens"]);
  assert.deepEqual(
    views.map((view) => showsTokens(view, true)),
    [true, false, true],
  );
  assert.deepEqual(
    views.map((view) => showsTokens(view, false)),
    [false, false, true],
  );
});

test("the context is told in tokens, with a warning when little is left", () => {
  assert.deepEqual(contextInWords({ used: 0, length: 8192 }), { text: "", isTight: false });
  assert.deepEqual(contextInWords({ used: 1234, length: 8192 }), { text: "1,234 of 8,192 tokens", isTight: false });
  assert.deepEqual(contextInWords({ used: 1234, length: null }), { text: "1,234 tokens", isTight: false });
  assert.deepEqual(contextInWords({ used: 80, length: 100 }), {
    text: "80 of 100 tokens. Only 20 left",
    isTight: true,
  });
  assert.match(contextInWords({ used: 120, length: 100 }).text, /Only 0 left$/);
});

test("the steps of calls are told one by one and together", () => {
  const steps = [
    stepOf(["a", 0.25, true, "text", 0, false]),
    stepOf(["<", 0.5, false, "started", 0, false]),
    stepOf(["{", null, true, "in_progress", 0.75, true]),
    stepOf(["}", null, true, "success", 0, true]),
  ];
  assert.equal(summary(steps), "4 tokens: 1 complete call. The schema left no choice at 2 of them.");
  assert.equal(
    summary([...steps, stepOf(["x", null, true, "failure", 0, false])]),
    "5 tokens: 1 complete call, 1 that could not be parsed. The schema left no choice at 2 of them.",
  );
  assert.equal(summary([]), "0 tokens: 0 complete calls. The schema left no choice at 0 of them.");
  assert.equal(stepInWords(steps[1], 1), "Token 2, <, call started, probability of a call ≥ 50.0 %.");
  assert.equal(
    stepInWords(steps[2], 2),
    "Token 3, {, call in progress, the schema removed 75.0 %, and left no choice.",
  );
  assert.deepEqual(steps.map(startInWords), ["25.0 %", "≥ 50.0 %", "–", "–"]);
  assert.deepEqual(steps.map(removedInWords), ["–", "–", "75.0 %, no choice left", "–, no choice left"]);
});

test("a bet shares out one whole, and costs what it says", () => {
  for (let count = 2; count <= 9; count += 1) {
    for (const confidence of [0.3, 0.6, 0.99]) {
      for (let chosen = -1; chosen < count; chosen += 1) {
        const given = shares(count, chosen, confidence);
        assert.ok(Math.abs(given.reduce((sum, share) => sum + share, 0) - 1) < 1e-12);
        if (chosen >= 0) assert.equal(given[chosen], confidence);
      }
    }
  }
  assert.equal(priceInWords(2, 0.5), "50 %: 1.0 bits if you are right, 1.0 if not");
  const page = /** @type {GamePage} */ ({ choices: ["a", "b"], told: null, bits: 1, model_bits: 2 });
  assert.equal(betInSentences(page, false), "");
  const told = { ...page, told: { came: 1, bet: [0.5, 0.5], model: [0.75, 0.25] } };
  const said = "“b” came next. You gave it 50.0 % (1.0 bits), the model 25.0 % (2.0 bits).";
  assert.equal(betInSentences(told, false), said);
  assert.equal(betInSentences(told, true), `${said} The game is over. You beat the model.`);
  assert.equal(betInSentences({ ...told, bits: 2 }, true), `${said} The game is over. The model won.`);
});

test("a download is told in bytes of all files", () => {
  assert.equal(downloadInWords({}), "");
  assert.equal(downloadInWords({ stage: "download", done: 120e6, total: 2.25e9 }), "120 MB of 2.3 GB downloaded");
  assert.equal(downloadInWords({ stage: "wait", done: 0, total: null }), "waiting for another download of this model");
});

test("a model's card leaves out what nobody knows", () => {
  /** @type {Card} */
  const card = {
    value: "m",
    identifier: "m",
    provider_id: "local",
    provider_type: "inline::transformers",
    source: "m",
    kind: "llm",
    architecture: null,
    parameters: null,
    precision: null,
    device: null,
    context_length: null,
    has_chat_template: false,
    template_sha256: null,
    tool_syntax: null,
    licence: null,
    loaded: false,
    memory_bytes: null,
    predicted_memory_bytes: null,
    memory_limit_bytes: null,
  };
  assert.deepEqual(cardRows(card), [
    { term: "Provider", value: "local (inline::transformers)" },
    { term: "Source", value: "m" },
    { term: "Chat template", value: "no" },
    { term: "Memory now", value: "not loaded" },
  ]);
  const known = {
    ...card,
    parameters: 134_515_008,
    context_length: 8192,
    template_sha256: "0123456789abcdef",
    tool_syntax: "tool_prompt_format",
  };
  assert.deepEqual(
    cardRows(known)
      .map(({ value }) => value)
      .slice(2, 6),
    ["134,515,008", "8,192 tokens", "SHA-256 0123456789ab", "per request"],
  );
  const adapted = { ...card, adapter: "/adapters/mine", adapter_rank: 8, adapted_layers: 30 };
  assert.deepEqual(cardRows(adapted)[2], { term: "Adapter", value: "/adapters/mine (rank 8, 30 matrices)" });
  assert.equal(cardRows({ ...adapted, adapted_layers: 1 })[2].value, "/adapters/mine (rank 8, 1 matrix)");
  assert.equal(cardRows({ ...adapted, adapter_rank: 0, adapted_layers: 0 })[2].value, "/adapters/mine");
  const proof = {
    dtype: "bfloat16",
    kl: 0.0000021234,
    argmax_equal: true,
    tokens_per_second: 309.6,
    cpu_tokens_per_second: 90,
    notes: [],
  };
  assert.deepEqual(cardRows({ ...card, notes: ["chunks is off", "no template"] }).at(-1), {
    term: "Notes",
    value: "chunks is off; no template",
  });
  assert.deepEqual(cardRows({ ...card, notes: [] }), cardRows(card));
  const onDevice = { ...card, device: "cuda:0", device_why: "NVIDIA T4, the first CUDA device", device_proof: proof };
  assert.deepEqual(cardRows(onDevice).slice(2, 4), [
    { term: "Device", value: "cuda:0 (NVIDIA T4, the first CUDA device)" },
    {
      term: "Device beside the CPU",
      value:
        "bfloat16: the same most probable tokens as float32, KL divergence 0.0000021 nat; 310 tokens/s, the CPU 90",
    },
  ]);
  const slow = { ...proof, argmax_equal: false, notes: ["the CPU is faster"] };
  const [, , device, beside] = cardRows({ ...onDevice, device_why: null, device_proof: slow });
  assert.equal(device.value, "cuda:0");
  assert.match(beside.value, /other most probable tokens .*; the CPU is faster$/);
  assert.equal(memoryInWords(card), null);
  const memory = { predicted_memory_bytes: 600e6, memory_limit_bytes: 2e9, memory_bytes: 500e6 };
  assert.deepEqual(memoryInWords({ ...card, ...memory }), ["about ", "600 MB", " of 2 GB when loaded"]);
  assert.deepEqual(memoryInWords({ ...card, ...memory, loaded: true }), ["", "500 MB", " of 2 GB"]);
});
