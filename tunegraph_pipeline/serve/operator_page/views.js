// The subjects of the page but the playground. Here: a function for each, which asks the service and returns the
// elements to show. Not here: elements and charts (`elements.js`, `charts.js`).

import * as api from "./api.js";
import { bars, interval, lines } from "./charts.js";
import {
  badge,
  bytes,
  card,
  code,
  count,
  dayOf,
  decimal,
  element,
  empty,
  figure,
  number,
  seconds,
  signed,
  table,
  time,
  version,
} from "./elements.js";

const MAIN_METRIC = /^map@/;
const PAGE = 50;

const KINDS = {
  success: "good",
  accepted: "good",
  first: "good",
  failure: "bad",
  refused: "bad",
  canceled: "bad",
  overridden: "odd",
  "rolled back": "odd",
};
const outcome = (text) => badge(text, KINDS[text] ?? "");

// --- overview ---

export async function overview({ signal, lake, attempt, go }) {
  const said = await api.subject("overview", signal);
  lake(said.lake);
  const live = said.bundles.find((one) => one.live);
  const quality = element("div", { class: "figures" });
  const later = element("div", {}, empty("Reading the last run…"));
  // The rest comes when it comes: loading the history of runs takes seconds the first time.
  attempt(async () => {
    const [judged, queue] = [await api.subject("quality", signal), await api.subject("feedback", signal)];
    const log = await api.subject("publications", signal);
    quality.replaceChildren(...figures(live, judged, queue, log));
    const { history, items } = await api.subject("runs", signal);
    later.replaceChildren(
      items.length
        ? element("div", {}, element("p", {}, headline(items[0])), steps(items[0]))
        : empty(history ? "No run yet." : "This lake has no history of runs."),
    );
  });
  return [
    live ? null : element("p", { class: "note problem" }, "No bundle is live: the service answers no query."),
    quality,
    card(
      "Status",
      element(
        "dl",
        { class: "lines" },
        ...Object.entries(said.status).flatMap(([what, line]) => [element("dt", {}, what), element("dd", {}, line)]),
      ),
    ),
    card("Bundles that are kept", bundles(said.bundles)),
    card("The last run", later, element("p", {}, element("a", { href: "#/runs" }, "All runs"))),
  ].filter(Boolean);
}

function figures(live, judged, queue, log) {
  const metric = judged.metrics.find((name) => MAIN_METRIC.test(name)) ?? judged.metrics[0];
  const served = judged.points.map((point) => point.values[metric]?.served).filter((value) => value !== undefined);
  const [last, before] = [served.at(-1), served.at(-2)];
  const change = before === undefined ? "the first one judged" : `${signed(last - before)} since the bundle before`;
  const newest = log.items[0];
  const { spool } = queue;
  return [
    figure(
      "Live bundle",
      live ? live.version.slice(0, 10) : "none",
      live ? `model ${live.model.slice(0, 17)}` : null,
      live ? "" : "bad",
    ),
    figure(`Quality, ${metric ?? "not judged"}`, decimal(last), last === undefined ? "no like was held out" : change),
    figure(
      "Last publication",
      newest ? newest.outcome : "none",
      newest ? newest.when.slice(0, 10) : null,
      newest?.outcome === "refused" ? "bad" : "",
    ),
    figure(
      "Feedback waiting",
      number(spool.waiting),
      spool.oldest ? `since ${spool.oldest}` : "nothing waits",
      spool.bytes > 0.8 * spool.limit ? "bad" : "",
    ),
  ];
}

function bundles(items) {
  if (!items.length) return empty("None; a refresh makes one.");
  return table(
    "Bundles that are kept",
    [
      ["bundle", (one) => element("span", {}, code(one.version), one.live ? badge("live", "good") : "")],
      ["model", (one) => code(one.model)],
      ["likes until", (one) => one.cut_off],
      ["written", (one) => time(one.written)],
      ["MiB", (one) => number(one.mib), "number"],
    ],
    items,
    { stacks: true },
  );
}

// --- quality ---

