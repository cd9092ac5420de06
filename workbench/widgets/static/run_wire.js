// The wire form of a run, which wire/run.py writes, and its decoded form in the page.

/**
 * @typedef {object} Token
 * @property {number} id
 * @property {string} label  the token decoded alone
 * @property {number | null} logprob  in nats
 * @property {number} rank
 * @property {number | null} entropy  in nats
 * @property {boolean} special
 * @property {string} piece  the characters that the token adds to the text
 *
 * @typedef {{id: number, label: string, logprob: number | null, rank: number}} Alternative
 *
 * @typedef {object} Usage
 * @property {number} prompt
 * @property {number} reused
 * @property {number} generated
 * @property {number | null} firstTokenS
 * @property {number | null} tokensPerS
 * @property {number} kept  tokens that a branch keeps of another run
 *
 * @typedef {object} Call  a tool call that the model has begun
 * @property {"started" | "in_progress" | "success" | "failure"} status
 * @property {string} text  its text so far
 * @property {string | null} name  once it is parsed
 * @property {string | null} args  as JSON, once the call is parsed
 *
 * @typedef {"idle" | "queued" | "running" | "paused" | "finished" | "cancelled" | "failed" | "unfinished"} RunState
 *
 * @typedef {["entropy_above", number] | ["text", string] | ["tool_call", true]} PausedBy  a breakpoint, entropy in nats
 *
 * @typedef {object} Progress  before the first token
 * @property {"loading" | "compiling" | "reading"} stage
 * @property {number | null} done  tokens of the prompt so far; null if unknown
 * @property {number | null} total  bytes of memory, or tokens
 * @property {number} sinceMs  start of the stage by the clock of the page
 *
 * The wire form, which wire/run.py writes:
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
 * @property {boolean} [reads]  whether the tokens are those of a text that was measured
 * @property {WireToken[]} [prompt]  its tokens, if they were measured
 * @property {PausedBy} [paused_by]
 * @property {(WireAlternative[] | null)[]} [alternatives]  only in the page, which saves them with the notebook
 *
 * @typedef {object} Delta
 * @property {"delta"} kind
 * @property {[string, number, number, WireToken[], number | null]} news  run, sequence, first position, tokens, tokens per second
 * @property {WireUsage} [usage]
 * @property {RunState} [state]
 * @property {[number, ...WireCall][]} [calls]  each with its index and only its new text
 * @property {PausedBy} [paused_by]
 * @property {WireProgress} [progress]
 * @property {WireToken[]} [prompt]  only once, if it was measured
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
