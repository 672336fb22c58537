// What the page asks of others than its service. Here: asking the listener whether it may. Not here: covers (`cover.js`),
// sounds (`player.js`) or playlists (`save_sheet.js`), which do nothing before the switch is on.

import { closeSheet, element, openSheet, textButton } from "./dom.js";
import { store } from "./store.js";

/** Calls `act` at once if the page may call other sites; else asks the listener, who may switch it on. */
export function whenAllowed(site, act) {
  if (store.get("media")) {
    act();
    return;
  }
  openSheet(
    "Call another site?",
    element(
      "p",
      {},
      `This comes from ${site}, which then learns your address. Until now the page has called nobody but its own service.`,
    ),
    element("p", { class: "hint" }, "Covers and previews of songs load as well, until you switch them off in Options."),
    element(
      "div",
      { class: "row" },
      textButton("main", null, "Switch on", () => {
        closeSheet();
        store.set({ media: true });
        act();
      }),
      textButton("", null, "Not now", closeSheet),
    ),
  );
}
