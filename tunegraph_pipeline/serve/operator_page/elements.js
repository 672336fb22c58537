// Parts that all of the operator page is made of. Here: cards, tables and numbers in words. Not here: what the page has
// too (`../page/dom.js`).

import { $, count, element } from "../../page/dom.js";

export { $, count, element };

/** A card with a heading. */
export function card(title, ...children) {
  return element("section", { class: "card" }, element("h2", {}, title), ...children);
}

/** A figure with what it is of, and a line about it. */
export function figure(label, value, about = null, kind = "") {
  return element(
    "div",
    { class: `card figure ${kind}` },
    element("p", { class: "label" }, label),
    element("p", { class: "value" }, value),
    about === null ? null : element("p", { class: "hint" }, about),
  );
}

/**
 * A table: `columns` are [heading, cell of a row, "number" or nothing]. On a narrow screen it scrolls by itself, or
 * if it `stacks`, each row becomes a block.
 */
export function table(caption, columns, rows, { stacks = false } = {}) {
  const head = columns.map(([heading, , kind]) => element("th", { scope: "col", class: kind ?? null }, heading));
  const body = rows.map((row) =>
    element(
      "tr",
      {},
      ...columns.map(([heading, cell, kind]) =>
        element("td", { class: kind ?? null, "data-heading": heading || null }, cell(row) ?? "–"),
      ),
    ),
  );
  return element(
    "div",
    { class: stacks ? "scrolls stacks" : "scrolls", tabindex: "0", role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", { class: "unseen" }, caption),
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...body),
    ),
  );
}

export const badge = (text, kind = "") => element("span", { class: `badge ${kind}` }, text);

export const code = (text) => element("code", {}, text);

export const empty = (text) => element("p", { class: "hint" }, text);

/** What a shorter form of a version stands for: the day, and the beginning of the hash. */
export function version(name) {
  if (!name) return null;
  return element("code", { title: name }, name.length > 20 ? `${name.slice(0, 17)}…` : name);
}

/** The day that a version is of, by which its name begins; else the day of a time. */
export const dayOf = (name, iso) => /^\d{4}-\d\d-\d\d/.exec(name)?.[0] ?? iso?.slice(0, 10) ?? name;

export const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en-GB"));

export const decimal = (value, digits = 4) =>
  value === null || value === undefined
    ? "–"
    : Math.abs(value) >= 1000
      ? number(Math.round(value))
      : value.toFixed(Math.abs(value) >= 10 ? 1 : digits);

export const signed = (value, digits = 4) => `${value > 0 ? "+" : ""}${decimal(value, digits)}`;

export function bytes(n) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (n >= 1024 && power < units.length - 1) {
    n /= 1024;
    power += 1;
  }
  return `${power ? n.toFixed(1) : n} ${units[power]}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  const minutes = Math.floor(value / 60);
  return minutes < 60
    ? `${minutes} min ${Math.round(value % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A time in the zone of the browser, with the whole of it in UTC for who asks. */
export function time(iso) {
  if (!iso) return null;
  const shown = new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return element("time", { datetime: iso, title: `${iso.replace("+00:00", "")} UTC` }, shown);
}
