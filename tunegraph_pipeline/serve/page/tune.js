// Tuning: filters by genre, year and sound, and what is not to come again. Here: what each may be, how it is asked for,
// its controls, and what the filters cost. Not here: the other options (`options.js`).

import { Job, get, post } from "./api.js";
import { $, count, element, icon, say } from "./dom.js";
import { recommendations, showProblem } from "./recommendations.js";
import { local, read, session, store, write } from "./store.js";

const SHOWN_GENRES = 12; // of a search among them
const MOST_GENRES = 50; // in one request
const MOST_EXCLUDED = 2000; // ids in one request
const SHOWN = "tunegraph-shown"; // when songs were first recommended, in localStorage
const SINCE = "tunegraph-since"; // when this visit began, in sessionStorage
const MOST_SHOWN = 1500;
const DAY = 86_400_000;

const MOODS = {
  calm: "energy at most 0.4",
  energetic: "energy at least 0.7",
  happy: "valence at least 0.6",
  sad: "valence at most 0.35",
  danceable: "danceability at least 0.7",
  acoustic: "acousticness at least 0.7",
  instrumental: "instrumentalness at least 0.5",
};
const KEYS = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
const share = { min: 0, max: 1, step: 0.05, digits: 2 };
/** Ranges by the name of what they are of; `ends` are words for the two sides. */
const RANGES = {
  year: { label: "Year", min: 1950, max: new Date().getFullYear(), step: 1, unit: "" },
  tempo: { label: "Tempo", min: 40, max: 220, step: 5, unit: " bpm" },
  energy: { label: "Energy", ...share, ends: ["quiet", "wild"] },
  valence: { label: "Happiness", ...share, ends: ["dark", "bright"] },
  danceability: { label: "Danceability", ...share },
  acousticness: { label: "Acousticness", ...share },
  instrumentalness: { label: "Instrumentalness", ...share },
  speechiness: { label: "Speech", ...share },
  liveness: { label: "Liveness", ...share },
  loudness: { label: "Loudness", min: -40, max: 0, step: 1, unit: " dB" },
};
const FIRST = ["year", "tempo", "energy"];
const CHOICES = {
  key: { label: "Key", values: KEYS },
  mode: { label: "Scale", values: ["minor", "major"] },
};
const FEATURES = [...Object.keys(RANGES).filter((name) => name !== "year"), ...Object.keys(CHOICES)];
const REPEATS = { 0: "may come again", 1: "not within a day", 7: "not within 7 days", 30: "not within 30 days" };

// --- what is kept and asked for ---

function names(given, most = MOST_GENRES) {
  return [...new Set(Array.isArray(given) ? given : [])].filter((name) => typeof name === "string" && name).slice(0, most);
}

function bounds(given) {
  if (!Array.isArray(given)) return null;
  const [low, high] = [0, 1].map((side) => (Number.isFinite(given[side]) ? given[side] : null));
  return low === null && high === null ? null : [low, high];
}

/** The filters of any value, without what asks for nothing. */
function cleanFilters(given) {
  const { genres, not_genres: not, years, features, moods, unknown } = given ?? {};
  const clean = {};
  const [wanted, unwanted] = [names(genres), names(not)];
  if (wanted.length) clean.genres = wanted;
  if (unwanted.length) clean.not_genres = unwanted;
  if (bounds(years)) clean.years = bounds(years);
  const ranges = FEATURES.map((name) => [name, bounds(features?.[name])]).filter(([, range]) => range);
  if (ranges.length) clean.features = Object.fromEntries(ranges);
  const felt = names(moods).filter((mood) => Object.hasOwn(MOODS, mood));
  if (felt.length) clean.moods = felt;
  if (unknown === "allow") clean.unknown = unknown;
  return clean;
}

const asksNothing = ({ unknown, ...rest }) => Object.keys(rest).length === 0;

store.define("filters", {
  initial: {},
  clean: cleanFilters,
  into: (query, value) => !asksNothing(value) && Object.assign(query, { filters: value }),
});
// What the listener has heard is no matter of a list, so these are not in links.
store.define("unheard", {
  initial: false,
  clean: Boolean,
  into: (query, value) => value && exclude(query, [...store.heard.keys()]),
  link: null,
});
store.define("noRepeats", {
  initial: 0,
  clean: (value) => (Object.hasOwn(REPEATS, value) ? Number(value) : 0),
  into: (query, days) => days && exclude(query, shownBefore(days)),
  link: null,
});

/** Do not recommend these, the newest last. */
function exclude(query, ids) {
  if (!ids.length) return;
  query.exclude = [...new Set([...(query.exclude ?? []), ...ids])].slice(-MOST_EXCLUDED);
}

// --- the history of recommendations ---

