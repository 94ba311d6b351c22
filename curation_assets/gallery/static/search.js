// The search page: the address holds what is asked, the form shows it, the grid shows what was found.
import { ask, askJson, byId, download, el, indexNotices, notice, number } from "./dom.js";
import { Decider, tellOfTrouble } from "./decide.js";
import { decideOnTiles } from "./pictures.js";
import { selectionBar } from "./selection.js";
import { isTyping, Tiles } from "./tiles.js";

const PAGE = 60;
const MOST = 500; // images of one answer
const SINGLE = ["name", "camera", "captured_from", "captured_to", "min_side", "min_bytes", "max_bytes", "has_gps", "tag", "where", "sort", "distinct"];
const FIRST_OF = ["folder", "format", "status", "problem"]; // several may be in the address, the form has room for one
const ON_CHIPS = {
  like: "like", image: "your image", region: "region of the map", folder: "folder", format: "format", status: "status", problem: "problem", tag: "tag",
  captured_from: "captured from", captured_to: "captured before", max_side: "shorter side at most", weight: "weight",
  model_version: "model version", table_version: "table version",
}; // whatever the form has no room for

const form = byId("search");
const fields = form.elements;
const tiles = new Tiles(byId("grid"), byId("tiles"));
const decider = new Decider(byId("saved"));
const pictures = new Map(); // upload id → {name, address} of the image in this browser
let asked = new URLSearchParams(location.search);
let total = 0;
let folded = 0;
let run = 0; // counts searches, so that a late answer to an earlier one is dropped
let loading = false;
let stop = new AbortController();
let sorted = null; // the column of a list
let built = ""; // the index that the images shown come from

// ---------------------------------------------------------------- the form

const fits = (name, value) => !name.startsWith("captured") || /^\d{4}-\d\d-\d\d$/.test(value);

function fillForm() {
  const texts = [...asked.getAll("text").map((text) => [text, false]), ...asked.getAll("not").map((text) => [text, true])];
  byId("texts").replaceChildren(...(texts.length ? texts : [["", false]]).map(([text, not], at) => textRow(text, not, at)));
  for (const name of [...SINGLE, ...FIRST_OF]) {
    const value = asked.getAll(name).find((one) => fits(name, one)) ?? "";
    const field = fields[name];
    if (field.matches("select") && value && ![...field.options].some((option) => option.value === value)) {
      field.append(el("option", { value, textContent: value }));
    }
    field.value = value && field.dataset.scale ? String(Number(value) / Number(field.dataset.scale)) : value;
  }
  showChips();
  const count = [...SINGLE, ...FIRST_OF].filter((name) => fields[name].value !== "").length;
  byId("filter-count").hidden = !count;
  byId("filter-count").textContent = String(count);
  if (count) byId("filters").open = true;
}

function textRow(text, not, at) {
  const input = el("input", {
    type: "search", value: text, maxLength: 1000, spellcheck: false,
    placeholder: at ? "and …" : "rust on a coffee leaf", "aria-label": at ? `Text ${at + 1}` : "What the images should show",
  });
  const box = el("input", { type: "checkbox", checked: not, "aria-label": `Not this${at ? `, text ${at + 1}` : ""}` });
  const row = el("div", { className: "text-row" }, input, el("label", {}, box, "not"));
  if (at) {
    const remove = el("button", { type: "button", className: "quiet", textContent: "×", "aria-label": `Remove text ${at + 1}` });
    remove.addEventListener("click", () => {
      row.remove();
      firstText().focus();
    });
    row.append(remove);
  }
  return row;
}

const firstText = () => byId("texts").querySelector("input[type=search]");

/** [name, value] of everything in the address that the form has no field for. */
function onChips() {
  const found = [];
  for (const name of Object.keys(ON_CHIPS)) {
    const values = asked.getAll(name);
    const inForm = [...SINGLE, ...FIRST_OF].includes(name) ? values.findIndex((value) => fits(name, value)) : -1;
    values.forEach((value, at) => at !== inForm && value && found.push([name, value]));
  }
  return found;
}

