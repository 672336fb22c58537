// The API reference, rendered from /openapi.json. Everything is inserted as text, never as HTML.
"use strict";

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

// Descriptions are plain sentences with `code` in them.
const prose = (text) => {
  const paragraph = make("p");
  text.split("`").forEach((part, at) => paragraph.append(at % 2 ? make("code", {}, part) : part));
  return paragraph;
};

let description;

const resolved = (schema) =>
  schema.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema;

const typeOf = (schema) => {
  schema = resolved(schema);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  const limits = [];
  if (schema.minimum !== undefined) limits.push(`from ${schema.minimum}`);
  if (schema.maximum !== undefined) limits.push(`to ${schema.maximum}`);
  if (schema.maxLength !== undefined) limits.push(`up to ${schema.maxLength} characters`);
  return [schema.type ?? "anything", ...limits].join(" ");
};

const fieldList = (schema) => {
  schema = resolved(schema);
  if (schema.type === "array") return fieldList(schema.items);
  if (!schema.properties) return [];
  const list = make("ul", { class: "schema" });
  for (const [name, field] of Object.entries(schema.properties)) {
    const entry = make("li", {}, make("code", {}, name), " ", make("span", { class: "type" }, typeOf(field)));
    if (schema.required?.includes(name) && "default" in field === false) entry.append(" · always");
    if (field.default !== undefined) entry.append(` · ${JSON.stringify(field.default)} by default`);
    if (field.maxItems !== undefined) entry.append(` · ${field.maxItems} at most`);
    if (field.description) entry.append(prose(field.description));
    entry.append(...fieldList(field));
    list.append(entry);
  }
  return [list];
};

const example = (schema) => {
  schema = resolved(schema);
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.type === "array") return [example(schema.items)];
  if (schema.type === "object") {
    return Object.fromEntries(Object.entries(schema.properties).map(([name, field]) => [name, example(field)]));
  }
  return { string: "", integer: 1, number: 0.5, boolean: true }[schema.type] ?? null;
};

const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const request = (method, path, parameters, body) => {
  let filled = path;
  const query = new URLSearchParams();
  for (const { name, place, input } of parameters) {
    if (place === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") query.append(name, input.value);
  }
  const url = `.${filled}${query.size ? `?${query}` : ""}`;
  const headers = {};
  const key = document.getElementById("key").value;
  if (key) headers["X-API-Key"] = key;
  if (body) headers["Content-Type"] = "application/json";
  return { url, options: { method: method.toUpperCase(), headers, ...(body ? { body: body.value } : {}) } };
};

const asCurl = ({ url, options }) => {
  const words = ["curl", shellQuoted(new URL(url, location.href).href)];
  if (options.headers["X-API-Key"]) words.push("-H", '"X-API-Key: $TUNEGRAPH_API_KEY"');
  if (options.body) words.push("-H", shellQuoted("Content-Type: application/json"), "-d", shellQuoted(options.body));
  return words.join(" ");
};

const trial = (method, path, operation) => {
  const form = make("form");
  const parameters = (operation.parameters ?? []).map(({ name, in: place, required, schema }) => {
    const id = `${operation.operationId}-${name}`;
    const input = make("input", { id, spellcheck: "false", placeholder: schema.default ?? "" });
    if (required) input.required = true;
    form.append(make("label", { for: id }, `${name} (${place})`), input);
    return { name, place, input };
  });
  let body = null;
  if (operation.requestBody) {
    const schema = operation.requestBody.content["application/json"].schema;
    const id = `${operation.operationId}-body`;
    body = make("textarea", { id, spellcheck: "false" });
    body.value = JSON.stringify(example(schema), null, 2);
    form.append(make("label", { for: id }, "body"), body);
  }
  const shown = make("div", { "aria-live": "polite" });
  form.append(make("button", { type: "submit" }, "Send"), shown);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = request(method, path, parameters, body);
    const started = performance.now();
    try {
      const response = await fetch(asked.url, asked.options);
      const text = await response.text();
      const kind = response.headers.get("Content-Type") ?? "";
      const status = `${response.status} ${response.statusText} · ${(performance.now() - started).toFixed(0)} ms`;
      const answer = kind.includes("json") && text ? JSON.stringify(JSON.parse(text), null, 2) : text;
      shown.replaceChildren(
        make("pre", {}, asCurl(asked)),
        make("p", { class: response.ok ? "status" : "status bad" }, status),
        make("pre", {}, answer),
      );
    } catch (error) {
      shown.replaceChildren(make("p", { class: "bad" }, `No response: ${error.message}`));
    }
  });
  return form;
};

const drawn = (method, path, operation) => {
  const inside = make("div", { class: "inside" });
  if (operation.description) inside.append(prose(operation.description));
  if (operation.security) inside.append(prose("Needs the API key: `X-API-Key: KEY` or `Authorization: Bearer KEY`."));
  if (operation.parameters?.length) {
    const list = make("ul", { class: "schema" });
    for (const parameter of operation.parameters) {
      const entry = make("li", {}, make("code", {}, parameter.name), " ");
      entry.append(make("span", { class: "type" }, typeOf(parameter.schema)));
      if (parameter.schema.default !== undefined) entry.append(` · ${JSON.stringify(parameter.schema.default)} by default`);
      if (parameter.description) entry.append(prose(parameter.description));
      list.append(entry);
    }
    inside.append(make("h3", {}, "Parameters"), list);
  }
  if (operation.requestBody) {
    inside.append(make("h3", {}, "Body"), ...fieldList(operation.requestBody.content["application/json"].schema));
  }
  inside.append(make("h3", {}, "Responses"));
  for (const [status, response] of Object.entries(operation.responses)) {
    inside.append(make("p", {}, make("code", {}, status), ` ${response.description}`));
    const schema = response.content?.["application/json"]?.schema;
    if (schema) inside.append(...fieldList(schema));
  }
  inside.append(make("h3", {}, "Try it"), trial(method, path, operation));
  return make(
    "details",
    { id: operation.operationId },
    make(
      "summary",
      {},
      make("span", { class: "method" }, method.toUpperCase()),
      make("span", { class: "path" }, path),
      make("span", { class: "says" }, operation.summary ?? ""),
    ),
    inside,
  );
};

const draw = async () => {
  const place = document.getElementById("operations");
  try {
    description = await (await fetch("openapi.json")).json();
  } catch (error) {
    place.replaceChildren(make("p", { class: "bad" }, `openapi.json cannot be read: ${error.message}`));
    return;
  }
  document.getElementById("about").textContent = description.info.summary ?? "";
  const groups = new Map();
  for (const [path, operations] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(drawn(method, path, operation));
    }
  }
  place.replaceChildren();
  for (const [tag, entries] of groups) place.append(make("h2", {}, tag), ...entries);
};

draw();
