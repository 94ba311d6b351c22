// Labels that something speaks against: all of them, what is taken for what, and one at a time beside its nearest.
import { askJson, byId, el, linkTile, notice, number } from "./dom.js";
import { Decider } from "./decide.js";
import { tellOfTrouble } from "./pictures.js";
import { Review } from "./review.js";

const PAGE = 60;
const SHADES = 6;
const decider = new Decider(byId("saved"));
const labels = (count) => `${number(count)} ${count === 1 ? "label" : "labels"}`;
const fail = (error) => byId("notices").replaceChildren(notice(error.message, "alert"));
const named = (label) => (label === "" ? "nothing" : label ?? "another label");
tellOfTrouble(decider, byId("notices"));

const state = { field: "", issue: "", given: "", suggested: "", folder: "", undecided: "" };
let answer = null; // the last one
let offset = 0;
let review = null;
let stop = new AbortController();

// ------------------------------------------------------------------ the address

function readAddress() {
  const asked = new URLSearchParams(location.search);
  for (const name of Object.keys(state)) state[name] = asked.get(name) ?? "";
  byId("issue").value = state.issue;
  byId("folder").value = state.folder;
  byId("undecided").checked = state.undecided === "true";
}

const given = () => Object.entries(state).filter(([, value]) => value);

function go() {
  history.pushState(null, "", given().length ? `?${new URLSearchParams(given())}` : location.pathname);
  return start();
}

const ask = (more, options) => askJson(`/api/label-issues?${new URLSearchParams([...given().filter(([name]) => !(name in more)), ...Object.entries(more)])}`, options);

async function start() {
  stop.abort();
  stop = new AbortController();
  try {
    const found = await ask({ k: PAGE }, { signal: stop.signal });
    decider.latest ??= found.latest;
    byId("notices").replaceChildren();
    byId("issues").replaceChildren();
    offset = 0;
    take(found);
    showFields();
    await showConfusion();
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
}

// ------------------------------------------------------------------- all labels

function take(found) {
  answer = found;
  offset += PAGE;
  byId("issues").append(...found.issues.map(tile));
  byId("more").hidden = offset >= found.total;
  byId("begin").disabled = !found.undecided;
  byId("count").textContent = found.total
    ? `${labels(found.total)} that something speaks against: ${number(found.undecided)} to decide`
    : "Nothing speaks against a label here.";
  if (!byId("issues").children.length) byId("issues").append(el("li", { className: "nothing wide", textContent: state.undecided ? "Nothing is left to decide here." : "There is no such label." }));
}

function tile(issue) {
  const made = linkTile(issue.image, `${issue.field}: ${named(issue.given)} → ${named(issue.suggested)}`, issue.decided ? `decided: ${decided(issue.decided)}` : quality(issue));
  made.dataset.decided = issue.decided ?? "";
  return made;
}

const decided = (said) => (said === "unsure" ? "can't tell" : said);
const quality = (issue) => [issue.issues.includes("conflicting") ? "conflicting" : "", issue.label_quality === null ? "" : `quality of the label ${issue.label_quality.toFixed(3)}`].filter(Boolean).join(", ");

function showFields() {
  const options = answer.fields.map((one) => el("option", { value: one.field, textContent: `${one.field} (${number(one.total)})` }));
  byId("field").replaceChildren(el("option", { value: "", textContent: "all fields" }), ...options);
  byId("field").value = state.field;
  byId("chips").replaceChildren(
    ...["given", "suggested"].filter((name) => state[name]).map((name) => {
      const text = `${name === "given" ? "labelled" : "looks like"} ${state[name]}`;
      const remove = el("button", { type: "button", textContent: "×", "aria-label": `Remove ${text}` });
      remove.addEventListener("click", () => {
        state[name] = "";
        go();
      });
      return el("li", {}, el("span", { textContent: text }), remove);
    }),
  );
}

async function showConfusion() {
  const field = state.field || answer.fields[0]?.field;
  byId("confusion").hidden = true;
  if (!field) return;
  const found = await askJson(`/api/label-issues/confusion?${new URLSearchParams({ field })}`, { signal: stop.signal });
  if (!found.classes.length) return;
  const most = Math.max(1, ...found.matrix.flatMap((row, at) => row.filter((_, to) => to !== at)));
  const shade = (many, isRight) => (many ? (isRight ? "right" : `shade-${Math.max(1, Math.round((SHADES * many) / most))}`) : "");
  const quoted = (text) => `'${text.replaceAll("'", "''")}'`;
  const column = (name) => `"${name.replaceAll('"', '""')}"`;
  const where = (label, said) => `${column(`label_${field}`)} = ${quoted(label)} AND ${column(`predicted_${field}`)} = ${quoted(said)}`;
  byId("matrix").replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col", textContent: "labelled \\ looks like" }), ...found.classes.map((name) => el("th", { scope: "col", textContent: name })))),
    el("tbody", {}, ...found.matrix.map((row, at) =>
      el("tr", {}, el("th", { scope: "row", textContent: found.classes[at] }),
        ...row.map((many, to) => el("td", { className: shade(many, at === to) },
          many ? el("a", { href: `/?${new URLSearchParams({ where: where(found.classes[at], found.classes[to]) })}`, textContent: number(many), "aria-label": `${number(many)} labelled ${found.classes[at]} look like ${found.classes[to]}` }) : "·"))))),
  );
  byId("accuracy").textContent = `Field ${field}: of ${number(found.labelled)} labelled images ${(100 * found.accuracy).toFixed(1)} % look like what they are labelled, to a classifier that didn't see them.`;
  byId("confusion").hidden = false;
}