function showChips() {
  byId("chips").replaceChildren(
    ...onChips().map(([name, value]) => {
      const given = name === "image" ? pictures.get(value) : null;
      const told = { image: given?.name ?? "", region: "" }[name] ?? value;
      const text = [ON_CHIPS[name], told].filter(Boolean).join(" ");
      const remove = el("button", { type: "button", textContent: "×", "aria-label": `Remove ${text}` });
      remove.addEventListener("click", () => {
        const kept = [...asked].filter(([n, v]) => n !== name || v !== value);
        go(new URLSearchParams(kept));
      });
      const picture = given ? el("img", { src: given.address, alt: "" }) : null;
      return el("li", {}, picture, el("span", { textContent: text, title: text }), remove);
    }),
  );
}

function readForm() {
  const read = new URLSearchParams();
  for (const row of byId("texts").children) {
    const text = row.querySelector("input[type=search]").value.trim();
    if (text) read.append(row.querySelector("input[type=checkbox]").checked ? "not" : "text", text);
  }
  const sameTexts = read.getAll("text").length === asked.getAll("text").length;
  for (const name of [...FIRST_OF, ...SINGLE]) {
    const field = fields[name];
    const value = field.value.trim();
    if (value) read.append(name, field.dataset.scale ? String(Math.round(Number(value) * Number(field.dataset.scale))) : value);
  }
  for (const [name, value] of onChips()) if (name !== "weight" || sameTexts) read.append(name, value);
  if (ranks(read)) read.delete("sort"); // what a query finds comes by its cosine
  return read;
}

const ranks = (parameters) => ["text", "not", "like", "image"].some((name) => parameters.has(name));

// ----------------------------------------------------------------- searching

function go(parameters) {
  if (parameters.toString() !== asked.toString()) {
    remember();
    history.pushState(null, "", parameters.size ? `?${parameters}` : location.pathname);
  }
  asked = parameters;
  fillForm();
  start();
}

async function start(restored = null) {
  run += 1;
  stop.abort();
  stop = new AbortController();
  loading = false;
  total = 0;
  showExport(true);
  tiles.clear();
  byId("more").hidden = true;
  byId("count").textContent = "Searching …";
  document.title = `${asked.getAll("text").join(" + ") || "Search"} · curation gallery`;
  await more(Math.min(restored?.count ?? PAGE, MOST));
  if (restored && tiles.images.length) {
    tiles.rove(Math.min(restored.focused, tiles.images.length - 1));
    scrollTo(0, restored.scroll);
  }
}

async function more(k = PAGE) {
  if (loading) return;
  loading = true;
  const mine = run;
  const parameters = new URLSearchParams(asked);
  parameters.set("k", String(k));
  parameters.set("offset", String(tiles.images.length));
  try {
    const answer = await askJson(`/api/search?${parameters}`, { signal: stop.signal });
    if (mine !== run) return;
    const first = !tiles.images.length;
    if (first) built = answer.index.built_at;
    if (answer.index.built_at !== built) {
      byId("notices").append(notice("The index was brought up to date meanwhile: search again for what follows."));
      byId("more").hidden = true;
      return;
    }
    decider.latest ??= answer.latest;
    total = answer.total;
    folded = answer.folded ? answer.folded.copies + answer.folded.near_copies : 0;
    sorted = answer.sort;
    byId("export-all").querySelector("button").disabled = !total;
    tiles.add(answer.images, total);
    if (first) showFirst(answer);
    const shown = tiles.images.length;
    byId("count").textContent = told(shown);
    byId("more").hidden = !answer.images.length || shown >= total;
  } catch (error) {
    if (mine !== run || error.name === "AbortError") return;
    byId("export-all").querySelector("button").disabled = !tiles.images.length;
    byId("count").textContent = tiles.images.length ? told(tiles.images.length) : "Nothing was found.";
    byId("notices").replaceChildren(notice(sentence(error.message), "alert"));
    byId("more").hidden = !tiles.images.length;
  } finally {
    if (mine === run) {
      loading = false;
      showExport();
    }
  }
  if (mine === run && !byId("more").hidden && isNear(byId("more"))) await more();
}

