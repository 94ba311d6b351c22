// The map page: points coloured by folder or by label, a legend, a thumbnail on hover, a lasso that leads to a search.
import { askJson, byId, el, indexNotices, notice, number } from "./dom.js";

// As far from each other as fourteen can be that are seen on a light and on a dark ground.
const PALETTE = [
  "#3a9a3a", "#fa822e", "#0a76d6", "#9a3a9a", "#0aca9a", "#b23a0a", "#2ebefa", "#e25e8e", "#a6be16", "#8e82fa",
  "#9a760a", "#0a8282", "#e28efa", "#e29aa6",
];
const STEPS = ["#b2182b", "#ef6a3a", "#e3a72f", "#6aa6cf", "#7d8a93"]; // of a score, the farthest first
const OTHERS = "#8f8f8f"; // of all that are beyond the largest
const dark = matchMedia("(prefers-color-scheme: dark)");
const none = () => (dark.matches ? "#50564a" : "#c4c8bc");
const NO_LABEL = 255;
const MOST_CORNERS = 120; // of a lasso, as they go into an address
const TYPED = " "; // in place of a column's name
const HOVER_PAUSE = 40; // ms; while the pointer flies over many points, none is asked for

const decoded = (text, Kind) => new Kind(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

const SAID = [[/^label_/, "label: "], [/^predicted_/, "predicted: "], [/^split_/, "side in the dataset "]];

/** A column as people read it. */
function called(name) {
  const found = SAID.find(([begins]) => begins.test(name));
  return found ? name.replace(...found) : name.replaceAll("_", " ");
}

let map = null;
let points = null; // {id, xy, folder, folders, shown}
let colouring = null; // {of: number of each point's entry, entries: [{name, count, link, tint, many: values}]}
let hidden = new Set();
let asked = 0; // colourings; an answer that comes after a later question is not shown
let hovered = 0;
let usual = 1; // levels of folders

async function begin() {
  const answer = await askJson("/api/map");
  byId("notices").replaceChildren(...indexNotices(answer.index));
  points = {
    id: answer.id,
    count: answer.count,
    xy: decoded(answer.xy, Float32Array),
    folder: decoded(answer.folder, Uint32Array),
    folders: answer.folders,
    shown: answer.shown_folders,
  };
  const depth = Math.max(1, ...points.folders.map((folder) => folder.split("/").length));
  byId("colour").replaceChildren(
    ...Array.from({ length: Math.min(depth, 8) }, (_, at) =>
      el("option", { value: String(at + 1), textContent: at ? `folder, ${at + 1} levels` : "top folder" }),
    ),
    ...answer.colours.map((name) => el("option", { value: name, textContent: called(name) })),
    el("option", { value: TYPED, textContent: "labels as typed", disabled: true }),
  );
  if (drawable()) {
    const { PointMap } = await import("./points.js");
    map = new PointMap(byId("map"), { xy: points.xy, onHover: hover, onClick: open, onLasso: toResult });
  } else {
    byId("map").replaceChildren(el("p", { className: "nothing", textContent: "This browser can't draw the map (it has no WebGL 2). The legend and the rectangle work all the same." }));
  }
  usual = depth > 1 && new Set(points.folders.map((folder) => folder.split("/")[0])).size < 2 ? 2 : 1;
  await fromAddress();
}

function drawable() {
  return Boolean(globalThis.deck && document.createElement("canvas").getContext("webgl2"));
}

// ------------------------------------------------------------------- colours

/** What the address asks for: a column, levels of folders, or texts to choose between. */
function fromAddress() {
  const read = new URLSearchParams(location.search);
  const labels = read.getAll("label").filter(Boolean);
  if (labels.length) {
    byId("label-texts").value = labels.join("\n");
    return paintBy(() => byLabels(labels));
  }
  const by = read.get("colour");
  return paintBy(() => (by && !/^\d+$/.test(by) ? byColumn(by) : byFolder(Number(by) || usual)), read.get("show"));
}

/** Colour otherwise, and keep it in the address. */
function go(parameters, make) {
  history.pushState(null, "", `?${new URLSearchParams(parameters)}`);
  return paintBy(make);
}

/** Colour the points; where a condition is given, only those of the entry that has it are shown at first. */
async function paintBy(make, show = null) {
  asked += 1;
  const mine = asked;
  byId("state").textContent = "Colouring …";
  try {
    const [by, entries, of] = await make();
    if (mine !== asked) return;
    byId("colour").lastElementChild.disabled = by !== TYPED;
    byId("colour").value = by;
    colour(entries, of, entries.some((entry) => entry.link === meeting(show)) ? meeting(show) : null);
    byId("state").textContent = `${number(points.count)} images`;
  } catch (error) {
    if (mine !== asked) return;
    byId("state").textContent = error.message;
    if (!colouring) {
      byId("colour").value = String(usual);
      colour(...byFolder(usual).slice(1));
    }
  }
}

function byFolder(levels) {
  const names = new Map(); // beginning of a folder → {name, count, link}
  const of = points.folders.map((folder, at) => {
    const start = folder.split("/").slice(0, levels).join("/");
    if (!names.has(start)) {
      const shown = points.shown[at].split("/").slice(0, levels).join("/");
      names.set(start, { name: shown, count: 0, link: `/?folder=${encodeURIComponent(start)}` });
    }
    return names.get(start);
  });
  for (const folder of points.folder) of[folder].count += 1;
  const entries = [...names.values()].sort((one, other) => other.count - one.count);
  const place = new Map(entries.map((entry, at) => [entry, at]));
  const last = byId("colour").options.length - 1;
  const known = [...byId("colour").options].slice(0, last).some((option) => option.value === String(levels));
  return [known ? String(levels) : "", tinted(entries), Uint32Array.from(points.folder, (folder) => place.get(of[folder]))];
}

async function byLabels(labels) {
  const parameters = new URLSearchParams([["id", points.id], ...labels.map((label) => ["label", label])]);
  const answer = await askJson(`/api/map/labels?${parameters}`);
  const entries = answer.labels.map((name, at) => ({ name, count: answer.counts[at], link: `/?text=${encodeURIComponent(name)}` }));
  return [TYPED, ...withNone(tinted(entries), answer, "no label", null)];
}

const meeting = (condition) => (condition ? `/?where=${encodeURIComponent(condition)}` : null);

async function byColumn(by) {
  const answer = await askJson(`/api/map/scores?${new URLSearchParams({ id: points.id, by })}`);
  const entries = answer.labels.map((name, at) => ({ name, count: answer.counts[at], link: meeting(answer.conditions[at]), many: (at === answer.labels.length - 1 && answer.others) || 1, without: name === "no problem" && by === "problems" }));
  const isScore = by === "outlier_score";
  return [by, ...withNone(isScore ? entries.map((entry, at) => ({ ...entry, tint: STEPS[at] })) : tinted(entries), answer, answer.without, meeting(answer.without_condition))];
}

/** A colour for each of the largest; those beyond are one, and so is what has nothing. */
function tinted(entries) {
  let used = 0;
  return entries.map((entry) => {
    if (entry.without) return { ...entry, tint: none };
    const tint = PALETTE[used] ?? OTHERS;
    used += 1;
    return { ...entry, tint };
  });
}

/** Entries and the entry of each point, with one for points that have none. */
function withNone(entries, answer, name, link) {
  const of = Uint32Array.from(decoded(answer.label, Uint8Array), (label) => (label === NO_LABEL ? entries.length : label));
  if (!of.includes(entries.length)) return [entries, of];
  const count = points.count - answer.counts.reduce((a, b) => a + b, 0);
  return [[...entries, { name, count, link, tint: none }], of];
}

function colour(entries, of, shown = null) {
  colouring = { entries, of };
  hidden = new Set(shown ? entries.flatMap((entry, at) => (entry.link === shown ? [] : [at])) : []);
  showLegend();
  paint();
}

function unhide() {
  hidden = new Set();
  showLegend();
  paint();
}

const tintOf = ({ tint }) => (typeof tint === "function" ? tint() : tint);

function paint() {
  if (!map) return;
  const colours = new Uint8ClampedArray(points.count * 4);
  const tints = colouring.entries.map((entry, at) => [...rgb(tintOf(entry)), hidden.has(at) ? 0 : 215]);
  colouring.of.forEach((entry, at) => colours.set(tints[entry], 4 * at));
  map.recolour(colours);
}

function showLegend() {
  const all = colouring.entries.map((entry, at) => ({ ...entry, at }));
  const beyond = all.filter((entry) => entry.tint === OTHERS);
  const rows = all.filter((entry) => entry.tint !== OTHERS || beyond.length === 1).map((entry) => el("li", {}, ...legendRow(entry, [entry.at])));
  if (beyond.length > 1) {
    const others = { name: `${number(beyond.reduce((sum, entry) => sum + (entry.many ?? 1), 0))} others`, count: beyond.reduce((sum, entry) => sum + entry.count, 0), link: null, tint: OTHERS };
    const names = el("ul", {}, ...beyond.map((entry) => el("li", {}, el("span", { textContent: entry.name }), countOf(entry))));
    const place = rows.length - all.filter((entry) => entry.tint === none).length;
    rows.splice(place, 0, el("li", {}, ...legendRow(others, beyond.map((entry) => entry.at))), el("li", {}, el("details", {}, el("summary", { className: "soft", textContent: "Which" }), names)));
  }
  byId("legend").replaceChildren(...rows);
  byId("unhide").hidden = !hidden.size;
}

/** A box that shows and hides some entries, their colour and name, and how many points they have. */
function legendRow(entry, places) {
  const box = el("input", { type: "checkbox", checked: places.some((at) => !hidden.has(at)) });
  box.addEventListener("change", () => {
    for (const at of places) {
      if (box.checked) hidden.delete(at);
      else hidden.add(at);
    }
    byId("unhide").hidden = !hidden.size;
    paint();
  });
  const swatch = el("span", { className: "swatch" });
  swatch.style.backgroundColor = tintOf(entry);
  return [el("label", {}, box, swatch, el("span", { textContent: entry.name })), countOf(entry)];
}

function countOf(entry) {
  const count = entry.link ? el("a", { href: entry.link, textContent: number(entry.count), "aria-label": `Show the images of ${entry.name}` }) : number(entry.count);
  return el("span", { className: "soft" }, count);
}

// ---------------------------------------------------------------- one point

const addressOf = (point) => `/api/map/point?${new URLSearchParams({ id: points.id, number: String(point) })}`;

function hover(point, x, y) {
  hovered += 1;
  const mine = hovered;
  const tip = byId("tip");
  if (point === null) {
    tip.hidden = true;
    return;
  }
  setTimeout(async () => {
    if (mine !== hovered) return;
    try {
      const image = await askJson(addressOf(point));
      if (mine !== hovered) return;
      byId("tip-picture").src = image.thumbnail ?? "/static/icon.svg";
      byId("tip-picture").alt = image.name;
      byId("tip-name").textContent = image.name;
      byId("tip-more").textContent = image.path.slice(0, -image.name.length - 1);
      tip.style.left = `${Math.min(x + 14, innerWidth - 220)}px`;
      tip.style.top = `${y + 230 > innerHeight ? Math.max(8, y - 226) : y + 14}px`;
      tip.hidden = false;
    } catch (error) {
      byId("state").textContent = error.message;
    }
  }, HOVER_PAUSE);
}

async function open(point) {
  try {
    location.assign((await askJson(addressOf(point))).page);
  } catch (error) {
    byId("state").textContent = error.message;
  }
}

// ------------------------------------------------------------------- regions

/** Corners that lie in a straight line with their neighbours tell nothing: those that tell least go first. */
function simplified(corners) {
  const kept = [...corners];
  while (kept.length > MOST_CORNERS) {
    let least = [Infinity, 0];
    kept.forEach(([x, y], at) => {
      const [ax, ay] = kept.at(at - 1);
      const [bx, by] = kept[(at + 1) % kept.length];
      const area = Math.abs((x - ax) * (by - ay) - (bx - ax) * (y - ay));
      if (area < least[0]) least = [area, at];
    });
    kept.splice(least[1], 1);
  }
  return kept;
}

function toResult(corners) {
  const region = simplified(corners).map((corner) => corner.map((value) => value.toFixed(4)).join(",")).join(";");
  location.assign(`/?region=${region}`);
}

byId("rectangle").addEventListener("submit", (event) => {
  event.preventDefault();
  const [x1, x2, y1, y2] = ["x1", "x2", "y1", "y2"].map((name) => Number(event.target.elements[name].value));
  toResult([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]);
});

// ------------------------------------------------------------------ controls

byId("lasso").addEventListener("click", () => {
  const on = byId("lasso").getAttribute("aria-pressed") !== "true";
  byId("lasso").setAttribute("aria-pressed", String(on));
  map?.lasso(on);
});
byId("unhide").addEventListener("click", unhide);
byId("fit").addEventListener("click", () => map?.fit());
byId("closer").addEventListener("click", () => map?.zoomBy(0.7));
byId("farther").addEventListener("click", () => map?.zoomBy(-0.7));
byId("map").addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-60, 0], ArrowRight: [60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (moves[event.key]) map?.moveBy(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") map?.zoomBy(0.7);
  else if (event.key === "-") map?.zoomBy(-0.7);
  else if (event.key === "0") map?.fit();
  else return;
  event.preventDefault();
});
byId("colour").addEventListener("change", () => {
  const { value } = byId("colour");
  if (value === TYPED) byId("labels").requestSubmit();
  else go({ colour: value }, () => (/^\d+$/.test(value) ? byFolder(Number(value)) : byColumn(value)));
});
byId("labels").addEventListener("submit", (event) => {
  event.preventDefault();
  const labels = byId("label-texts").value.split("\n").map((text) => text.trim()).filter(Boolean);
  go(labels.map((label) => ["label", label]), () => byLabels(labels));
});
addEventListener("popstate", fromAddress);
dark.addEventListener("change", () => {
  if (!colouring) return;
  showLegend();
  paint();
});

try {
  await begin();
} catch (error) {
  byId("state").textContent = "There is no map.";
  byId("map-page").hidden = true;
  byId("notices").replaceChildren(notice(error.message, "alert"));
}
