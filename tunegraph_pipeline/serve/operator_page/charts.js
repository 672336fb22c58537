// Charts as SVG. Here: lines over time, stacked bars a day, an interval, and the parts of a score. Each has its
// figures in words for who does not see it, and a table below the larger ones. Not here: what is drawn.

import { decimal, element, table } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 240;
const LEFT = 52;
const RIGHT = 96;
const TOP = 12;
const BOTTOM = 28;

function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [what, value] of Object.entries(attributes)) made.setAttribute(what, value);
  made.append(...children);
  return made;
}

/** The width of a chart: so that its letters are of their size on a phone too. */
const widthHere = () => Math.max(300, Math.min(1180, innerWidth - 66));

/** Of how many labels below a chart one is drawn, so that they do not touch. */
const sparse = (n, width, each) => Math.ceil(n / Math.max(1, Math.floor(width / each)));

/** From 3 to 6 round numbers that cover low to high. */
function ticks(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((one) => one >= rough);
  const found = [];
  for (let at = Math.floor(low / step) * step; at <= high + step * 0.999; at += step)
    found.push(Number(at.toPrecision(12)));
  return found;
}

/** Moves the labels at the ends of lines apart. */
function apart(wanted, least, lowest) {
  const order = wanted.map((_, place) => place).sort((a, b) => wanted[a] - wanted[b]);
  const placed = [...wanted];
  for (let i = 1; i < order.length; i += 1) placed[order[i]] = Math.max(placed[order[i]], placed[order[i - 1]] + least);
  const over = Math.max(0, (placed[order.at(-1)] ?? 0) - lowest);
  return placed.map((place) => place - over);
}

/**
 * Lines over points at equal distances: `labels` name the points, `series` are {name, values} with null for what
 * is missing; the first is drawn as the one that matters. `from` is where the axis begins at the latest.
 */
