// The lists of the listener. Here: the sheet to open, name, make and remove lists and to back them up, and the bar of a
// shared list. Not here: keeping them (`store.js`).

import { $, closeSheet, count, element, iconButton, offerUndo, openSheet, say, saveFile, textButton } from "./dom.js";
import { store } from "./store.js";

function listRow(list, isOnly) {
  const open = element(
    "button",
    { type: "button", class: "list", "aria-current": list.isOpen ? "true" : null, onclick: () => (store.open(list.id), closeSheet()) },
    element("span", { class: "name" }, list.name),
    element("span", { class: "hint" }, count(list.likes.length, "song")),
  );
  const remove = iconButton("drop", "remove", isOnly ? `Empty ${list.name}` : `Remove the list ${list.name}`, () => {
    const before = store.snapshot();
    store.remove(list.id);
    openLists();
    offerUndo(isOnly ? `Emptied ${list.name}` : `Removed the list ${list.name}`, () => {
      if (isOnly) store.restore(before);
      else store.bringBack(list.id);
      openLists();
    });
  });
  return element("li", {}, open, remove);
}

function openLists() {
  const { lists } = store;
  const rename = element("input", { type: "text", class: "field", maxlength: "80", value: store.name, "aria-label": "Name of this list", required: true });
  const added = element("input", { type: "text", class: "field", maxlength: "80", placeholder: "Name of a new list", "aria-label": "Name of a new list", required: true });
  const note = element("p", { class: "hint", role: "status" });
  const file = element("input", { type: "file", accept: ".json,application/json", class: "unseen", tabindex: "-1", "aria-label": "A back-up" });
  file.addEventListener("change", async () => {
    try {
      const restored = store.restoreBackUp(await file.files[0].text());
      openLists();
      $("sheet-body").querySelector("[role=status]").textContent = `Restored ${count(restored, "list")}.`;
    } catch (error) {
      note.textContent = error.message;
    }
  });
  const form = (field, label, act) =>
    element(
      "form",
      {
        class: "row",
        onsubmit: (event) => {
          event.preventDefault();
          act(field.value);
        },
      },
      field,
      element("button", {}, label),
    );
  openSheet(
    "Your lists",
    element("ul", { class: "lists" }, ...lists.map((list) => listRow(list, lists.length === 1))),
    form(added, "Make", (name) => {
      store.make(name);
      closeSheet();
      say(`Made the list ${store.name}`);
    }),
    form(rename, "Rename", (name) => {
      store.rename(name);
      openLists();
    }),
    element("h3", {}, "Back-up"),
    element(
      "p",
      { class: "hint" },
      "Your lists are in this browser alone. ",
      store.isKept ? "" : "It refuses to keep them: they are gone when you leave, unless you save them.",
    ),
    element(
      "div",
      { class: "row" },
      textButton("", "save", "Save all lists", () => saveFile("tunegraph-lists.json", store.backUp(), "application/json")),
      textButton("", "bring", "Restore", () => file.click()),
      file,
    ),
    note,
  );
}

function show() {
  $("list-name").textContent = store.name;
  $("shared").hidden = !store.isShared;
}

export function startLists() {
  $("lists").addEventListener("click", openLists);
  $("keep-shared").addEventListener("click", () => {
    store.keepShared();
    say(`Kept as ${store.name}`);
    $("lists").focus();
  });
  $("leave-shared").addEventListener("click", () => {
    store.leaveShared();
    $("lists").focus();
  });
  store.addEventListener("change", show);
  show();
}
