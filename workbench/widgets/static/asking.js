// Messages to the kernel that are answered: `{kind, id, ...}` by `{kind: "reply", id, error}`, `error` null or in words.

const PATIENCE_MS = 1500;

/**
 * @param {any} model @param {AbortSignal} signal @param {(text: string | null) => void} show  an error, or null for none
 * @returns {(content: Record<string, any>) => void}
 */
export function requester(model, signal, show) {
  let id = 0;
  let timer = 0;
  model.on("msg:custom", (/** @type {any} */ reply) => {
    if (reply.kind !== "reply" || reply.id !== id) return;
    window.clearTimeout(timer);
    show(reply.error);
  });
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  return (content) => {
    id += 1;
    show(null);
    window.clearTimeout(timer);
    timer = window.setTimeout(
      () => show("The kernel is busy: this takes effect when the running cell ends."),
      PATIENCE_MS,
    );
    model.send({ id, ...content });
  };
}
