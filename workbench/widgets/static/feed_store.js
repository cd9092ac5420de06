// Access of a view to the store of its run feed.

/**
 * @import { Host, ResolvedWidget } from "@anywidget/types"
 * @import { Store } from "./run_feed.js"
 */

/** @param {Host} host @param {string} ref  of the run feed @returns {Promise<Store>} */
export async function storeOf(host, ref) {
  /** @type {ResolvedWidget<{store: Store}>} */ const feed = await host.getWidget(ref);
  return feed.exports.store;
}
