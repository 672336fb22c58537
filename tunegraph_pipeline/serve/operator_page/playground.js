// The playground: a stored user or songs, the options of a query, and what one or two bundles answer.
// Here: the form, the answers and their comparison. Not here: requests (`api.js`).

import * as api from "./api.js";
import { parts } from "./charts.js";
import { badge, code, count, decimal, element, empty, number } from "./elements.js";

const PARTS = [
  ["embedding", "likeness of the embeddings"],
  ["neighbours", "songs that the same people like"],
  ["prior", "the song's own part"],
  ["familiarity", "popularity, as the option asks"],
];
const PAUSE = 150; // milliseconds without further input before a request is sent

/** A number of a sum: with as many decimals as the others, so that what is shown adds up. */
const addend = (value) => value.toFixed(3);

const titleOf = (song) => song.name || song.track_id;
const nameOf = (song) => (song.artists ? `${titleOf(song)} – ${song.artists}` : titleOf(song));

/** An input with a list of what was found under it; `find` gives [value, label] pairs, `take` gets a value. */
function finder(id, label, placeholder, find, take) {
  const input = element("input", {
    id,
    type: "search",
    role: "combobox",
    autocomplete: "off",
    spellcheck: "false",
    placeholder,
    "aria-autocomplete": "list",
    "aria-expanded": "false",
    "aria-controls": `${id}-found`,
  });
  const list = element("ul", { id: `${id}-found`, class: "found", role: "listbox", "aria-label": label, hidden: true });
  let items = [];
  let active = -1;
  let pause = 0;
  let turn = 0;
  const close = () => {
    turn += 1;
    clearTimeout(pause);
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  };
  const choose = (place) => {
    const [value, text] = items[place];
    close();
    take(value, text, input);
  };
  const mark = (place) => {
    active = place;
    [...list.children].forEach((row, at) => row.setAttribute("aria-selected", String(at === active)));
    input.setAttribute("aria-activedescendant", `${id}-${active}`);
    list.children[active]?.scrollIntoView({ block: "nearest" });
  };
  const look = async () => {
    const mine = (turn += 1);
    const found = input.value.trim() ? await find(input.value.trim()) : [];
    if (mine !== turn) return;
    items = found ?? [];
    list.replaceChildren(
      ...items.map(([, text], at) =>
        element(
          "li",
          {
            id: `${id}-${at}`,
            role: "option",
            "aria-selected": "false",
            onpointerdown: (event) => {
              event.preventDefault();
              choose(at);
            },
          },
          text,
        ),
      ),
    );
    list.hidden = !items.length;
    input.setAttribute("aria-expanded", String(items.length > 0));
    if (items.length) mark(0);
  };
  input.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(look, PAUSE);
  });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter") {
      event.preventDefault();
      if (!list.hidden && active >= 0) choose(active);
      else if (id === "user") take(input.value.trim(), input.value.trim(), input);
    } else if (!list.hidden && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      mark((active + (event.key === "ArrowDown" ? 1 : items.length - 1)) % items.length);
    }
  });
  return element("div", { class: "finder" }, element("label", { for: id }, label), input, list);
}

function slider(id, label, low, high, value) {
  const input = element("input", { id, type: "range", min: "0", max: "1", step: "0.05", value: String(value) });
  return [
    input,
    element(
      "label",
      {},
      label,
      input,
      element("span", { class: "ends" }, element("span", {}, low), element("span", {}, high)),
    ),
  ];
}