export async function quality({ signal }) {
  const { metrics, models, points } = await api.subject("quality", signal);
  if (!points.length) return [empty("No bundle was judged yet: a refresh judges each one that has held-out likes.")];
  const choice = element("select", { id: "metric" }, ...metrics.map((name) => element("option", {}, name)));
  choice.value = metrics.find((name) => MAIN_METRIC.test(name)) ?? metrics[0];
  const shown = element("div");
  const labels = points.map((point) => dayOf(point.bundle, point.when));
  const draw = () => {
    const series = models
      .map((name) => ({ name, values: points.map((point) => point.values[choice.value]?.[name] ?? null) }))
      .filter((one) => one.values.some((value) => value !== null));
    shown.replaceChildren(lines(`${choice.value} of each bundle`, labels, series));
  };
  choice.addEventListener("change", draw);
  draw();
  return [
    element(
      "section",
      { class: "card" },
      element(
        "div",
        { class: "row" },
        element("h2", {}, "Over time"),
        element("label", { class: "choice" }, "Metric ", choice),
      ),
      shown,
      element(
        "p",
        { class: "hint" },
        `${count(points.length, "bundle")}. Each is judged on the held-out likes of its own day, so a step of a baseline tells how much the likes changed.`,
      ),
    ),
  ];
}

// --- publications and the gate ---

export async function publications({ signal }) {
  const { live, total, items } = await api.subject("publications", signal);
  if (!items.length) return [empty("Nothing was published yet.")];
  const rows = items.map((one) =>
    element(
      "li",
      { class: "card event" },
      element(
        "p",
        { class: "row" },
        element("span", {}, outcome(one.outcome), " ", time(one.when)),
        one.bundle === live ? badge("live", "good") : one.kept ? badge("kept") : null,
      ),
      element("p", {}, "bundle ", code(one.bundle), " of model ", code(one.model)),
      one.replaced && one.replaced !== one.bundle
        ? element("p", { class: "hint" }, "replaced ", version(one.replaced))
        : null,
      one.reason && one.reason !== one.gate?.refusal ? element("p", {}, one.reason) : null,
      one.gate ? verdict(one.gate) : null,
    ),
  );
  return [
    element("p", {}, "CURRENT names ", live ? code(live) : "no bundle", `. ${count(total, "publication")} in all.`),
    items.some((one) => one.gate)
      ? empty("A bar shows where challenger less champion lies; the gate refuses one that lies wholly in the red.")
      : null,
    element("ul", { class: "events" }, ...rows),
  ].filter(Boolean);
}

function verdict(gate) {
  const found = gate.figures[gate.metric];
  const text = gate.refusal
    ? `Refused: ${gate.refusal}.`
    : gate.users < gate.min_users
      ? `Accepted: ${count(gate.users, "user")} with held-out likes, too few to judge by.`
      : found?.low > 0
        ? "Accepted: clearly better than the live model."
        : "Accepted: not clearly worse than the live model.";
  const judged = Object.entries(gate.figures);
  return element(
    "div",
    { class: "verdict" },
    element("p", {}, text, gate.override ? ` Published all the same: ${gate.override}` : ""),
    found && found.low !== null && found.high !== null
      ? element(
          "div",
          { class: "row left" },
          interval(found.low, found.challenger - found.champion, found.high, -gate.margin * found.champion),
          element(
            "span",
            {},
            `${gate.metric} ${decimal(found.challenger)} against ${decimal(found.champion)}, ${signed(found.low)} to ${signed(found.high)}`,
          ),
        )
      : null,
    judged.length
      ? element(
          "details",
          {},
          element("summary", {}, `All figures, of ${count(gate.users, "user")}, by ${gate.protocol === "sets" ? "the rest of their lists" : "what they liked next"}`),
          table(
            "The gate's figures",
            [
              ["metric", ([name]) => name],
              ["champion", ([, one]) => decimal(one.champion), "number"],
              ["challenger", ([, one]) => decimal(one.challenger), "number"],
              ["difference from", ([, one]) => signed(one.low), "number"],
              ["to", ([, one]) => signed(one.high), "number"],
            ],
            judged,
          ),
        )
      : null,
  );
}

// --- drift ---

