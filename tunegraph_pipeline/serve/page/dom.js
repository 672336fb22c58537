// Parts that all of the page is made of. Here: making elements, icons, buttons, what is said to screen readers, the bar
// with Undo, and the sheet that lies over the page. Not here: songs (`songs.js`).
//
// Everything from the service is inserted as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An element; attributes that begin with "on" are listeners, those that are null or false are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// One icon for each meaning, and one meaning for each icon. Lines in a square of 24.
const ICONS = {
  like: "M12 20.3C5.2 15.6 2.8 12.3 2.8 8.9A4.7 4.7 0 0 1 12 7a4.7 4.7 0 0 1 9.2 1.9c0 3.4-2.4 6.7-9.2 11.4z",
  never: "M12 3a9 9 0 1 0 .01 0zM5.7 5.7l12.6 12.6",
  remove: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5.5M13.5 11v5.5",
  allow: "M4 9h10a5 5 0 0 1 0 10H8M4 9l4-4M4 9l4 4",
  play: "M7 4.5v15l12-7.5z",
  pause: "M8 5v14M16 5v14",
  next: "M5 5v14l10-7zM19 5v14",
  previous: "M19 5v14L9 12zM5 5v14",
  stop: "M6 6h12v12H6z",
  queue: "M4 6h16M4 11h10M4 16h10M18 13v7M14.5 16.5h7",
  similar: "M12 3v4M12 17v4M3 12h4M17 12h4M6 6l2.2 2.2M15.8 15.8 18 18M6 18l2.2-2.2M15.8 8.2 18 6",
  why: "M9 9a3 3 0 1 1 4.2 2.7c-.8.4-1.2 1-1.2 1.8v.6M12 17.6v.1M12 2.8a9.2 9.2 0 1 0 .01 0z",
  path: "M5 19h.01M19 5h.01M6 17c2-8 10-2 12-10M5 16.5a2.5 2.5 0 1 0 .01 0zM19 2.5a2.5 2.5 0 1 0 .01 0z",
  artist: "M12 4a4 4 0 1 0 .01 0zM4.5 20.5c.6-4 3.6-6 7.5-6s6.9 2 7.5 6",
  out: "M14 4h6v6M20 4l-9 9M17 14v6H4V7h6",
  bring: "M12 15V4M7.5 8.5 12 4l4.5 4.5M4 15v5h16v-5",
  save: "M12 4v11M7.5 10.5 12 15l4.5-4.5M4 19.5h16",
  share: "M10 14a4 4 0 0 0 5.7 0l3.5-3.5a4 4 0 0 0-5.7-5.7L12 6.3M14 10a4 4 0 0 0-5.7 0l-3.5 3.5a4 4 0 0 0 5.7 5.7l1.5-1.5",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  lists: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  music: "M9 18V5l11-2v13M9 18a2.5 2.5 0 1 1-.01-.01zM20 16a2.5 2.5 0 1 1-.01-.01z",
  map: "M9 4 3.5 6v14L9 18l6 2 5.5-2V4L15 6zM9 4v14M15 6v14",
  together: "M8.5 6.5a5.5 5.5 0 1 0 .01 0zM15.5 6.5a5.5 5.5 0 1 0 .01 0z",
  home: "M4 11.5 12 4l8 7.5V20h-5.5v-5h-5v5H4z",
  close: "M6 6l12 12M18 6 6 18",
  closer: "M12 5v14M5 12h14",
  farther: "M5 12h14",
  bridge: "M3 17h18M3 17c0-5 3-9 9-9s9 4 9 9M8 17V9.5M16 17V9.5M12 17V8",
  whole: "M3.5 3.5h17v17h-17zM8 8h8v8H8z",
  large: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  mine: "M12 15.5c-3-2.1-4-3.6-4-5.1a2.1 2.1 0 0 1 4-.9 2.1 2.1 0 0 1 4 .9c0 1.5-1 3-4 5.1zM4 8V4h4M20 8V4h-4M4 16v4h4M20 16v4h-4",
};

export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("class", `icon of-${name}`);
  picture.setAttribute("aria-hidden", "true");
  const lines = document.createElementNS(SVG, "path");
  lines.setAttribute("d", ICONS[name]);
  picture.append(lines);
  return picture;
}

/** A button with an icon alone; its label is read aloud and shown as a tip. */
export function iconButton(kind, name, label, act) {
  const shown = { type: "button", class: kind, "aria-label": label, title: label, onclick: act };
  return element("button", shown, icon(name));
}

/** A button with text, and an icon before it if one is named. */
export function textButton(kind, name, text, act) {
  return element("button", { type: "button", class: kind, onclick: act }, name && icon(name), element("span", {}, text));
}

/** Fill in the icons of the document: elements with `data-icon`. */
export function drawIcons() {
  for (const one of document.querySelectorAll("[data-icon]")) one.prepend(icon(one.dataset.icon));
}

/** Tell screen readers. */
export function say(text) {
  $("said").textContent = text;
}

/** "1 song", "1,200 songs". */
export function count(number, one, several = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : several}`;
}

/** What is said, and the bar with Undo, are in the sheet while it is open: all else is out of reach then. */
function moveBars() {
  const sheet = $("sheet");
  if (sheet.open) sheet.append($("undo"), $("said"));
  else {
    document.querySelector(".dock").prepend($("undo"));
    document.body.append($("said"));
  }
}

let undoing = 0;

/** Say what was done, with a button that calls `undo`. */
export function offerUndo(what, undo) {
  const box = $("undo");
  box.querySelector("span").textContent = what;
  box.querySelector("button").onclick = () => {
    box.hidden = true;
    undo();
    say("Undone");
  };
  box.hidden = false;
  clearTimeout(undoing);
  undoing = setTimeout(() => {
    // Stays while it has the focus, since the listener may be about to press it.
    if (!box.contains(document.activeElement)) box.hidden = true;
  }, 8000);
  say(`${what}. You can undo this.`);
}

/**
 * Open the sheet over the page, with a title and these children; its body. One sheet is open at a time; whatever had
 * the focus before gets it back when it is closed.
 */
export function openSheet(title, ...children) {
  const sheet = $("sheet");
  $("sheet-title").textContent = title;
  const body = $("sheet-body");
  body.replaceChildren(...children.filter(Boolean));
  if (!sheet.open) {
    opener = { button: document.activeElement, list: document.activeElement.closest(".songs")?.id };
    sheet.showModal();
    moveBars();
  }
  body.scrollTop = 0;
  return body;
}

let opener = null; // what had the focus when the sheet was opened

/** Give the focus to what stands where the opener was, if its row was made anew meanwhile. */
function refocus() {
  const { button, list } = opener;
  if (button.isConnected || !list || !$(list)) return;
  const id = button.closest(".song")?.dataset.track;
  const row = [...$(list).children].find((one) => one.dataset.track === id) ?? $(list).firstElementChild;
  const same = [...(row?.querySelectorAll("button") ?? [])].find((one) => one.textContent === button.textContent);
  (same ?? row?.querySelector(".name") ?? $("search")).focus();
}

/** Make the sheet close by its button, by Escape and by a press beside it. */
export function startSheet() {
  $("sheet").addEventListener("close", () => {
    moveBars();
    refocus();
  });
  $("sheet").addEventListener("click", (event) => event.target === $("sheet") && closeSheet());
}

export function closeSheet() {
  if ($("sheet").open) $("sheet").close();
}

/** A file for the listener to save. */
export function saveFile(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
