// Labels that something speaks against: all of them, what is taken for what, and one at a time beside its nearest.
import { askJson, byId, el, fail, large, largeShot, linkTile, number } from "./dom.js";
import { Decider, tellOfTrouble } from "./decide.js";
import { askForLabel, relabelOf } from "./labelling.js";
import { leftOf, measuring, sampled } from "./measuring.js";
import { askedOnce, Review, undecided } from "./review.js";

const PAGE = 60;
const SHADES = 6;
const decider = new Decider(byId("saved"));
const ISSUE = { mislabelled: "a classifier", conflicting: "another image or source" };
const labels = (count) => `${number(count)} ${count === 1 ? "label" : "labels"}`;
const named = (label) => (label === "" ? "nothing" : label ?? "another label");
tellOfTrouble(decider, byId("notices"));

const FILTERS = ["field", "issue", "given", "suggested", "folder", "undecided"];
const state = { field: "", issue: "", given: "", suggested: "", folder: "", undecided: "", view: "" };
let answer = null; // the last one
let offset = 0;
let review = null;
let stop = new AbortController();

// ------------------------------------------------------------------ the address

function readAddress() {
  const asked = new URLSearchParams(location.search);
  for (const name of Object.keys(state)) state[name] = asked.get(name) ?? "";
  if (state.view !== "one") state.view = "";
  byId("issue").value = state.issue;
  byId("folder").value = state.folder;
  byId("undecided").checked = state.undecided === "true";
}

const given = () => Object.entries(state).filter(([, value]) => value);

function go() {
  history.pushState(null, "", given().length ? `?${new URLSearchParams(given())}` : location.pathname);
  return start();
}

function ask(more, options) {
  const asked = given().filter(([name]) => FILTERS.includes(name) && !(name in more));
  return askJson(`/api/label-issues?${new URLSearchParams([...asked, ...Object.entries(more)])}`, options);
}

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
    showFilters();
    showSamples();
    if (state.view && !review) await begin();
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

const decided = (said) => ({ unsure: "can't tell", different: "not the same" })[said] ?? said;
const quality = (issue) => [issue.issues.includes("conflicting") ? "conflicting" : "", issue.label_quality === null ? "" : `quality of the label ${issue.label_quality.toFixed(3)}`].filter(Boolean).join(", ");

/** Let a select offer values, beside the one that is chosen. */
function offer(id, nothing, values, chosen) {
  const all = chosen && !values.some(([value]) => value === chosen) ? [...values, [chosen, chosen]] : values;
  byId(id).replaceChildren(...[["", nothing], ...all].map(([value, textContent]) => el("option", { value, textContent })));
  byId(id).value = chosen;
}

function showFilters() {
  const { fields } = answer;
  offer("field", "all fields", fields.map((one) => [one.field, `${one.field} (${number(one.total)})`]), state.field);
  const shown = fields.filter((one) => !state.field || one.field === state.field);
  for (const option of byId("issue").options) {
    if (option.value) option.textContent = `${ISSUE[option.value]} (${number(shown.reduce((sum, one) => sum + one.issues[option.value], 0))})`;
  }
  const classes = [...new Set(shown.flatMap((one) => one.classes.map(({ name }) => name)))].sort().map((name) => [name, name]);
  offer("given", "anything", classes, state.given);
  offer("suggested", "anything", classes, state.suggested);
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

const besideOf = askedOnce(
  (thing) => `/api/label-issues/beside?${new URLSearchParams({ key: thing.path, field: thing.field })}`,
  { given: [], suggested: [], evidence: [] }, // labels were looked at anew meanwhile
);

function strip(title, images, lineOf) {
  if (!images.length) return null;
  return el("section", {}, el("h2", { textContent: title }), el("ul", { className: "strip" }, ...images.map((one) => linkTile(one.image ?? one, lineOf(one)))));
}

function draw(thing) {
  const { image } = thing;
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
  });
  return el(
    "div",
    { className: "two" },
    el("figure", { className: "large" }, largeShot(image), el("figcaption", {}, el("a", { href: image.page, textContent: image.path }))),
    el("div", { className: "facts" },
      el("p", { className: "verdict" }, `${thing.field}: `, el("b", { textContent: named(thing.given) }), thing.suggested === null ? "" : " → ", thing.suggested === null ? null : el("b", { textContent: thing.suggested })),
      // Who measures isn't told how much speaks against it.
      el("p", { className: "soft", textContent: thing.sample ? "" : thing.reason ?? "" }),
      strips),
  );
}

const shownOf = (thing) => ({ issues: thing.issues, given: thing.given, suggested: thing.suggested, label_quality: thing.label_quality, number: thing.number, sample: thing.sample });
const relabel = (thing, value) => (value ? [relabelOf(thing.path, thing.image.content_sha256, { field: thing.field, value }, shownOf(thing))] : null);
const classesOf = (thing) => answer.fields.find((one) => one.field === thing.field)?.classes ?? [];