export async function drift({ signal }) {
  const { models, points } = await api.subject("drift", signal);
  const known = new Map(points.map((one) => [one.version, one]));
  for (const { version: name, written, moved } of models)
    if (moved && !known.has(name))
      known.set(name, { version: name, when: written, mean_cosine: moved.mean_cosine, overlap: moved.overlap });
  const all = [...known.values()].sort((a, b) => (a.when < b.when ? -1 : 1));
  const shown = [];
  if (all.length)
    shown.push(
      card(
        "Over time",
        lines(
          "Likeness of each model to the one before",
          all.map((one) => dayOf(one.version, one.when)),
          [
            { name: "mean cosine", values: all.map((one) => one.mean_cosine) },
            { name: "overlap@10", values: all.map((one) => one.overlap) },
          ],
          { digits: 3 },
        ),
        element(
          "p",
          { class: "hint" },
          "1 is no change. Overlap@10 is the share of the ten nearest songs that stayed the same.",
        ),
      ),
    );
  for (const one of [...models].reverse())
    shown.push(
      element(
        "section",
        { class: "card" },
        element("h2", {}, "Model ", code(one.version)),
        element(
          "p",
          {},
          one.parent
            ? element("span", {}, "warm start from ", version(one.parent))
            : (one.trained ?? "trained from scratch"),
          `, ${count(one.epochs ?? 0, "epoch")}`,
          one.validation === null
            ? ""
            : `, MAP@10 ${decimal(one.validation)} on validation (popularity ${decimal(one.popularity)})`,
        ),
        one.moved === null
          ? empty("Trained in a space of its own: there is nothing to compare it with.")
          : element(
              "div",
              {},
              element(
                "p",
                {},
                `mean cosine ${decimal(one.moved.mean_cosine, 3)}, overlap@10 ${decimal(one.moved.overlap, 3)}; one of the nearest ten changed for ${(one.moved.neighbours_changed * 100).toFixed(0)} % of songs`,
              ),
              element(
                "details",
                {},
                element("summary", {}, "The songs that moved most"),
                table(
                  "The songs that moved most",
                  [
                    ["song", (song) => song.name || song.track_id],
                    ["artists", (song) => song.artists],
                    ["cosine to before", (song) => decimal(song.cosine, 3), "number"],
                  ],
                  one.moved.songs,
                ),
              ),
            ),
      ),
    );
  return shown.length ? shown : [empty("There is no model yet.")];
}

// --- runs ---

export async function runs({ signal }) {
  const { history, items } = await api.subject("runs", signal);
  if (!history) return [empty("This lake has no history of runs: it was copied without, or no job ran yet.")];
  if (!items.length) return [empty("No run yet.")];
  return items.map((run, place) =>
    element("details", { class: "card run", open: place === 0 }, element("summary", {}, headline(run)), steps(run)),
  );
}

/** The job, its days and when it ran, in a line. */
function headline(run) {
  return element(
    "span",
    {},
    outcome(run.outcome),
    " ",
    element("strong", {}, run.job),
    run.days ? ` of ${run.days}` : "",
    " · ",
    time(run.started) ?? "not started",
    run.seconds === null ? "" : ` · ${seconds(run.seconds)}`,
  );
}

function steps(run) {
  const stages = run.steps.filter((step) => !step.check);
  const checks = run.steps.filter((step) => step.check);
  const failed = checks.filter((step) => step.outcome !== "success");
  return element(
    "div",
    {},
    run.problem ? element("p", { class: "note problem" }, run.problem) : null,
    stages.length
      ? table(
          `Steps of ${run.job}`,
          [
            ["step", (step) => step.name],
            ["outcome", (step) => (step.outcome ? outcome(step.outcome) : null)],
            ["result", (step) => step.made],
            ["seconds", (step) => (step.seconds === null ? null : step.seconds.toFixed(1)), "number"],
            ["rows", (step) => number(step.rows), "number"],
            ["version", (step) => version(step.version)],
          ],
          stages,
        )
      : empty("No step has begun."),
    checks.length
      ? element(
          "p",
          { class: "hint" },
          `${count(checks.length, "check")}, ${failed.length ? `not passed: ${failed.map((step) => step.name).join(", ")}` : "all passed"}.`,
        )
      : null,
  );
}

// --- feedback ---

