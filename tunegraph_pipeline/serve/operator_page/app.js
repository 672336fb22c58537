// The operator page: the key, the subjects, and which of them is shown. Not here: the subjects (`views.js`,
// `playground.js`), or requests (`api.js`). The address names a subject, and never the key or a user.

import * as api from "./api.js";
import { $, element } from "./elements.js";
import { playground } from "./playground.js";
import * as views from "./views.js";

/** What each subject is about, by its address. */
const SUBJECTS = {
  overview: "What the lake holds and what is live.",
  playground: "Ask any bundle that is kept, and see what its scores are made of.",
  quality: "How what was live ranked likes that no model had seen, beside the baselines.",
  publications: "What went live when, and what the gate said of each new model.",
  drift: "How far the embeddings of each model moved from those of the model before.",
  runs: "The last runs, and what each of their steps did.",
  feedback: "What listeners said: waiting for the next refresh, put aside, and collected.",
  users: "Who likes how much, and when the list was last seen.",
  tables: "The tables of the lake, their rows and sizes.",
};
const VIEWS = { ...views, playground };

const titleOf = (subject) => subject[0].toUpperCase() + subject.slice(1);

let showing = new AbortController();

function problem(text) {
  $("problem").textContent = text ?? "";
  $("problem").hidden = !text;
}

function say(text) {
  $("said").textContent = text;
}

/** What a subject may do with the page around it. */
function around(signal, address) {
  return {
    signal,
    say,
    lake: (name) => {
      $("lake").textContent = name;
    },
    /** Go to another subject, with what it is to begin with. */
    go: (subject, given = null) => {
      passed = given;
      location.hash = `/${subject}`;
    },
    /** Run something that asks the service; a problem is shown, and the key asked for again if it is refused. */
    attempt: async (act) => {
      try {
        problem(null);
        return await act();
      } catch (error) {
        failed(error, signal);
        return null;
      }
    },
    given: address === "playground" ? takePassed() : null,
  };
}

let passed = null;

function takePassed() {
  const given = passed;
  passed = null;
  return given;
}

function failed(error, signal) {
  if (signal.aborted || error.name === "AbortError") return;
  if (error instanceof api.KeyError) askForKey(error.message);
  else if (error instanceof api.ServiceError) problem(error.message);
  else {
    problem("The page cannot show this.");
    throw error;
  }
}

async function show({ focus = true } = {}) {
  if (!api.hasKey()) {
    askForKey();
    return;
  }
  showing.abort();
  showing = new AbortController();
  const { signal } = showing;
  const wanted = location.hash.replace(/^#\/?/, "");
  const address = Object.hasOwn(SUBJECTS, wanted) ? wanted : "overview";
  const title = titleOf(address);
  $("login").hidden = true;
  $("inside").hidden = $("settings").hidden = false;
  $("title").textContent = title;
  $("about").textContent = SUBJECTS[address];
  document.title = `${title} – TuneGraph`;
  problem(null);
  for (const link of $("subjects").querySelectorAll("a")) {
    const current = link.dataset.subject === address;
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (current) link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  if (focus) $("main").focus({ preventScroll: true });
  $("content").replaceChildren(element("p", { class: "hint loading" }, "Reading…"));
  $("main").setAttribute("aria-busy", "true");
  try {
    const shown = await VIEWS[address](around(signal, address));
    if (signal.aborted) return;
    $("content").replaceChildren(...shown);
    $("as-of").textContent = `as of ${new Date().toLocaleTimeString("en-GB")}`;
    say(`${title} is shown.`);
  } catch (error) {
    if (!signal.aborted) $("content").replaceChildren();
    failed(error, signal);
  } finally {
    if (!signal.aborted) $("main").removeAttribute("aria-busy");
  }
}

function askForKey(text = null) {
  showing.abort();
  api.forgetKey();
  $("content").replaceChildren(); // nothing stays to be read behind it
  $("lake").textContent = "";
  $("inside").hidden = $("settings").hidden = true;
  $("login").hidden = false;
  $("login-problem").textContent = text ?? "";
  $("login-problem").hidden = !text;
  $("key").value = "";
  $("key").focus();
}

$("subjects").append(
  ...Object.keys(SUBJECTS).map((address) =>
    element("li", {}, element("a", { href: `#/${address}`, "data-subject": address }, titleOf(address))),
  ),
);
$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useKey($("key").value.trim(), $("keep").checked);
  $("key").value = "";
  show();
});
$("leave").addEventListener("click", () => askForKey());
$("reload").addEventListener("click", () => show({ focus: false }));
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#/") || !location.hash) show();
});
show({ focus: false });
