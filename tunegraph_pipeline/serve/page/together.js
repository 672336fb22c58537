// Several listeners. Here: choosing their lists, a blend for all of them, and comparing two of them. Not here: keeping
// one's own lists (`store.js`).

import { ServiceError, post } from "./api.js";
import { $, count, element, icon, iconButton, say, textButton } from "./dom.js";
import { heartOf, learn, neverButton, replaceRows, row, titleOf } from "./songs.js";
import { idsOf, local, read, store, write } from "./store.js";

const GUESTS = "tunegraph-guests"; // lists of others, in localStorage
const MOST_LISTS = 20; // in one blend
const MOST_IDS = 1000; // of one list
const MOST_SENT = 8000; // ids in one request
const MOST_SONGS = 100; // in one blend
const STEP = 20; // songs of a blend at first, and more with each "More songs"
const FOLDED = 6; // songs in common beyond which the rest is folded
const OPTIONS = ["familiarity", "diversity", "max_per_artist", "explicit", "links", "filters", "exclude"];

let guests = []; // { id, name, likes, dislikes }
const chosen = new Set(); // ids of lists
let blend = null; // the last answer, and who it is for
let wanted = STEP;

// --- the lists to choose from ---

function readGuests() {
  const given = read(local, GUESTS);
  if (!Array.isArray(given)) return;
  guests = given.filter((one) => typeof one?.name === "string" && Array.isArray(one.likes) && one.likes.length);
}

function keepGuests() {
  write(local, GUESTS, JSON.stringify(guests));
}

/** Own lists and those of guests that have songs, each with a name of its own. */
function everyone() {
  const own = store.lists.filter((list) => list.likes.length);
  const taken = new Set();
  return [...own, ...guests].map(({ id, name, likes, dislikes }, place) => {
    let unique = name;
    for (let again = 2; taken.has(unique); again += 1) unique = `${name} ${again}`;
    taken.add(unique);
    return { id, name: unique, likes, dislikes, isGuest: place >= own.length };
  });
}

const together = () => everyone().filter((one) => chosen.has(one.id));

/** The list of a link that was copied from this page, null if it has none. */
function listOfLink(text) {
  const [, fragment = ""] = text.trim().split("#");
  const given = new URLSearchParams(fragment);
  const ids = (name) => idsOf(given, name).slice(-MOST_IDS);
  const [likes, dislikes] = [ids("likes"), ids("dislikes")];
  return likes.length ? { name: given.get("name")?.trim().slice(0, 40) ?? "", likes, dislikes } : null;
}

