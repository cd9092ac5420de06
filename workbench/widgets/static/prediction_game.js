// A round of the prediction game: choose what comes, say how sure you are, and see what it costs.

import { requester } from "./asking.js";
import { h, keepKeys, uniqueId } from "./dom.js";
import { fixed, percent } from "./format.js";

/**
 * @typedef {object} Told  what is known after the bet
 * @property {number} came  index of the choice that came
 * @property {number[]} bet  the player's probability of each choice
 * @property {number[]} model  the model's
 *
 * @typedef {object} GamePage
 * @property {number} number  of the round that is shown, from 1 on
 * @property {number} of
 * @property {number} played
 * @property {string} context
 * @property {string[]} choices
 * @property {Told | null} told  null before the bet
 * @property {number} bits  paid so far by the player
 * @property {number} model_bits
 * @property {number} even_bits
 *
 * @typedef {object} State of the widget model
 * @property {GamePage} page
 *
 * Messages to the kernel: `{kind: "bet", id, number, choice, confidence}`, `{kind: "next", id}` and
 * `{kind: "again", id}`; each is answered by `{kind: "reply", id, error}`.
 */

const SURE = 0.6;

/** @param {{model: any, el: HTMLElement, signal: AbortSignal}} context */
function render({ model, el, signal }) {
  el.classList.add("wb-root", "wb-game");
  keepKeys(el);
  const title = h("h3");
  const scores = h("p", { class: "wb-game-scores wb-number" });
  const text = h("p", { class: "wb-game-text", dir: "auto" });
  const said = h("p", { class: "wb-game-said wb-number", role: "status" });
  const message = h("p", { class: "wb-message", role: "alert", hidden: true });
  const ask = requester(model, signal, (error) => {
    message.textContent = error ?? "";
    message.hidden = !error;
  });
  const form = betForm(model, ask);
  el.append(h("div", { class: "wb-game-head" }, title, scores), text, form.root, said, message);

  const show = () => {
    const page = /** @type {GamePage} */ (model.get("page"));
    const isOver = page.told !== null && page.played === page.of;
    el.setAttribute("data-wb-state", isOver ? "over" : page.told ? "told" : "open");
    el.setAttribute("data-wb-round", String(page.number));
    title.textContent = `Round ${page.number} of ${page.of}`;
    scores.replaceChildren(...scoreParts(page));
    text.replaceChildren(page.context, gap(page));
    said.textContent = page.told ? inSentences(page, isOver) : "";
    form.show(page, isOver);
  };
  model.on("change:page", show);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {GamePage} page */
function scoreParts(page) {
  const parts = [
    ["You", page.bits],
    ["Model", page.model_bits],
    ["Even bets", page.even_bits],
  ];
  return parts.map(([name, bits]) =>
    h("span", {}, `${name} `, h("b", { text: fixed(/** @type {number} */ (bits), 1) }), " bits"),
  );
}

/** Where the token will stand; then the token. @param {GamePage} page */
function gap(page) {
  if (!page.told) return h("span", { class: "wb-game-gap", role: "img", "aria-label": " (what comes here?)" });
  return h("mark", { class: "wb-game-came", text: ` ${page.choices[page.told.came]}` });
}

/** @param {GamePage} page @param {boolean} isOver */
function inSentences(page, isOver) {
  const { came, bet, model } = /** @type {Told} */ (page.told);
  const cost = (/** @type {number[]} */ shares) =>
    `${percent(shares[came])}, ${fixed(Math.log2(1 / shares[came]), 1)} bits`;
  const told = `“${page.choices[came]}” came. You had given it ${cost(bet)}; the model ${cost(model)}.`;
  if (!isOver) return told;
  const best = page.bits < page.model_bits ? "You have beaten the model." : "The model was the better gambler.";
  return `${told} The game is over. ${best}`;
}

/** @param {any} model @param {(content: any) => void} ask */
function betForm(model, ask) {
  const name = uniqueId("choice");
  const list = h("div", { class: "wb-game-choices", role: "radiogroup", "aria-label": "What comes next?" });
  const sure = h("input", { type: "range", class: "wb-game-sure", id: uniqueId("sure"), step: 0.01, max: 0.99 });
  const price = h("output", { class: "wb-number wb-quiet", for: sure.id });
  const button = h("button", { type: "submit", class: "wb-button wb-primary" });
  const hint = h("span", {
    class: "wb-quiet wb-game-hint",
    text: "Digits choose, arrow keys change how sure you are, Enter bets.",
  });
  const slider = h(
    "div",
    { class: "wb-game-slider" },
    h("label", { for: sure.id, text: "How sure are you?" }),
    sure,
    price,
  );
  const root = h("form", { class: "wb-game-form" }, list, slider, h("div", { class: "wb-game-foot" }, button, hint));
  /** @type {ReturnType<typeof choiceRow>[]} */ let rows = [];
  /** @type {GamePage} */ let page = model.get("page");
  let chosen = -1;
  let drawn = -1;

  const draw = () => {
    const confidence = Number(sure.value);
    const others = (1 - confidence) / (rows.length - 1);
    const mine =
      page.told?.bet ?? rows.map((_, i) => (chosen < 0 ? 1 / rows.length : i === chosen ? confidence : others));
    rows.forEach((row, i) =>
      row.show(mine[i], page.told ? page.told.model[i] : null, page.told?.came === i, i === chosen),
    );
    const costs = `${fixed(Math.log2(1 / confidence), 1)} bits if you are right, ${fixed(Math.log2(1 / others), 1)} if not`;
    price.textContent = `${Math.round(100 * confidence)} %: ${costs}`;
    sure.setAttribute("aria-valuetext", price.textContent);
    button.disabled = !page.told && chosen < 0;
  };
  const choose = (/** @type {number} */ index) => {
    if (page.told || !rows[index]) return;
    chosen = index;
    rows[index].input.checked = true;
    draw();
  };
  sure.addEventListener("input", draw);
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !/^[1-9]$/.test(event.key)) return;
    choose(Number(event.key) - 1);
    if (chosen >= 0 && document.activeElement !== sure) rows[chosen].input.focus();
    event.preventDefault();
  });
  root.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!page.told) ask({ kind: "bet", number: page.number, choice: chosen, confidence: Number(sure.value) });
    else ask({ kind: page.played === page.of ? "again" : "next" });
  });

  const show = (/** @type {GamePage} */ fresh, /** @type {boolean} */ isOver) => {
    page = fresh;
    const had = root.contains(document.activeElement);
    if (drawn !== page.number || (!page.told && !rows.some((row) => row.input.checked))) {
      drawn = page.number;
      chosen = -1;
      rows = page.choices.map((text, i) => choiceRow(text, i, name, choose));
      list.replaceChildren(...rows.map((row) => row.root));
      sure.min = String(Math.ceil(100 / rows.length) / 100);
      sure.value = String(SURE);
    }
    for (const row of rows) row.input.disabled = Boolean(page.told);
    slider.hidden = hint.hidden = Boolean(page.told);
    button.textContent = page.told ? (isOver ? "Play again" : "Next") : "Bet";
    draw();
    // The keyboard stays in the game: what had the focus may be disabled or gone now.
    if (had) (page.told ? button : rows[0].input).focus();
  };
  return { root, show };
}