// ------------------------------------------------------------ one label at a time

const large = (image) => `/picture?${new URLSearchParams({ key: image.relative_path, v: (image.content_sha256 ?? "").slice(0, 16) })}`;
const beside = new Map(); // thing → promise of what lies beside it

function besideOf(thing) {
  if (!beside.has(thing)) {
    beside.set(thing, askJson(`/api/label-issues/beside?${new URLSearchParams({ key: thing.key, field: thing.field })}`).catch(() => null));
    if (beside.size > 40) beside.delete(beside.keys().next().value);
  }
  return beside.get(thing);
}

function strip(title, images, lineOf) {
  if (!images.length) return null;
  return el("section", {}, el("h2", { textContent: title }), el("ul", { className: "strip" }, ...images.map((one) => linkTile(one.image ?? one, lineOf(one)))));
}

function draw(thing) {
  const { image } = thing;
  const picture = el("img", { src: large(image), alt: image.name });
  picture.addEventListener("error", () => {
    if (image.thumbnail && !picture.src.endsWith(image.thumbnail)) picture.src = image.thumbnail;
    else picture.replaceWith(el("p", { className: "nothing", textContent: "The picture can't be shown." }));
  });
  const strips = el("div", { className: "beside" });
  besideOf(thing).then((found) => {
    if (!found) return;
    strips.replaceChildren(
      ...[
        strip(`Nearest that are ${named(thing.given)}`, found.given, () => named(thing.given)),
        strip(`Nearest that are ${named(thing.suggested)}`, found.suggested, () => named(thing.suggested)),
        strip("What it conflicts with", found.evidence, (one) => named(one.label ?? "")),
      ].filter(Boolean),
    );
    thing.against = found.evidence[0] ?? null;
  });
  return el(
    "div",
    { className: "two" },
    el("figure", { className: "large" }, picture, el("figcaption", {}, el("a", { href: image.page, textContent: image.path }))),
    el("div", { className: "facts" },
      el("p", { className: "verdict" }, `${thing.field}: `, el("b", { textContent: named(thing.given) }), thing.suggested === null ? "" : " → ", thing.suggested === null ? null : el("b", { textContent: thing.suggested })),
      el("p", { className: "soft", textContent: thing.reason ?? "" }),
      strips),
  );
}

const shownOf = (thing) => ({ issues: thing.issues, given: thing.given, suggested: thing.suggested, label_quality: thing.label_quality });
const relabel = (thing, value) => (value ? [{ kind: "relabel", field: thing.field, value, key: thing.key, content: thing.image.content_sha256, shown: shownOf(thing) }] : null);
const classesOf = (thing) => answer.fields.find((one) => one.field === thing.field)?.classes ?? [];

function say(text) {
  review.state.textContent = text;
  return null;
}