export async function feedback({ signal }) {
  const { spool, rejected, days, listeners, since } = await api.subject("feedback", signal);
  const fullness = spool.bytes / spool.limit;
  const total = days.reduce((sum, one) => sum + one.like + one.dislike + one.skip, 0);
  const reasons = Object.entries(rejected.reasons);
  return [
    element(
      "div",
      { class: "figures" },
      figure("Waiting", number(spool.waiting), spool.oldest ? `the oldest from ${spool.oldest}` : "nothing waits"),
      figure(
        "The spool",
        bytes(spool.bytes),
        `${(fullness * 100).toFixed(fullness < 0.1 ? 1 : 0)} % of ${bytes(spool.limit)}`,
        fullness >= 0.8 ? "bad" : "",
      ),
      figure(
        "Put aside",
        number(rejected.lines),
        rejected.lines ? `in ${count(rejected.files, "file")}` : "every line could be read",
        rejected.lines ? "odd" : "",
      ),
      figure("Collected", number(total), since ? `of ${count(listeners, "listener")} since ${since}` : "no day yet"),
    ),
    card(
      "Collected each day",
      days.length
        ? bars(
            "Feedback collected each day",
            days.map((one) => one.day),
            ["like", "dislike", "skip"].map((name) => ({ name, values: days.map((one) => one[name]) })),
          )
        : empty("None in these days."),
    ),
    reasons.length
      ? card(
          "Why lines were put aside",
          table(
            "Why lines were put aside",
            [
              ["reason", ([why]) => why],
              ["lines", ([, n]) => number(n), "number"],
            ],
            reasons,
          ),
        )
      : null,
  ].filter(Boolean);
}

// --- users ---

export async function users({ signal, attempt, go, say }) {
  const search = element("input", {
    id: "search-users",
    type: "search",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "A part of an id",
  });
  const sort = element(
    "select",
    { id: "sort" },
    element("option", { value: "likes" }, "most likes first"),
    element("option", { value: "id" }, "by id"),
  );
  const shown = element("div");
  let offset = 0;
  let latest = 0;
  const load = async () => {
    const turn = (latest += 1);
    const found = await api.users({ search: search.value, sort: sort.value, offset, limit: PAGE }, signal);
    if (turn !== latest) return;
    const until = Math.min(offset + PAGE, found.total);
    const step = (by, label, possible) =>
      element("button", { type: "button", disabled: !possible, onclick: () => move(offset + by) }, label);
    shown.replaceChildren(
      found.items.length ? usersTable(found.items, go) : empty("No user has this in the id."),
      element(
        "div",
        { class: "row pager" },
        element(
          "span",
          { class: "hint" },
          found.total ? `${number(offset + 1)} to ${number(until)} of ${count(found.total, "user")}` : "0 users",
        ),
        element("span", {}, step(-PAGE, "Previous", offset > 0), " ", step(PAGE, "Next", until < found.total)),
      ),
    );
    say(count(found.total, "user"));
  };
  const move = (to) => {
    offset = Math.max(0, to);
    return attempt(load);
  };
  let pause = 0;
  search.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => move(0), 150);
  });
  sort.addEventListener("change", () => move(0));
  await load();
  return [
    element(
      "section",
      { class: "card" },
      element(
        "div",
        { class: "row left" },
        element("label", { class: "choice grows" }, "Find ", search),
        element("label", { class: "choice" }, "Order ", sort),
      ),
      shown,
    ),
  ];
}

function usersTable(items, go) {
  return table(
    "Users",
    [
      [
        "user",
        (one) =>
          element(
            "span",
            { class: "id" },
            one.user_id,
            one.aliases.length ? element("small", {}, ` also ${one.aliases.join(", ")}`) : "",
          ),
      ],
      ["likes", (one) => number(one.likes), "number"],
      ["last seen", (one) => one.last_observed],
      ["sources", (one) => one.sources.join(", ")],
      [
        "playground",
        (one) =>
          element(
            "button",
            {
              type: "button",
              "aria-label": `Try ${one.user_id} in the playground`,
              onclick: () => go("playground", one.user_id),
            },
            "Try",
          ),
      ],
    ],
    items,
    { stacks: true },
  );
}

// --- tables ---

export async function tables({ signal }) {
  const { items } = await api.subject("tables", signal);
  if (!items.length) return [empty("The lake has no table yet.")];
  const all = items.reduce((sum, one) => sum + one.bytes, 0);
  return [
    card(
      `${count(items.length, "table")}, ${bytes(all)}`,
      table(
        "Tables of the lake",
        [
          ["table", (one) => element("span", {}, code(one.name), element("small", { class: "under" }, one.row))],
          ["newest", (one) => (one.newest ? version(one.newest) : null)],
          ["its rows", (one) => number(one.newest_rows), "number"],
          ["partitions", (one) => (one.partitioned_by ? `${number(one.partitions)} by ${one.partitioned_by}` : null)],
          ["all rows", (one) => number(one.rows), "number"],
          ["size", (one) => bytes(one.bytes), "number"],
        ],
        items,
        { stacks: true },
      ),
    ),
  ];
}
