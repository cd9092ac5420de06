// The prediction game: in each round choose the next token, set the confidence, and see the cost.

import { requester } from "./asking.js";
import { betInSentences, priceInWords, shares } from "./bet_words.js";
import { h, uniqueId } from "./dom.js";
import { errorLine } from "./error_line.js";
import { fixed, percent } from "./format.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 * @import { GamePage } from "./bet_words.js"
 *
 * @typedef {object} State of the widget model
 * @property {GamePage} page
 *
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel: `{kind: "bet", id, number, choice, confidence}`, `{kind: "next", id}` and
 * `{kind: "again", id}`; each is answered by `{kind: "reply", id, error}`.
 */

const SURE = 0.6;

/** @param {RenderProps<State>} context */
function render({ model, el, signal }) {
  openRoot({ model, el, signal }, "wb-game");
  const title = h("h3");
  const scores = h("p", { class: "wb-game-scores wb-number" });
  const text = h("p", { class: "wb-game-text", dir: "auto" });
  const said = h("p", { class: "wb-game-said wb-number", role: "status" });
  const message = errorLine();
  const ask = requester(model, signal, message.show);
  const form = betForm(model, ask);
  // A click on its text focuses the game, so that its keys work.
  el.tabIndex = -1;
  el.addEventListener("keydown", form.press);
  el.append(h("div", { class: "wb-game-head" }, title, scores), text, form.root, said, message.root);

  const show = () => {
    const page = model.get("page");
    const isOver = page.told !== null && page.played === page.of;
    el.setAttribute("data-wb-state", isOver ? "over" : page.told ? "told" : "open");
    el.setAttribute("data-wb-round", String(page.number));
    title.textContent = `Round ${page.number} of ${page.of}`;
    scores.replaceChildren(...scoreParts(page));
    text.replaceChildren(page.context, gap(page));
    said.textContent = betInSentences(page, isOver);
    form.show(page, isOver);
  };
  model.on("change:page", show);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {GamePage} page */
function scoreParts(page) {
  /** @type {[string, number][]} */
  const parts = [
    ["You", page.bits],
    ["Model", page.model_bits],
    ["Even bets", page.even_bits],
  ];
  return parts.map(([name, bits]) => h("span", {}, `${name} `, h("b", { text: fixed(bits, 1) }), " bits"));
}

/** The gap for the token, and after the bet the token. @param {GamePage} page */
function gap(page) {
  if (!page.told) return h("span", { class: "wb-game-gap", role: "img", "aria-label": " (what comes here?)" });
  return h("mark", { class: "wb-game-came", text: ` ${page.choices[page.told.came]}` });
}

/** @param {Model} model @param {Ask} ask */
function betForm(model, ask) {
  const name = uniqueId("choice");
  const list = h("div", { class: "wb-game-choices", role: "radiogroup", "aria-label": "What comes next?" });
  const sure = h("input", { type: "range", class: "wb-game-sure", id: uniqueId("sure"), step: 0.01, max: 0.99 });
  const price = h("output", { class: "wb-number wb-quiet", for: sure.id });
  const button = h("button", { type: "submit", class: "wb-button wb-primary" });
  const hint = h("span", {
    class: "wb-quiet wb-game-hint",
    text: "Digits choose, ← and → set how sure you are, Enter bets.",
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
  let page = model.get("page");
  let chosen = -1;
  let drawn = -1;

  const draw = () => {
    const confidence = Number(sure.value);
    const mine = page.told?.bet ?? shares(rows.length, chosen, confidence);
    rows.forEach((row, i) =>
      row.show(mine[i], page.told ? page.told.model[i] : null, page.told?.came === i, i === chosen),
    );
    price.textContent = priceInWords(rows.length, confidence);
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
  const press = (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (/^[1-9]$/.test(event.key)) {
      choose(Number(event.key) - 1);
      if (chosen >= 0 && document.activeElement !== sure) rows[chosen].input.focus();
    } else if (/^Arrow(Left|Right)$/.test(event.key) && event.target !== sure && !page.told) {
      // On the choices too, where browsers would select another one; the up and down keys do that.
      if (event.key === "ArrowRight") sure.stepUp();
      else sure.stepDown();
      draw();
    } else if (event.key === "Enter" && !root.contains(/** @type {Node} */ (event.target)) && !button.disabled) {
      root.requestSubmit();
    } else return;
    event.preventDefault();
  };
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
    // The focus stays in the game, although the focused control may be disabled or removed.
    if (had) (page.told ? button : rows[0].input).focus();
  };
  return { root, show, press };
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
      mark.textContent = came ? "came next" : "";
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