export function lines(title, labels, series, { from = 0, digits = 4 } = {}) {
  const known = series.flatMap((one) => one.values).filter((value) => value !== null && value !== undefined);
  if (!known.length) return element("p", { class: "hint" }, "There is nothing to draw yet.");
  const width = widthHere();
  const marks = ticks(Math.min(from, ...known), Math.max(...known));
  const [low, high] = [marks[0], marks.at(-1)];
  const x = (place) => LEFT + (width - LEFT - RIGHT) * (labels.length > 1 ? place / (labels.length - 1) : 0.5);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low || 1));
  const last = series.map((one) => one.values.findLast((value) => value !== null && value !== undefined));
  const said = series.map((one, i) => `${one.name} ${decimal(last[i], digits)}`).join(", ");
  const picture = shape("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`,
    class: "chart",
    role: "img",
    "aria-label": `${title}. Last: ${said}`,
  });
  for (const mark of marks) {
    picture.append(
      shape("line", { x1: LEFT, x2: width - RIGHT, y1: y(mark), y2: y(mark), class: "grid" }),
      shape("text", { x: LEFT - 8, y: y(mark) + 4, "text-anchor": "end" }, String(Number(mark.toPrecision(4)))),
    );
  }
  const every = sparse(labels.length, width - LEFT - RIGHT, 90);
  labels.forEach((label, place) => {
    if ((labels.length - 1 - place) % every) return;
    picture.append(shape("text", { x: x(place), y: HEIGHT - 8, "text-anchor": "middle" }, label.slice(0, 10)));
  });
  const ends = apart(
    last.map((value) => (value === undefined ? TOP : y(value) + 4)),
    14,
    HEIGHT - BOTTOM + 4,
  );
  series.forEach((one, i) => {
    let path = "";
    let pen = false;
    one.values.forEach((value, place) => {
      if (value === null || value === undefined) pen = false;
      else {
        path += `${pen ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = true;
      }
    });
    picture.append(shape("path", { d: path, class: `line of-${i % 6}`, fill: "none" }));
    one.values.forEach((value, place) => {
      if (value === null || value === undefined) return;
      const text = `${one.name}, ${labels[place]}: ${decimal(value, digits)}`;
      picture.append(
        shape(
          "circle",
          { cx: x(place), cy: y(value), r: i ? 2.5 : 4, class: `dot of-${i % 6}` },
          shape("title", {}, text),
        ),
      );
    });
    if (last[i] !== undefined)
      picture.append(shape("text", { x: width - RIGHT + 10, y: ends[i], class: `name of-${i % 6}` }, one.name));
  });
  const columns = [
    ["", (place) => labels[place]],
    ...series.map((one) => [one.name, (place) => decimal(one.values[place], digits), "number"]),
  ];
  return element(
    "figure",
    {},
    picture,
    element(
      "details",
      {},
      element("summary", {}, "The figures"),
      table(title, columns, labels.map((_, place) => place).reverse()),
    ),
  );
}

/** Stacked bars: `labels` name the bars, `series` are {name, values} from the bottom up. */
export function bars(title, labels, series) {
  const totals = labels.map((_, place) => series.reduce((sum, one) => sum + one.values[place], 0));
  const marks = ticks(0, Math.max(1, ...totals));
  const high = marks.at(-1);
  const height = 180;
  const width = widthHere();
  const step = (width - LEFT - 12) / Math.max(labels.length, 7);
  const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - value / high);
  const said = series.map((one) => `${one.name} ${one.values.reduce((sum, value) => sum + value, 0)}`).join(", ");
  const picture = shape("svg", {
    viewBox: `0 0 ${width} ${height}`,
    class: "chart",
    role: "img",
    "aria-label": `${title}. In all: ${said}`,
  });
  for (const mark of marks) {
    picture.append(
      shape("line", { x1: LEFT, x2: width - 12, y1: y(mark), y2: y(mark), class: "grid" }),
      shape("text", { x: LEFT - 8, y: y(mark) + 4, "text-anchor": "end" }, String(mark)),
    );
  }
  const every = sparse(labels.length, width - LEFT, 60);
  labels.forEach((label, place) => {
    let below = 0;
    series.forEach((one, i) => {
      const value = one.values[place];
      const bar = {
        x: LEFT + place * step + step * 0.15,
        width: step * 0.7,
        y: y(below + value),
        height: y(below) - y(below + value),
      };
      below += value;
      if (value)
        picture.append(
          shape("rect", { ...bar, class: `area of-${i}` }, shape("title", {}, `${label}: ${one.name} ${value}`)),
        );
    });
    if ((labels.length - 1 - place) % every === 0)
      picture.append(
        shape("text", { x: LEFT + (place + 0.5) * step, y: height - 8, "text-anchor": "middle" }, label.slice(5)),
      );
  });
  const legend = series.map((one, i) => element("li", { class: `of-${i}` }, one.name));
  return element("figure", {}, picture, element("ul", { class: "legend", "aria-hidden": "true" }, ...legend));
}

/** An interval beside zero and the allowed loss: where the difference of two models lies. */
export function interval(low, middle, high, allowed) {
  const width = 220;
  const reach = Math.max(Math.abs(low), Math.abs(high), Math.abs(allowed)) * 1.15 || 1;
  const x = (value) => width / 2 + (value / reach) * (width / 2 - 4);
  const said = `between ${decimal(low)} and ${decimal(high)}; refused below ${decimal(allowed)}`;
  return shape(
    "svg",
    { viewBox: `0 0 ${width} 26`, class: "interval", role: "img", "aria-label": `Challenger less champion: ${said}` },
    shape("title", {}, said),
    shape("rect", { x: 0, y: 3, width: Math.max(0, x(allowed)), height: 20, class: "forbidden" }),
    shape("line", { x1: x(0), x2: x(0), y1: 2, y2: 24, class: "zero" }),
    shape("line", { x1: x(low), x2: x(high), y1: 13, y2: 13, class: "range" }),
    shape("circle", { cx: x(middle), cy: 13, r: 4, class: "dot of-0" }),
  );
}

/** The parts of a score as one bar, `most` being the length of the longest of a list. */
export function parts(values, most) {
  const width = 160;
  const said = values.map(([name, value]) => `${name} ${decimal(value, 3)}`).join(", ");
  const picture = shape("svg", {
    viewBox: `0 0 ${width} 10`,
    class: "parts",
    role: "img",
    "aria-label": said,
    preserveAspectRatio: "none",
  });
  let at = 0;
  values.forEach(([name, value], i) => {
    const long = (Math.abs(value) / (most || 1)) * width;
    picture.append(
      shape(
        "rect",
        { x: at, y: 0, width: long, height: 10, class: `area of-${i}${value < 0 ? " less" : ""}` },
        shape("title", {}, `${name} ${decimal(value, 3)}`),
      ),
    );
    at += long;
  });
  return picture;
}