export async function playground({ signal, lake, attempt, say, given }) {
  const { bundles, lake: name } = await api.subject("overview", signal);
  lake(name);
  if (!bundles.length) return [empty("There is no bundle to ask; a refresh makes one.")];
  const asked = { user: given, songs: [] };
  const answers = element("div", { class: "answers" });
  const listed = element("div");
  const chosen = element("ul", { class: "chips", "aria-label": "Whom it is for" });

  const option = (one) => element("option", { value: one.version }, `${one.version}${one.live ? " (live)" : ""}`);
  const first = element("select", { id: "bundle" }, ...bundles.map(option));
  const second = element(
    "select",
    { id: "compared" },
    element("option", { value: "" }, "nothing"),
    ...bundles.map(option),
  );
  first.value = (bundles.find((one) => one.live) ?? bundles[0]).version;
  const k = element("select", { id: "k" }, ...[10, 20, 50].map((n) => element("option", {}, String(n))));
  const most = element(
    "select",
    { id: "most" },
    element("option", { value: "" }, "any number"),
    ...[1, 2, 3].map((n) => element("option", { value: String(n) }, String(n))),
  );
  const explicit = element("input", { id: "explicit", type: "checkbox" });
  explicit.checked = true;
  const [familiarity, familiarityRow] = slider("familiarity", "Familiarity", "discover", "well known", 0.5);
  const [diversity, diversityRow] = slider("diversity", "Diversity", "similar", "varied", 0);

  const query = (version) => ({
    version,
    user_id: asked.user,
    likes: asked.songs.map((song) => song.id),
    k: Number(k.value),
    familiarity: Number(familiarity.value),
    diversity: Number(diversity.value),
    max_per_artist: most.value ? Number(most.value) : null,
    explicit: explicit.checked,
  });

  let turn = 0;
  const ask = () =>
    attempt(async () => {
      const mine = (turn += 1);
      drawChosen();
      if (!asked.user && !asked.songs.length) {
        answers.replaceChildren(empty("Choose a user or songs."));
        listed.replaceChildren();
        return;
      }
      const versions = [first.value, second.value].filter(Boolean);
      answers.classList.add("loading");
      try {
        const found = [];
        for (const version of versions) found.push(await settled(api.recommend(query(version), signal)));
        const of = asked.user ? await settled(api.user(asked.user, first.value, signal)) : null;
        if (mine !== turn) return;
        listed.replaceChildren(of === null || of.error ? "" : likes(of));
        show(answers, versions, found);
        say(versions.length > 1 ? "Both bundles have answered." : "The bundle has answered.");
      } finally {
        if (mine === turn) answers.classList.remove("loading");
      }
    });

  function drawChosen() {
    const chip = (text, remove) =>
      element(
        "li",
        {},
        text,
        element("button", { type: "button", "aria-label": `Remove ${text}`, onclick: remove }, "×"),
      );
    chosen.replaceChildren(
      ...(asked.user
        ? [
            chip(`user ${asked.user}`, () => {
              asked.user = null;
              ask();
            }),
          ]
        : []),
      ...asked.songs.map((song) =>
        chip(song.text, () => {
          asked.songs = asked.songs.filter((one) => one !== song);
          ask();
        }),
      ),
    );
    chosen.hidden = !chosen.children.length;
  }

  const users = finder(
    "user",
    "A stored user",
    "A part of an id",
    async (text) =>
      (await attempt(() => api.users({ search: text, sort: "likes", limit: 8 }, signal)))?.items.map((one) => [
        one.user_id,
        `${one.user_id} (${count(one.likes, "like")})`,
      ]),
    (id, _, input) => {
      if (!id) return;
      asked.user = id;
      input.value = "";
      ask();
    },
  );
  const songs = finder(
    "song",
    "Songs",
    "Name or artist",
    async (text) => (await attempt(() => api.songs(text, signal)))?.map((song) => [song.track_id, nameOf(song)]),
    (id, text, input) => {
      if (!asked.songs.some((song) => song.id === id)) asked.songs.push({ id, text });
      input.value = "";
      ask();
    },
  );
  for (const input of [first, second, k, most, explicit, familiarity, diversity]) input.addEventListener("change", ask);
  ask();
  return [
    element(
      "section",
      { class: "card asked", "aria-label": "Whom to recommend for, and how" },
      element("div", { class: "fields" }, users, songs),
      chosen,
      element(
        "div",
        { class: "fields" },
        element("label", {}, "Bundle", first),
        element("label", {}, "Compare with", second),
        familiarityRow,
        diversityRow,
        element("label", {}, "Songs", k),
        element("label", {}, "Per artist at most", most),
        element("label", { class: "switch" }, explicit, element("span", {}, "Explicit songs")),
      ),
    ),
    listed,
    answers,
  ];
}

/** The answer, or why there is none: one bundle may know a user that another does not. */
async function settled(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof api.ServiceError) return { error: error.message };
    throw error;
  }
}