function say(text) {
  review.state.textContent = text;
  return null;
}

const another = (thing) => askForLabel(`What is it? (${thing.field})`, classesOf(thing));

const ANSWERS = [
  { keys: ["a", "enter"], name: "Accept", title: "It is what is suggested", strong: true, decide: (thing) => relabel(thing, thing.suggested) ?? say("Nothing is suggested: say what it is.") },
  {
    keys: ["k"], name: "Keep its label", title: "It is what it is labelled",
    decide: (thing) => (thing.given?.includes(", ") ? say("It has several labels: say which it is.") : relabel(thing, thing.given) ?? say("It has no label to keep: say what it is.")),
  },
  { keys: ["o"], name: "Another label", title: "It is something else", decide: async (thing) => relabel(thing, await another(thing)) },
  { keys: ["s"], name: "Can't tell", title: "It is not asked again, and its label stays", decide: (thing) => [{ kind: "unsure", field: thing.field, key: thing.path, content: thing.image.content_sha256, shown: shownOf(thing) }] },
  {
    keys: ["d"], name: "Not the same", title: "The image that it conflicts with shows something else",
    decide: async (thing) => {
      const found = await besideOf(thing);
      if (!found) return say("What it conflicts with can't be loaded now.");
      const other = found.evidence[0]?.image;
      if (!other || other.content_sha256 === thing.image.content_sha256) return say("There is no other image that it conflicts with.");
      return [{ kind: "different", key: thing.path, content: thing.image.content_sha256, other: other.relative_path, other_content: other.content_sha256, shown: shownOf(thing) }];
    },
  },
  { keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], name: "Another label", bare: true, decide: (thing, key) => relabel(thing, classesOf(thing)[Number(key) - 1]?.name) },
];

const thingOf = (one, sample) => ({ ...one, sample, path: one.image.relative_path, key: `${one.field}\n${one.image.relative_path}`, keys: [one.image.relative_path] });

/** One by one, of what `load` gives (as for a Review), perhaps of a sample; and then back to the list. */
function decideOneByOne(load, left, sample) {
  byId("look").hidden = true;
  byId("review").hidden = false;
  review = new Review({
    place: byId("review"),
    decider,
    draw,
    pictures: (thing) => {
      besideOf(thing);
      return [large(thing.image)];
    },
    left: () => left(review),
    load,
    answers: ANSWERS,
    concerns: (one, thing) =>
      (!sample || one.sample === sample) && (one.field === thing.field || (one.kind === "different" && thing.issues.includes("conflicting"))),
    // Copies of the same bytes are one question; and so is whether two show the same.
    settles: (one, thing) =>
      (one.field === thing.field && one.content === thing.image.content_sha256) ||
      (one.other === thing.path && thing.number === 1 && !thing.issues.includes("mislabelled")),
    close: () => {
      review = null;
      byId("review").hidden = true;
      byId("look").hidden = false;
      byId("begin").focus();
      decider.settled().then(() => {
        showSamples();
        if (!state.view) return start();
        state.view = "";
        return go();
      });
    },
  });
  return review.begin();
}

function begin() {
  const open = answer.undecided;
  return decideOneByOne(
    undecided(async (from) => {
      const found = await ask({ undecided: "true", k: 30, offset: from });
      return { things: found.issues.map((one) => thingOf(one)), next: from + 30 < found.total ? from + 30 : null, total: found.total };
    }),
    ({ done }) => `${number(Math.max(0, open - done.size))} to decide`,
  );
}

// What is measured is the kind that is chosen, else whether labels are what a classifier doubts.
const measured = () => state.issue || "mislabelled";
const showSamples = measuring({
  decider,
  kind: measured,
  threshold: () => null,
  lookAt: (sample, by) =>
    decideOneByOne(
      sampled(sample.kind, sample, (found, of) => found.issues.map((one) => thingOf(one, of)), by),
      (review) => leftOf(sample, review, by),
      sample.sample,
    ),
});

byId("begin").addEventListener("click", () => {
  state.view = "one";
  go();
});
byId("asked").addEventListener("submit", (event) => event.preventDefault());
byId("asked").addEventListener("change", () => {
  for (const name of FILTERS) state[name] = byId(name).type === "checkbox" ? (byId(name).checked ? "true" : "") : byId(name).value.trim();
  go();
});
byId("more").addEventListener("click", () => ask({ k: PAGE, offset }).then(take).catch(fail));
addEventListener("keydown", (event) => {
  if (review || event.defaultPrevented || event.key.toLowerCase() !== "z" || event.target.matches?.("input, select")) return;
  decider.undo().then((step) => step && decider.settled().then(start));
});
addEventListener("popstate", () => {
  readAddress();
  if (review && !state.view) review.end();
  else start();
});
decider.addEventListener("others", () => review || start());
readAddress();
start();