let shown = new Map(); // when each song was first recommended, by id, oldest first
let since = Date.now(); // the lists of one visit do not exclude each other

function readHistory() {
  const given = read(local, SHOWN);
  if (Array.isArray(given)) shown = new Map(given.filter(Array.isArray));
  since = Number(read(session, SINCE)) || since;
  write(session, SINCE, String(since));
}

function shownBefore(days) {
  return [...shown].filter(([, time]) => time < since && time > Date.now() - days * DAY).map(([id]) => id);
}

function remember(songs) {
  const now = Date.now();
  for (const { track_id: id } of songs) {
    // Once more after a long time is a first time again.
    if (now - (shown.get(id) ?? 0) < 30 * DAY) continue;
    shown.delete(id);
    shown.set(id, now);
  }
  shown = new Map([...shown].slice(-MOST_SHOWN));
  write(local, SHOWN, JSON.stringify([...shown]));
}

// --- changing filters ---

const filters = () => store.get("filters");
const change = (parts) => store.set({ filters: cleanFilters({ ...filters(), ...parts }) });

function boundsOf(name) {
  return (name === "year" ? filters().years : filters().features?.[name]) ?? [null, null];
}

function setBounds(name, range) {
  if (name === "year") change({ years: range });
  else change({ features: { ...filters().features, [name]: range } });
}

function toggled(list = [], name) {
  return list.includes(name) ? list.filter((other) => other !== name) : [...list, name];
}

function words(name, [low, high]) {
  const choice = CHOICES[name];
  if (choice) return `${name === "key" ? "key of " : ""}${choice.values[low]}`;
  const { label, unit = "", digits = 0 } = RANGES[name];
  const text = (value) => value.toFixed(digits).replace("-", "−");
  const range =
    low === null ? `up to ${text(high)}` : high === null ? `from ${text(low)}` : low === high ? text(low) : `${text(low)} to ${text(high)}`;
  return `${name === "year" ? "" : `${label.toLowerCase()} `}${range}${unit}`;
}

/** Each part of the filters: its words, and the filters without it. */
function parts() {
  const all = filters();
  const { years, features = {} } = all;
  const without = (name, value) => ({ ...all, [name]: all[name].filter((other) => other !== value) });
  return [
    ...(all.genres ?? []).map((name) => [name, without("genres", name)]),
    ...(all.not_genres ?? []).map((name) => [`no ${name}`, without("not_genres", name)]),
    ...(all.moods ?? []).map((name) => [name, without("moods", name)]),
    ...(years ? [[words("year", years), { ...all, years: null }]] : []),
    ...Object.entries(features).map(([name, range]) => [
      words(name, range),
      { ...all, features: { ...features, [name]: null } },
    ]),
  ];
}

// --- genres ---

let genres = []; // { name, songs }, most songs first
let leavesOut = false; // whether a genre that is pressed is left out

function genreControl() {
  const search = element("input", {
    type: "search",
    id: "genre-search",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "Find a genre",
    "aria-label": "Find a genre",
    oninput: showGenres,
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      $("genres").querySelector("button")?.click();
    },
  });
  const way = (text, out) =>
    element(
      "label",
      {},
      element("input", {
        type: "radio",
        name: "genre-way",
        checked: out === leavesOut,
        onchange: () => {
          leavesOut = out;
          showGenres();
        },
      }),
      element("span", {}, text),
    );
  return element(
    "fieldset",
    {},
    element("legend", {}, "Genre"),
    element("div", { class: "genre-top" }, search, element("div", { class: "ways" }, way("any of", false), way("none of", true))),
    element("ul", { id: "genres", class: "picks", "aria-label": "Genres" }),
    element("p", { id: "no-genres", class: "hint", hidden: true }),
  );
}

function showGenres() {
  const part = leavesOut ? "not_genres" : "genres";
  const chosen = filters()[part] ?? [];
  const text = simple($("genre-search").value);
  const found = genres.filter(({ name }) => simple(name).includes(text));
  const first = found.filter(({ name }) => chosen.includes(name));
  const rest = found.filter(({ name }) => !chosen.includes(name)).slice(0, Math.max(4, SHOWN_GENRES - first.length));
  const held = $("genres").contains(document.activeElement) ? document.activeElement.dataset.genre : null;
  $("genres").replaceChildren(
    ...[...first, ...rest].map(({ name, songs }) => {
      const press = () => {
        change({ [part]: toggled(filters()[part], name) });
        $("genre-search").value = "";
        showGenres();
      };
      return element(
        "li",
        {},
        element(
          "button",
          {
            type: "button",
            class: "pick",
            "data-genre": name,
            "aria-pressed": String(chosen.includes(name)),
            onclick: press,
          },
          leavesOut && chosen.includes(name) ? icon("never") : null,
          name,
          element("small", {}, songs.toLocaleString("en")),
        ),
      );
    }),
  );
  if (held !== null) [...$("genres").querySelectorAll("button")].find((one) => one.dataset.genre === held)?.focus();
  $("no-genres").hidden = found.length > 0;
  $("no-genres").textContent = genres.length ? "No such genre here." : "No genre is known of the songs here.";
}