function likes(list) {
  const some = list.likes.length < list.n_likes ? ` (the first ${list.likes.length} are shown)` : "";
  return element(
    "details",
    { class: "card" },
    element(
      "summary",
      {},
      `${list.user_id} likes ${count(list.n_likes, "song")}${list.n_dislikes ? ` and dislikes ${number(list.n_dislikes)}` : ""}${some}`,
    ),
    element("ul", { class: "names" }, ...list.likes.map((song) => element("li", {}, nameOf(song)))),
    list.n_dislikes ? element("h3", {}, "Disliked") : null,
    list.n_dislikes
      ? element("ul", { class: "names" }, ...list.dislikes.map((song) => element("li", {}, nameOf(song))))
      : null,
  );
}

function show(answers, versions, found) {
  const ranks = found.map((answer) => new Map((answer.items ?? []).map((item) => [item.track_id, item.rank])));
  const both = versions.length > 1 && !found.some((answer) => answer.error);
  const shared = both ? [...ranks[0].keys()].filter((id) => ranks[1].has(id)).length : 0;
  answers.classList.toggle("two", versions.length > 1);
  answers.replaceChildren(
    ...(both ? [element("p", { class: "across" }, `${shared} of ${count(ranks[0].size, "song")} are in both.`)] : []),
    ...found.map((answer, side) => column(versions[side], answer, both && side === 1 ? ranks[0] : null)),
  );
}

function column(version, answer, before) {
  const title = element("h2", {}, "Bundle ", code(version));
  if (answer.error)
    return element("section", { class: "card" }, title, element("p", { class: "note problem" }, answer.error));
  const long = (item) => Object.values(item.parts ?? {}).reduce((sum, value) => sum + Math.abs(value), 0);
  const most = Math.max(...answer.items.map(long), 0);
  return element(
    "section",
    { class: "card" },
    title,
    answer.degraded ? null : legend(),
    answer.degraded ? element("p", { class: "note" }, `Not personal: ${answer.degraded}`) : null,
    answer.unknown.length ? element("p", { class: "note" }, `Not in this bundle: ${answer.unknown.join(", ")}`) : null,
    element("ol", { class: "songs" }, ...answer.items.map((item) => song(item, most, before))),
  );
}

function legend() {
  const rows = PARTS.map(([part, about], i) => element("li", { class: `of-${i}`, title: about }, part));
  return element("ul", { class: "legend", "aria-hidden": "true" }, ...rows);
}

function song(item, most, before) {
  const values = item.parts ? PARTS.map(([name]) => [name, item.parts[name]]) : null;
  return element(
    "li",
    { class: "song", "data-track": item.track_id },
    element("span", { class: "rank" }, String(item.rank)),
    element(
      "details",
      {},
      element(
        "summary",
        {},
        element(
          "span",
          { class: "title" },
          element("strong", {}, titleOf(item)),
          item.artists ? element("small", {}, item.artists) : null,
        ),
        element(
          "span",
          { class: "score" },
          before === null ? null : moved(item, before),
          item.parts ? decimal(item.score, 3) : count(item.score, "like"),
        ),
        values ? parts(values, most) : null,
      ),
      values
        ? element(
            "p",
            { class: "sum" },
            values
              .map(([name, value]) => `${name} ${addend(value)}`)
              .join(" + ")
              .replaceAll("+ -", "− "),
            ` = ${addend(item.score)}`,
          )
        : null,
      item.contributions.length
        ? element(
            "ul",
            { class: "names" },
            ...item.contributions.map((one) =>
              element("li", {}, `${addend(one.contribution)} from ${nameOf(one)}`),
            ),
          )
        : null,
      item.reasons.length
        ? element(
            "p",
            { class: "hint" },
            item.reasons.map((why) => `${count(why.listeners, "listener")} of both with ${titleOf(why)}`).join("; "),
          )
        : null,
    ),
  );
}

function moved(item, before) {
  const was = before.get(item.track_id);
  if (was === undefined) return badge("new", "odd");
  if (was === item.rank) return badge("same");
  return badge(was > item.rank ? `▲ ${was - item.rank}` : `▼ ${item.rank - was}`, was > item.rank ? "good" : "bad");
}