const isNear = (element) => element.getBoundingClientRect().top < innerHeight + 600;
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

function told(shown) {
  const images = total === 1 ? "image" : "images";
  if (!total) return "No image meets the conditions.";
  const column = sorted?.replace(":desc", "");
  const order = !sorted ? "the nearest first" : sorted === "relative_path" ? "in the order of their paths" : `by ${column}`;
  const more = folded ? `; ${number(folded)} more ${folded === 1 ? "is" : "are"} folded` : "";
  return `${shown < total ? `${number(shown)} of ` : ""}${number(total)} ${images}, ${order}${more}`;
}

function showFirst(answer) {
  const found = indexNotices(answer.index);
  if (answer.notice) found.push(notice(sentence(answer.notice)));
  byId("notices").replaceChildren(...found);
  if (!answer.images.length) {
    byId("tiles").append(el("p", { className: "nothing wide", textContent: "No image meets these conditions." }));
  }
  // The names of images that were given stand in the answer, also where this browser knows them no more.
  const names = answer.query.filter((part) => "image" in part).map((part) => part.image);
  asked.getAll("image").forEach((id, at) => {
    if (!pictures.has(id) && names[at]) pictures.set(id, { name: names[at], address: "/static/icon.svg" });
  });
  showChips();
}

// ------------------------------------------------------------------- an image

async function give(file) {
  const most = Number(form.dataset.maxUpload);
  if (file.size > most) {
    byId("notices").replaceChildren(notice(`${file.name} has more than ${number(most)} bytes, the limit.`, "alert"));
    return;
  }
  byId("count").textContent = `Looking at ${file.name} …`;
  const body = new FormData();
  body.append("file", file, file.name || "an image");
  try {
    const version = asked.get("model_version");
    const given = await askJson("/api/images" + (version ? `?model_version=${encodeURIComponent(version)}` : ""), {
      method: "POST", body,
    });
    pictures.set(given.id, { name: given.name, address: URL.createObjectURL(file) });
    const read = readForm();
    read.append("image", given.id);
    go(read);
  } catch (error) {
    byId("count").textContent = told(tiles.images.length);
    byId("notices").replaceChildren(notice(sentence(error.message), "alert"));
  }
}

const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  if (!holdsFiles(event)) return;
  event.preventDefault();
  if (event.dataTransfer.files.length) give(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  give(file);
});
byId("file").addEventListener("change", () => {
  const [file] = byId("file").files;
  byId("file").value = "";
  if (file) give(file);
});

// ---------------------------------------------------------- selection, export

/** The address's parameters as the body of an export. */
function asBody() {
  const lists = ["text", "weight", "not", "like", "image", "folder", "format", "status", "problem", "tag"];
  const body = {};
  for (const name of new Set(asked.keys())) body[name] = lists.includes(name) ? asked.getAll(name) : asked.get(name);
  return body;
}

/** Offer the whole result where there is one. */
function showExport(searching = false) {
  const button = byId("export-all").querySelector("button");
  button.disabled = !total;
  button.textContent = total || searching ? "Export all" : "Nothing to export";
}

async function exportAll(format, button) {
  button.disabled = true;
  try {
    const body = JSON.stringify({ format, search: asBody() });
    await download(await ask("/api/export", { method: "POST", headers: { "Content-Type": "application/json" }, body }));
  } catch (error) {
    byId("notices").replaceChildren(notice(sentence(error.message), "alert"));
  } finally {
    button.disabled = false;
    showExport(loading);
  }
}

