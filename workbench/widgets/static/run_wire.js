// What the kernel tells of a run, as wire/run.py writes it, and what the page makes of it.

/**
 * @typedef {object} Token
 * @property {number} id
 * @property {string} label  the token decoded alone
 * @property {number | null} logprob  in nats
 * @property {number} rank
 * @property {number | null} entropy  in nats
 * @property {boolean} special
 * @property {string} piece  the characters that it adds to the text
 *
 * @typedef {{id: number, label: string, logprob: number | null, rank: number}} Alternative
 *
 * @typedef {object} Usage
 * @property {number} prompt
 * @property {number} reused
 * @property {number} generated
 * @property {number | null} firstTokenS
 * @property {number | null} tokensPerS
 * @property {number} kept  tokens of another run with which a branch begins
 *
 * @typedef {object} Call  a tool call that the model has begun
 * @property {"started" | "in_progress" | "success" | "failure"} status
 * @property {string} text  as far as it is written
 * @property {string | null} name  once it is read
 * @property {string | null} args  as JSON, once it is read
 *
 * @typedef {"idle" | "queued" | "running" | "paused" | "finished" | "cancelled" | "failed" | "unfinished"} RunState
 *
 * @typedef {["entropy_above", number] | ["text", string] | ["tool_call", true]} PausedBy  a breakpoint, entropy in nats
 *
 * @typedef {object} Progress  before the first token
 * @property {"loading" | "reading"} stage
 * @property {number | null} done  tokens of the prompt; null where nobody counts
 * @property {number | null} total  bytes of memory, or tokens
 * @property {number} sinceMs  by the clock of the page
 *
 * What crosses the wire, as wire/run.py writes it:
 * @typedef {[Progress["stage"], number | null, number | null, number]} WireProgress
 * @typedef {[number, string, number | null, number, number | null, (0 | 1)?, string?]} WireToken
 * @typedef {[number, string, number | null, number]} WireAlternative
 * @typedef {[number, number, number, number | null, number | null, number?]} WireUsage
 * @typedef {[Call["status"], string, string?, string?]} WireCall
 *
 * @typedef {object} Snapshot
 * @property {string | null} run
 * @property {string} [model]
 * @property {RunState} state
 * @property {number} sequence
 * @property {WireToken[]} tokens
 * @property {WireToken | null} [end]  the end token that the model chose
 * @property {WireUsage | null} usage
 * @property {WireCall[]} [calls]
 * @property {string} [text]
 * @property {string | null} [stop_reason]
 * @property {string | null} [error]
 * @property {boolean} [can_pause]
 * @property {WireProgress | null} [progress]
 * @property {boolean} [reads]  the tokens are those of a text that was read
 * @property {WireToken[]} [prompt]  where it was measured
 * @property {PausedBy} [paused_by]
 * @property {(WireAlternative[] | null)[]} [alternatives]  only in a page, which saves them with its notebook
 *
 * @typedef {object} Delta
 * @property {"delta"} kind
 * @property {[string, number, number, WireToken[], number | null]} news  run, sequence, place, tokens, tokens a second
 * @property {WireUsage} [usage]
 * @property {RunState} [state]
 * @property {[number, ...WireCall][]} [calls]  each with its place, and its new text alone
 * @property {PausedBy} [paused_by]
 * @property {WireProgress} [progress]
 * @property {WireToken[]} [prompt]  once, when it was measured
 *
 * @typedef {Snapshot & {kind: "end", at: number}} End  `tokens` from position `at` on
 * @typedef {{kind: "alternatives", run?: string, from: number, items: WireAlternative[][], error?: string}} Alternatives
 * @typedef {Delta | End | Alternatives | {kind: "snapshot", snapshot: Snapshot}} Message
 */

/** @param {WireProgress | null | undefined} wire @returns {Progress | null} */
export function progressOf(wire) {
  return wire ? { stage: wire[0], done: wire[1], total: wire[2], sinceMs: Date.now() - 1000 * wire[3] } : null;
}

/** @param {WireToken} wire @returns {Token} */
export function tokenOf([id, label, logprob, rank, entropy, special = 0, piece = label]) {
  return { id, label, logprob, rank, entropy, special: special === 1, piece };
}

/** @param {WireAlternative} wire @returns {Alternative} */
export function alternativeOf([id, label, logprob, rank]) {
  return { id, label, logprob, rank };
}

/** @param {WireCall} wire @returns {Call} */
export function callOf([status, text, name, args]) {
  return { status, text, name: name ?? null, args: args ?? null };
}

/** @param {WireUsage | null} wire @returns {Usage | null} */
export function usageOf(wire) {
  if (!wire) return null;
  const [prompt, reused, generated, firstTokenS, tokensPerS, kept = 0] = wire;
  return { prompt, reused, generated, firstTokenS, tokensPerS, kept };
}