/** Ask for a label; null where none is given. */
async function another(thing) {
  const known = classesOf(thing);
  const list = el("datalist", { id: "classes" }, ...known.map((one) => el("option", { value: one.name })));
  const input = el("input", { required: true, maxLength: 1000, autocomplete: "off", spellcheck: false });
  input.setAttribute("list", "classes");
  const told = el("p", { className: "soft", textContent: known.slice(0, 9).map((one, at) => `${at + 1} ${one.name}`).join(" · ") });
  const dialog = el("dialog", { "aria-labelledby": "label-title" },
    el("form", { method: "dialog" },
      el("h2", { id: "label-title", textContent: `What is it? (${thing.field})` }),
      el("label", {}, "Label", input), list, told,
      el("p", { className: "actions" }, el("button", { className: "strong", value: "ok", textContent: "It is that" }), el("button", { className: "quiet", value: "", formNoValidate: true, textContent: "Cancel" }))));
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  dialog.remove();
  const value = dialog.returnValue === "ok" ? input.value.trim() : "";
  if (!value) return null;
  if (!known.some((one) => one.name === value) && !confirm(`No image is labelled “${value}” yet. Make it a new label?`)) return null;
  return value;
}

const ANSWERS = [
  { keys: ["a", "enter"], name: "Accept", title: "It is what is suggested", strong: true, decide: (thing) => relabel(thing, thing.suggested) ?? say("Nothing is suggested: say what it is.") },
  {
    keys: ["k"], name: "Keep its label", title: "It is what it is labelled",
    decide: (thing) => (thing.given?.includes(", ") ? say("It has several labels: say which it is.") : relabel(thing, thing.given) ?? say("It has no label to keep: say what it is.")),
  },
  { keys: ["o"], name: "Another label", title: "It is something else", decide: async (thing) => relabel(thing, await another(thing)) },
  { keys: ["s"], name: "Can't tell", title: "It is not asked again, and its label stays", decide: (thing) => [{ kind: "unsure", field: thing.field, key: thing.key, content: thing.image.content_sha256, shown: shownOf(thing) }] },
  {
    keys: ["d"], name: "Not the same", title: "The image that it conflicts with shows something else",
    decide: (thing) => (thing.against && thing.against.image.content_sha256 !== thing.image.content_sha256
      ? [{ kind: "different", key: thing.key, content: thing.image.content_sha256, other: thing.against.image.relative_path, other_content: thing.against.image.content_sha256, shown: shownOf(thing) }]
      : say("There is no other image that it conflicts with.")),
  },
  { keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], name: "Another label", bare: true, decide: (thing, key) => relabel(thing, classesOf(thing)[Number(key) - 1]?.name) },
];

async function begin() {
  byId("look").hidden = true;
  byId("review").hidden = false;
  const undecided = answer.undecided;
  review = new Review({
    place: byId("review"),
    decider,
    draw,
    pictures: (thing) => {
      besideOf(thing);
      return [large(thing.image)];
    },
    left: () => `${number(Math.max(0, undecided - review.done.size))} to decide`,
    load: async (before) => {
      const id = (one) => `${one.image.relative_path}\n${one.field}`;
      const known = new Set(before.map(id));
      let from = Math.max(0, before.length - review.done.size); // what is decided is not in the list any more
      for (;;) {
        const found = await ask({ undecided: "true", k: 30, offset: from });
        const fresh = found.issues.filter((one) => !known.has(id(one))).map((one) => ({ ...one, key: one.image.relative_path }));
        from += 30;
        if (fresh.length || from >= found.total) return fresh;
      }
    },
    answers: ANSWERS,
    concerns: (one, thing) => one.field === thing.field || (one.kind === "different" && thing.issues.includes("conflicting")),
    close: () => {
      review = null;
      byId("review").hidden = true;
      byId("look").hidden = false;
      byId("begin").focus();
      decider.settled().then(start);
    },
  });
  await review.begin();
}

byId("begin").addEventListener("click", begin);
byId("asked").addEventListener("submit", (event) => event.preventDefault());
byId("asked").addEventListener("change", () => {
  Object.assign(state, { field: byId("field").value, issue: byId("issue").value, folder: byId("folder").value.trim(), undecided: byId("undecided").checked ? "true" : "" });
  go();
});
byId("more").addEventListener("click", () => ask({ k: PAGE, offset }).then(take).catch(fail));
addEventListener("keydown", (event) => {
  if (review || event.defaultPrevented || event.key.toLowerCase() !== "z" || event.target.matches?.("input, select")) return;
  decider.undo().then((step) => step && decider.settled().then(start));
});
addEventListener("popstate", () => {
  readAddress();
  if (review) review.end();
  else start();
});
readAddress();
start();