byId("export-all").addEventListener("submit", (event) => {
  event.preventDefault();
  exportAll(event.target.elements.format.value, event.submitter);
});
selectionBar({ tiles, decider, search: asBody });
tellOfTrouble(decider, byId("notices"));
decideOnTiles({ tiles, decider, place: byId("say") });
tiles.addEventListener("like", (event) => go(new URLSearchParams({ like: event.detail.relative_path })));

// ----------------------------------------------------------------- everything

form.addEventListener("submit", (event) => {
  event.preventDefault();
  go(readForm());
});
byId("clear").addEventListener("click", () => {
  byId("filters").open = matchMedia("(min-width: 62rem)").matches;
  go(new URLSearchParams());
  firstText().focus();
});
byId("add-text").addEventListener("click", () => {
  const row = textRow("", false, byId("texts").children.length);
  byId("texts").append(row);
  row.querySelector("input").focus();
});
byId("more").addEventListener("click", async () => {
  const next = tiles.images.length;
  await more();
  tiles.focus(next);
});
byId("show-keys").addEventListener("click", () => byId("keys").showModal());
// What it saw may be from before the images of a new search were there: so the place is looked at once more.
new IntersectionObserver(() => !byId("more").hidden && isNear(byId("more")) && more(), {
  rootMargin: "600px",
}).observe(byId("more-place"));

fields.folder.addEventListener("focus", async () => {
  try {
    const { folders } = await askJson("/api/folders");
    const names = new Set();
    for (const { folder } of folders) {
      const parts = folder.split("/");
      parts.forEach((_, at) => names.add(parts.slice(0, at + 1).join("/")));
    }
    byId("folders").replaceChildren(...[...names].slice(0, 2000).map((value) => el("option", { value })));
  } catch {
    // without suggestions a folder can still be typed
  }
}, { once: true });

fields.tag.addEventListener("focus", async () => {
  try {
    const { tags } = await askJson("/api/tags");
    byId("tags").replaceChildren(...tags.map(({ tag }) => el("option", { value: tag })));
  } catch {
    // without suggestions a tag can still be typed
  }
});

addEventListener("keydown", (event) => {
  if (byId("keys").open || event.defaultPrevented || event.altKey) return;
  const typing = isTyping(event.target);
  const withCtrl = event.ctrlKey || event.metaKey;
  if (event.key === "Escape" && tiles.selected.size) tiles.select([]);
  if (typing) return;
  if (event.key === "/" && !withCtrl) {
    event.preventDefault();
    firstText().focus();
    firstText().select();
  } else if (event.key === "?" && !withCtrl) {
    byId("keys").showModal();
  } else if (event.key.toLowerCase() === "a" && withCtrl) {
    event.preventDefault();
    tiles.selectLoaded();
  } else if (event.key.startsWith("Arrow") && !withCtrl && event.target === document.body && tiles.images.length) {
    event.preventDefault();
    tiles.focus(tiles.focused);
  }
});

const store = () => `gallery ${asked}`;

/** Keep where the visitor was, for when the browser's back button leads here again. */
function remember() {
  const state = { count: tiles.images.length, focused: tiles.focused, scroll: scrollY };
  try {
    sessionStorage.setItem(store(), JSON.stringify(state));
  } catch {
    // full or forbidden: the page then begins at its top
  }
}

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(store()));
  } catch {
    return null;
  }
}

addEventListener("pagehide", remember);
addEventListener("popstate", () => {
  const target = new URLSearchParams(location.search);
  if (target.toString() === asked.toString()) return; // a jump within the page
  remember();
  asked = target;
  fillForm();
  start(remembered());
});

history.scrollRestoration = "manual";
if (matchMedia("(min-width: 62rem)").matches) byId("filters").open = true;
fillForm();
const [navigation] = performance.getEntriesByType("navigation");
start(navigation?.type === "back_forward" ? remembered() : null);