function addGuest() {
  const list = listOfLink($("guest-link").value);
  $("guest-note").hidden = list !== null;
  if (!list) {
    $("guest-note").textContent = $("guest-link").value.trim()
      ? "This link has no list. Ask for one made with “Copy link”, on this page."
      : "Paste a link first, made with “Copy link” on this page.";
    $("guest-link").focus();
    return;
  }
  const name = $("guest-name").value.trim() || list.name || `Guest ${guests.length + 1}`;
  const id = `guest-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  guests.push({ ...list, id, name });
  chosen.add(id);
  keepGuests();
  $("guest-link").value = $("guest-name").value = "";
  say(`${name}: added`);
  showMembers();
  $("guest-link").focus();
}

// --- names, initials and colours ---

/** Initials that are different for different names. */
function initialsOf(names) {
  const found = new Map();
  for (const name of names) {
    const parts = name.split(/\s+/).filter(Boolean);
    const first = [...(parts[0] ?? "?")];
    const tries = [
      parts.length > 1 ? first[0] + [...parts.at(-1)][0] : first.slice(0, 2).join(""),
      first.slice(0, 2).join(""),
      first.slice(0, 3).join(""),
    ].map((text) => text.toUpperCase());
    const taken = new Set(found.values());
    let text = tries.find((one) => !taken.has(one));
    for (let number = 2; !text; number += 1) if (!taken.has(first[0].toUpperCase() + number)) text = first[0].toUpperCase() + number;
    found.set(name, text);
  }
  return found;
}

/** A circle with the initials of a listener, for eyes; their name is written beside it. */
function badge(name, names) {
  const place = names.indexOf(name);
  return element("span", { class: `initials hue-${(place % 8) + 1}`, "aria-hidden": "true" }, initialsOf(names).get(name));
}

const percent = (part) => `${Math.round(100 * part)} %`;

function bar(part, kind = "") {
  const made = element("span", { class: `part-of ${kind}`, "aria-hidden": "true" });
  made.style.setProperty("--part", percent(Math.min(1, Math.max(0, part))).replace(" ", ""));
  return made;
}

/** "Ann, Ben and Cleo" */
function listed(names) {
  return names.length < 2 ? (names[0] ?? "") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

// --- choosing ---

function showMembers() {
  const all = everyone();
  const names = all.map((one) => one.name);
  const held = $("members").contains(document.activeElement) ? document.activeElement.dataset.list : null;
  $("members").replaceChildren(
    ...all.map((one) => {
      const box = element("input", { type: "checkbox", "data-list": one.id, checked: chosen.has(one.id) });
      box.addEventListener("change", () => {
        if (box.checked) chosen.add(one.id);
        else chosen.delete(one.id);
        showActs();
      });
      const drop = iconButton("drop", "remove", `Remove the list of ${one.name}`, () => {
        guests = guests.filter((guest) => guest.id !== one.id);
        keepGuests();
        showMembers();
        $("guest-link").focus();
      });
      return element(
        "li",
        {},
        element(
          "label",
          { class: "member" },
          box,
          badge(one.name, names),
          element("span", { class: "member-name" }, one.name, element("small", {}, count(one.likes.length, "song"))),
        ),
        one.isGuest ? drop : null,
      );
    }),
  );
  if (held) $("members").querySelector(`[data-list="${CSS.escape(held)}"]`)?.focus();
  $("no-members").hidden = all.length > 1;
  showActs();
}

function showActs() {
  const { length } = together();
  $("make-blend").disabled = length < 2 || length > MOST_LISTS;
  $("compare").disabled = length !== 2;
  $("together-hint").textContent =
    length < 2
      ? "Choose at least two lists."
      : length === 2
        ? "Blend the two, or compare them."
        : length > MOST_LISTS
          ? `At most ${MOST_LISTS} lists.`
          : `A blend for ${length}; two can be compared.`;
}

/** Ask the service, and show what it answers or why it does not. */
async function ask(path, body, show) {
  const result = $("together-result");
  result.setAttribute("aria-busy", "true");
  try {
    show(await post(path, body));
    $("together-problem").hidden = true;
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    $("together-problem").textContent = error.message;
    $("together-problem").hidden = false;
  }
  result.removeAttribute("aria-busy");
}

function asked(lists) {
  // Of long lists the newest count.
  const most = Math.min(MOST_IDS, Math.floor(MOST_SENT / (2 * lists.length)));
  return lists.map(({ name, likes, dislikes }) => ({ name, likes: likes.slice(-most), dislikes: dislikes.slice(-most) }));
}

// --- a blend ---

async function makeBlend() {
  const lists = together();
  const options = store.query(wanted);
  const chosenOptions = Object.fromEntries(OPTIONS.filter((name) => name in options).map((name) => [name, options[name]]));
  await ask("blends", { lists: asked(lists), k: wanted, ...chosenOptions }, (answer) => {
    learn(answer.items);
    blend = { answer, names: lists.map((one) => one.name) };
    showBlend();
    const { worst_off: worst } = answer;
    say(`A blend of ${count(answer.items.length, "song")} for ${listed(blend.names)}. ${worst.name} gets least.`);
  });
}

function showBlend() {
  const { answer, names } = blend;
  // What a list of their own of this length would be worth to each: see `scores` of the service.
  const best = sum(answer.items.map((_, place) => 1 / Math.log2(2 + place)));
  const fits = names.map((name) => [name, sum(answer.items.map((song) => song.scores[name] ?? 0)) / (best || 1)]);
  const list = element("ol", { id: "blend", class: "songs", "aria-label": "Songs for all of you" });
  const more = textButton("", null, "More songs", async () => {
    wanted = Math.min(MOST_SONGS, wanted + STEP);
    const before = answer.items.length;
    await makeBlend();
    document.querySelectorAll("#blend .song .name")[before]?.focus({ preventScroll: true });
  });
  more.hidden = answer.items.length < wanted || wanted === MOST_SONGS;
  $("together-result").replaceChildren(
    element("h3", {}, `A blend for ${names.length}`),
    element(
      "dl",
      { class: "fits" },
      ...fits.map(([name, fit]) =>
        element(
          "div",
          {},
          element("dt", {}, badge(name, names), name),
          element("dd", {}, bar(fit), element("span", {}, percent(fit))),
        ),
      ),
    ),
    element(
      "p",
      { class: "hint" },
      `How much of what a list of their own would give. Whoever has got least chooses next; ${answer.worst_off.name} gets least.`,
    ),
    list,
    element(
      "div",
      { class: "acts" },
      more,
      textButton("", "lists", "Keep as a list", () => {
        store.make(`For ${listed(names)}`, { likes: answer.items.map((song) => song.track_id) });
        say("Kept as a list of yours, which is open now");
      }),
    ),
  );
  showBlendRows();
}

function showBlendRows() {
  const list = $("blend");
  if (!list || !blend) return;
  const { answer, names } = blend;
  replaceRows(
    list,
    answer.items.map((song) => {
      const made = row(song, { where: "blend", actions: [heartOf(song), neverButton(song)] });
      const fans = names.length > 2 && song.for.length === names.length ? null : song.for;
      made
        .querySelector(".title")
        .append(
          element(
            "p",
            { class: "for" },
            ...(fans ?? names).map((name) => badge(name, names)),
            element("span", {}, fans ? `for ${listed(fans)}` : "for everybody"),
          ),
        );
      return made;
    }),
  );
}

function sum(values) {
  return values.reduce((all, value) => all + value, 0);
}

// --- comparing two ---

async function compare() {
  const lists = together();
  await ask("comparisons", { lists: asked(lists) }, (answer) => {
    blend = null;
    const names = lists.map((one) => one.name);
    learn(answer.common);
    learn(answer.bridges.flatMap((bridge) => [bridge.a, bridge.b]));
    showComparison(answer, names);
    say(`${listed(names)} are ${percent(answer.likeness)} alike`);
  });
}

function showComparison({ likeness, common, bridges, only }, names) {
  const songs = (some) => some.map((song) => row(song, { where: "common", actions: [heartOf(song)] }));
  const rest = common.slice(FOLDED);
  $("together-result").replaceChildren(
    element(
      "div",
      { class: "likeness" },
      element("p", { class: "figure" }, percent(likeness)),
      element("div", {}, element("h3", {}, howAlike(likeness)), element("p", { class: "hint" }, listed(names)), bar(likeness, "broad")),
    ),
    element("h4", {}, common.length ? `You both like ${count(common.length, "song")}` : "No song in common"),
    common.length
      ? element("ul", { class: "songs", "aria-label": "Songs in common" }, ...songs(common.slice(0, FOLDED)))
      : element("p", { class: "hint" }, "The bridges below come nearest."),
    rest.length
      ? element(
          "details",
          {},
          element("summary", {}, `${rest.length} more`),
          element("ul", { class: "songs", "aria-label": "More songs in common" }, ...songs(rest)),
        )
      : "",
    bridges.length ? element("h4", {}, "Bridges between you") : "",
    element(
      "ul",
      { class: "bridges" },
      ...bridges.map(({ a, b, cosine }) =>
        element(
          "li",
          {},
          element("span", { class: "bank" }, badge(names[0], names), element("span", {}, titleOf(a))),
          element("span", { class: "span" }, icon("bridge"), element("small", {}, `${percent(cosine)} alike`)),
          element("span", { class: "bank" }, badge(names[1], names), element("span", {}, titleOf(b))),
        ),
      ),
    ),
    element("h4", {}, "Typical of each"),
    element(
      "div",
      { class: "typical" },
      ...names.map((name) =>
        element(
          "div",
          {},
          element("p", { class: "of" }, badge(name, names), name),
          (only[name] ?? []).length
            ? element("ul", { class: "picks" }, ...only[name].map((one) => element("li", { class: "tag" }, one)))
            : element("p", { class: "hint" }, "Nothing that the other does not like too."),
        ),
      ),
    ),
  );
}

function howAlike(likeness) {
  return likeness > 0.8 ? "Much alike" : likeness > 0.5 ? "Alike in much" : likeness > 0.25 ? "A little alike" : "Different";
}

// --- all of it ---

export function startTogether() {
  readGuests();
  const field = (id, label, placeholder) => element("input", { id, "aria-label": label, placeholder, autocomplete: "off" });
  const form = element(
    "form",
    {
      class: "guest",
      onsubmit: (event) => {
        event.preventDefault();
        addGuest();
      },
    },
    field("guest-link", "A friend's link", "Paste a friend's link"),
    field("guest-name", "Whose list it is", "Whose?"),
    element("button", { type: "submit" }, "Add"),
  );
  $("together").removeAttribute("aria-label");
  $("together").setAttribute("aria-labelledby", "together-title");
  $("together").append(
    element("h2", { id: "together-title" }, "Together"),
    element(
      "div",
      { class: "two-parts" },
      element(
        "div",
        {},
        element("ul", { id: "members", class: "members", "aria-label": "Lists" }),
        element(
          "p",
          { id: "no-members", class: "hint" },
          "Songs for several of you: paste the link of a friend's list, or make another list of your own.",
        ),
        form,
        element("p", { id: "guest-note", class: "hint", role: "alert", hidden: true }),
        element(
          "div",
          { class: "acts" },
          element(
            "button",
            {
              type: "button",
              id: "make-blend",
              class: "main",
              onclick: () => {
                wanted = STEP;
                makeBlend();
              },
            },
            icon("together"),
            "Blend",
          ),
          element("button", { type: "button", id: "compare", onclick: compare }, icon("bridge"), "Compare"),
          element("p", { id: "together-hint", class: "hint" }),
        ),
      ),
      element(
        "div",
        {},
        element("p", { id: "together-problem", class: "note problem", role: "alert", hidden: true }),
        element("div", { id: "together-result", class: "result", tabindex: "-1" }),
      ),
    ),
  );
  $("together").hidden = false;
  for (const one of document.querySelectorAll("nav [data-goto=together]")) one.hidden = false;
  chosen.add(store.lists.find((list) => list.isOpen)?.id);
  store.addEventListener("change", () => {
    showMembers();
    showBlendRows();
  });
  showMembers();
}
