// The map page: points coloured by folder or by label, a legend, a thumbnail on hover, a lasso that leads to a search.
import { askJson, byId, el, indexNotices, notice, number } from "./dom.js";

const PALETTE = [
  "#4e9a47", "#d98a29", "#4b7fc4", "#c0504d", "#8a65b8", "#3ba7a0", "#c9b032", "#b5588f", "#7d8f3a", "#5aa9d6",
  "#a8744a", "#6b6fd0", "#d47a6a", "#2f8f6f", "#a3a3a3",
]; // the last is for everything beyond the largest
const OTHERS = PALETTE.length - 1;
const NO_LABEL = 255;
const MOST_CORNERS = 120; // of a lasso, as they go into an address
const TYPED = " "; // in place of a column's name
const HOVER_PAUSE = 40; // ms; while the pointer flies over many points, none is asked for

const decoded = (text, Kind) => new Kind(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

let map = null;
let points = null; // {id, xy, folder, folders, shown}
let colouring = null; // {of: number of each point's entry, entries: [{name, count, link}]}
let hidden = new Set();
let hovered = 0;

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
    ...answer.colours.map((name) => el("option", { value: name, textContent: name.replaceAll("_", " ") })),
    el("option", { value: TYPED, textContent: "labels as typed", disabled: true }),
  );
  if (drawable()) {
    const { PointMap } = await import("./points.js");
    map = new PointMap(byId("map"), { xy: points.xy, onHover: hover, onClick: open, onLasso: toResult });
  } else {
    byId("map").replaceChildren(el("p", { className: "nothing", textContent: "This browser can't draw the map (it has no WebGL 2). The legend and the rectangle work all the same." }));
  }
  byFolder(depth > 1 && new Set(points.folders.map((folder) => folder.split("/")[0])).size < 2 ? 2 : 1);
  byId("state").textContent = `${number(points.count)} images`;
}

function drawable() {
  return Boolean(globalThis.deck && document.createElement("canvas").getContext("webgl2"));
}

// ------------------------------------------------------------------- colours

function byFolder(levels) {
  byId("colour").value = String(levels);
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
  colour(entries, Uint32Array.from(points.folder, (folder) => place.get(of[folder])));
}

async function byLabels(labels) {
  const parameters = new URLSearchParams([["id", points.id], ...labels.map((label) => ["label", label])]);
  const answer = await askJson(`/api/map/labels?${parameters}`);
  const entries = answer.labels.map((name, at) => ({ name, count: answer.counts[at], link: `/?text=${encodeURIComponent(name)}` }));
  const of = Uint32Array.from(decoded(answer.label, Uint8Array), (label) => (label === NO_LABEL ? entries.length : label));
  if (of.includes(entries.length)) entries.push({ name: "no label", soft: true, count: points.count - answer.counts.reduce((a, b) => a + b), link: null });
  byId("colour").lastElementChild.disabled = false;
  byId("colour").value = TYPED;
  colour(entries, of);
}

async function byColumn(by) {
  const answer = await askJson(`/api/map/scores?${new URLSearchParams({ id: points.id, by })}`);
  const link = (at) => (answer.conditions[at] ? `/?where=${encodeURIComponent(answer.conditions[at])}` : null);
  const entries = answer.labels.map((name, at) => ({ name, count: answer.counts[at], link: link(at) }));
  const of = Uint32Array.from(decoded(answer.label, Uint8Array), (label) => (label === NO_LABEL ? entries.length : label));
  if (of.includes(entries.length)) entries.push({ name: "none", soft: true, count: points.count - answer.counts.reduce((a, b) => a + b), link: null });
  byId("colour").value = by;
  colour(entries, of);
}

function colour(entries, of) {
  colouring = { entries, of };
  hidden = new Set();
  showLegend();
  paint();
}

const tint = (at) => PALETTE[colouring.entries[at].soft ? OTHERS : Math.min(at, OTHERS)];

function paint() {
  if (!map) return;
  const colours = new Uint8ClampedArray(points.count * 4);
  const tints = colouring.entries.map((_, at) => [...rgb(tint(at)), hidden.has(at) ? 0 : 215]);
  colouring.of.forEach((entry, at) => colours.set(tints[entry], 4 * at));
  map.recolour(colours);
}

function showLegend() {
  byId("legend").replaceChildren(
    ...colouring.entries.map((entry, at) => {
      const box = el("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(at);
        else hidden.add(at);
        paint();
      });
      const swatch = el("span", { className: "swatch" });
      swatch.style.backgroundColor = tint(at);
      const name = entry.link ? el("a", { href: entry.link, textContent: number(entry.count), "aria-label": `Show the images of ${entry.name}` }) : number(entry.count);
      return el("li", {}, el("label", {}, box, swatch, el("span", { textContent: entry.name })), el("span", { className: "soft" }, name));
    }),
  );
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
byId("colour").addEventListener("change", async () => {
  const { value } = byId("colour");
  if (value === TYPED) byId("labels").requestSubmit();
  else if (/^\d+$/.test(value)) byFolder(Number(value));
  else {
    byId("state").textContent = "Colouring …";
    try {
      await byColumn(value);
      byId("state").textContent = `${number(points.count)} images`;
    } catch (error) {
      byId("state").textContent = error.message;
    }
  }
});
byId("labels").addEventListener("submit", async (event) => {
  event.preventDefault();
  const labels = byId("label-texts").value.split("\n").map((text) => text.trim()).filter(Boolean);
  byId("state").textContent = "Labelling …";
  try {
    await byLabels(labels);
    byId("state").textContent = `${number(points.count)} images`;
  } catch (error) {
    byId("state").textContent = error.message;
  }
});

try {
  await begin();
} catch (error) {
  byId("state").textContent = "There is no map.";
  byId("map-page").hidden = true;
  byId("notices").replaceChildren(notice(error.message, "alert"));
}