/** Spellings of one genre that differ in signs and case alone are the same. */
function simple(text) {
  return text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}

// --- ranges and moods ---

function rangeControl(name) {
  const { label, min, max, step, ends } = RANGES[name];
  const inputs = ["from", "to"].map((side) =>
    element("input", { type: "range", min, max, step, "aria-label": `${label} ${side}`, "data-side": side }),
  );
  const [from, to] = inputs;
  const shown = element("output", {});
  const track = element("div", { class: "two" }, ...inputs);
  const read = (moved) => {
    let [low, high] = inputs.map((input) => Number(input.value));
    if (low > high) [low, high] = moved === from ? [high, high] : [low, low];
    return [low <= min ? null : low, high >= max ? null : high];
  };
  const show = (range) => {
    const [low, high] = range;
    from.value = String(low ?? min);
    to.value = String(high ?? max);
    const place = (value) => `${(100 * (value - min)) / (max - min)}%`;
    track.style.setProperty("--from", place(Number(from.value)));
    track.style.setProperty("--to", place(Number(to.value)));
    // Both at the upper end: only the lower one can be moved from there.
    from.style.zIndex = Number(from.value) > (min + max) / 2 ? "1" : "";
    const any = low === null && high === null;
    track.classList.toggle("any", any);
    shown.textContent = any ? "any" : words(name, range).replace(`${label.toLowerCase()} `, "");
    from.setAttribute("aria-valuetext", low === null ? "any" : String(low));
    to.setAttribute("aria-valuetext", high === null ? "any" : String(high));
  };
  for (const input of inputs) {
    input.addEventListener("input", () => {
      const range = read(input);
      show(range);
      setBounds(name, range);
    });
  }
  const made = element(
    "div",
    { role: "group", "aria-label": label, "data-range": name },
    element("div", { class: "range-top" }, element("span", {}, label), shown),
    track,
    ends ? element("div", { class: "ends", "aria-hidden": "true" }, ...ends.map((end) => element("span", {}, end))) : null,
  );
  shows.push(() => show(boundsOf(name)));
  return made;
}

function choiceControl(name) {
  const { label, values } = CHOICES[name];
  const select = element(
    "select",
    {
      onchange: () => {
        const value = select.value === "" ? null : Number(select.value);
        setBounds(name, [value, value]);
      },
    },
    element("option", { value: "" }, "any"),
    ...values.map((text, value) => element("option", { value }, text)),
  );
  shows.push(() => (select.value = String(boundsOf(name)[0] ?? "")));
  return element("label", { class: "choice", "data-range": name }, label, select);
}

function moodControl() {
  const chips = Object.entries(MOODS).map(([name, meaning]) => {
    const chip = element(
      "button",
      { type: "button", class: "pick", title: meaning, onclick: () => change({ moods: toggled(filters().moods, name) }) },
      name,
    );
    shows.push(() => chip.setAttribute("aria-pressed", String(filters().moods?.includes(name) ?? false)));
    return element("li", {}, chip);
  });
  return element(
    "fieldset",
    { "data-range": "mood" },
    element("legend", {}, "Mood"),
    element("ul", { class: "picks", "aria-label": "Moods" }, ...chips),
  );
}

// --- what is not to come again ---

function againControls() {
  const unheard = element("input", {
    type: "checkbox",
    id: "unheard",
    onchange: () => store.set({ unheard: unheard.checked }),
  });
  const heard = element("small", {});
  const repeats = element(
    "select",
    { id: "no-repeats", onchange: () => store.set({ noRepeats: Number(repeats.value) }) },
    ...Object.entries(REPEATS).map(([days, text]) => element("option", { value: days }, text)),
  );
  const unknown = element("input", {
    type: "checkbox",
    id: "unknown-too",
    onchange: () => change({ unknown: unknown.checked ? "allow" : "exclude" }),
  });
  shows.push(() => {
    unheard.checked = store.get("unheard");
    heard.textContent = store.heard.size ? ` ${count(store.heard.size, "song")} played or opened here` : "";
    repeats.value = String(store.get("noRepeats"));
    unknown.checked = filters().unknown === "allow";
  });
  return [
    element("label", { class: "choice" }, "Recommended on an earlier visit", repeats),
    element("label", { class: "switch" }, unheard, element("span", {}, "Only songs I have not heard here", heard)),
    element("label", { class: "switch" }, unknown, element("span", {}, "Also songs whose genre, year or sound is unknown")),
  ];
}