/** @param {string} text @param {number} index @param {string} name @param {(index: number) => void} choose */
function choiceRow(text, index, name, choose) {
  const input = h("input", { type: "radio", name, value: index, on: { change: () => choose(index) } });
  const you = bar("wb-game-you");
  const model = bar("wb-game-model");
  const mark = h("span", { class: "wb-game-mark" });
  const label = h(
    "span",
    { class: "wb-game-name" },
    h("kbd", { text: String(index + 1), "aria-hidden": "true" }),
    h("code", { text }),
    mark,
  );
  const root = h(
    "label",
    { class: "wb-game-choice" },
    input,
    label,
    h("span", { class: "wb-game-bars" }, you.root, model.root),
  );
  return {
    root,
    input,
    /** @param {number} mine @param {number | null} its @param {boolean} came @param {boolean} isChosen */
    show(mine, its, came, isChosen) {
      you.show("you", mine);
      model.root.hidden = its === null;
      if (its !== null) model.show("model", its);
      mark.textContent = came ? "came" : "";
      root.classList.toggle("wb-game-right", came);
      root.classList.toggle("wb-game-chosen", isChosen);
    },
  };
}

/** @param {string} kind */
function bar(kind) {
  const fill = h("span", { class: "wb-fill" });
  const said = h("span", { class: "wb-game-share wb-number" });
  const root = h(
    "span",
    { class: `wb-game-bar ${kind}` },
    h("span", { class: "wb-track", "aria-hidden": "true" }, fill),
    said,
  );
  return {
    root,
    /** @param {string} who @param {number} share */
    show(who, share) {
      fill.style.width = `${100 * share}%`;
      said.textContent = `${who} ${percent(share)}`;
    },
  };
}

export default { render };