// --- what the filters are and cost ---

let catalogue = 0; // songs that may be recommended

function showCost() {
  const chosen = parts();
  const bar = $("tuned");
  bar.hidden = !chosen.length;
  if (!chosen.length) return;
  const held = bar.contains(document.activeElement);
  const chips = chosen.map(([text, without]) =>
    element(
      "li",
      {},
      element(
        "button",
        {
          type: "button",
          class: "pick",
          "aria-label": `Remove the filter: ${text}`,
          onclick: () => {
            store.set({ filters: cleanFilters(without) });
            say(`${text}: removed`);
          },
        },
        text,
        element("small", {}),
        icon("close"),
      ),
    ),
  );
  $("tuned-chips").replaceChildren(
    ...chips,
    element("li", {}, element("button", { type: "button", class: "quiet", onclick: () => store.set({ filters: {} }) }, "Clear")),
  );
  if (held) ($("tuned-chips").querySelector("button") ?? $("recommendations")).focus();
}

/** How many songs pass, and how many more would without each part. */
async function showPassing() {
  const { passing } = recommendations.answer ?? {};
  const line = $("tuned-cost");
  line.hidden = passing === null || passing === undefined;
  if (line.hidden) return;
  const percent = (100 * passing) / catalogue;
  const part = catalogue ? ` of ${count(catalogue, "song")}, ${percent < 1 && passing ? "less than 1" : Math.round(percent)} %,` : "";
  line.textContent = `${passing.toLocaleString("en")}${part} pass`;
  if (!catalogue) return;
  const asked = JSON.stringify(filters());
  for (const [place, [text, without]] of parts().entries()) {
    const more = (await passingWith(cleanFilters(without))) - passing;
    // Other filters may have been chosen meanwhile.
    if (JSON.stringify(filters()) !== asked) return;
    const chip = $("tuned-chips").children[place].querySelector("button");
    chip.querySelector("small").textContent = `+${more.toLocaleString("en")}`;
    chip.setAttribute("aria-label", `Remove the filter: ${text}; ${count(more, "more song", "more songs")} would pass`);
  }
}

const passes = new Map(); // how many songs pass, by filters

async function passingWith(some) {
  if (asksNothing(some)) return catalogue;
  const key = JSON.stringify(some);
  if (!passes.has(key)) passes.set(key, (await post("recommendations", { k: 1, filters: some })).passing);
  return passes.get(key);
}

// --- all of it ---

const shows = []; // each shows one control as the store has it

function show() {
  for (const one of shows) one();
  if (genres.length) showGenres();
  showCost();
  const changed = parts().length + Number(store.get("unheard")) + Number(store.get("noRepeats") > 0);
  $("n-tuned").textContent = changed ? String(changed) : "";
}

const costs = new Job(showPassing, () => {}); // what is shown of them is less, and the answer has the problem

export function startTune() {
  readHistory();
  const others = Object.keys(RANGES).filter((name) => !FIRST.includes(name));
  $("tune").append(
    element("h3", {}, "Tune ", element("span", { id: "n-tuned", class: "number" })),
    genreControl(),
    element("div", { class: "ranges" }, ...FIRST.map(rangeControl)),
    moodControl(),
    element(
      "details",
      { class: "sound" },
      element("summary", {}, "More of the sound"),
      element("div", { class: "ranges" }, ...others.map(rangeControl), ...Object.keys(CHOICES).map(choiceControl)),
    ),
    element("div", { class: "ranges again" }, ...againControls()),
  );
  $("options").after(
    element(
      "div",
      { id: "tuned", class: "tuned", hidden: true },
      element("ul", { id: "tuned-chips", class: "picks", "aria-label": "Filters" }),
      element("p", { id: "tuned-cost", class: "cost", role: "status" }),
    ),
  );
  $("tune").hidden = false;
  store.addEventListener("change", show);
  store.addEventListener("heard", show);
  recommendations.addEventListener("answer", () => {
    remember(recommendations.items);
    costs.run();
  });
  new Job(async () => {
    genres = (await get("genres")).items;
    showGenres();
  }, showProblem).run();
  new Job(async () => {
    const live = await get("version");
    catalogue = live.recommendable;
    passes.clear();
    costs.run();
    for (const control of $("tune").querySelectorAll("[data-range]")) {
      control.hidden = !isKnown(control.dataset.range, live.filters);
    }
  }, showProblem).run();
  show();
}

/** Whether the bundle knows something of its songs; all moods are of features. */
function isKnown(name, known) {
  return name === "mood" ? known.some((one) => FEATURES.includes(one)) : known.includes(name);
}
