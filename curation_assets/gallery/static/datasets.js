// Datasets: all of them; or one: what a version holds and leaves out, how it differs from another, its recipe, and taking it along.
import { ask, askJson, byId, download, el, fail, images, notice, number, size } from "./dom.js";
import { reviewer } from "./kept.js";
import { commandLine, likeness, namedTile, quoted } from "./named.js";

const PAGE = 30;
const MOST_SIDES = 30; // columns of the table
const dated = (moment) => moment.slice(0, 16).replace("T", " ");
const name = byId("main").querySelector("[data-name]")?.dataset.name ?? "";

// ----------------------------------------------------------------- all datasets

function gate(version) {
  if (!version.gate) return null;
  return el("span", { className: version.gate === "holds" ? "gate" : "gate let-pass", textContent: version.gate === "holds" ? "gate holds" : "gate let pass" });
}

function card(one) {
  const { latest } = one;
  const state = latest
    ? `version ${latest.version} of ${dated(latest.published_at)} UTC · ${number(latest.left_out)} left out${one.versions > 1 ? ` · ${number(one.versions)} versions` : ""}`
    : "no version is built";
  return el(
    "li",
    { className: latest ? "kind" : "kind none" },
    el(
      "a",
      { href: `/datasets?${new URLSearchParams({ name: one.name })}` },
      el("span", { className: "kind-head plain-head" }, el("b", { textContent: one.name }), latest ? el("span", { className: "badge", textContent: number(latest.images), title: `${images(latest.images)} kept` }) : null),
      one.description ? el("span", { textContent: one.description }) : null,
      el("span", { className: "soft", textContent: state }),
      latest ? gate(latest) : null,
      one.has_recipe ? null : el("span", { className: "soft", textContent: "its recipe is gone" }),
      one.fault ? el("span", { className: "bad", textContent: one.fault }) : null,
    ),
  );
}

async function showAll() {
  try {
    const answer = await askJson("/api/datasets");
    const built = answer.datasets.filter((one) => one.latest).length;
    byId("count").textContent = answer.datasets.length ? `${number(answer.datasets.length)} ${answer.datasets.length === 1 ? "dataset" : "datasets"}, ${number(built)} built. Recipes lie in ${answer.recipes}.` : "";
    byId("datasets").replaceChildren(...answer.datasets.map(card));
    if (answer.datasets.length) return;
    byId("datasets").append(
      el("li", { className: "nothing wide" },
        el("p", { textContent: `There is no recipe in ${answer.recipes}, and no dataset. The first command writes a recipe that fits this lake, the second builds it:` }),
        commandLine(["curation dataset init leaves", answer.options].filter(Boolean).join(" ")),
        commandLine(["curation dataset build leaves", answer.options].filter(Boolean).join(" "))),
    );
  } catch (error) {
    fail(error);
  }
}

// ------------------------------------------------------------------ one dataset

const FIELDS = ["version", "side", "class", "unlabelled", "reason", "compare", "change", "by"];
const OF_IMAGES = ["side", "class", "unlabelled", "reason"];
const OF_CHANGES = ["change", "by"];
const CHANGES = { came: "came", went: "went", moved: "on another side", relabelled: "with another label", replaced: "with other bytes" };
const state = Object.fromEntries(FIELDS.map((field) => [field, ""]));
let dataset = null; // what the gallery says of it
let facts = null; // and of the version
let offset = 0;
let stop = new AbortController();

const place = (more = "") => `/api/datasets/${encodeURIComponent(name)}${more}`;
const ofVersion = (more = "") => place(`/versions/${facts.version.version}${more}`);
const given = (fields, of = state) => fields.filter((field) => of[field]).map((field) => [field, of[field]]);
const address = (of = state) => `?${new URLSearchParams([["name", name], ...given(FIELDS, of)])}`;

function readAddress() {
  const asked = new URLSearchParams(location.search);
  for (const field of FIELDS) state[field] = asked.get(field) ?? "";
}

/** Show something else of it, with the address. */
async function go(change, place = null) {
  Object.assign(state, change);
  history.pushState(null, "", address());
  await start();
  if (place) {
    byId(place).scrollIntoView({ block: "start" });
    byId(place).focus({ preventScroll: true });
  }
}

/** A link to something else of this dataset, which needs no new page. */
function leadTo(text, change, label, where = "shown-title") {
  const link = el("a", { href: address({ ...state, ...change }), textContent: text, "aria-label": label });
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(change, where);
  });
  return link;
}

const live = () => dataset.versions.filter((one) => one.withdrawn === null);
const NOTHING = { side: "", class: "", unlabelled: "", reason: "", compare: "", change: "", by: "" };

async function start() {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  try {
    dataset ??= await askJson(place(), { signal });
    const wanted = state.version ? Number(state.version) : live()[0]?.version;
    showDataset(wanted);
    if (wanted === undefined) return;
    if (facts?.version.version !== wanted) facts = null;
    facts ??= await askJson(place(`/versions/${encodeURIComponent(state.version || wanted)}`), { signal });
    byId("notices").replaceChildren();
    showVersion();
    await showList(signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("of-version").hidden = !facts;
    byId("count").textContent = "";
    fail(error);
  }
}

function showDataset(wanted) {
  const { dataset: one, versions } = dataset;
  byId("description").textContent = one.description;
  byId("fault").replaceChildren(
    ...[
      one.fault ? notice(`The recipe can't be built: ${one.fault}`, "alert") : null,
      one.has_recipe ? null : notice("Its recipe is gone: the versions stay, and no further one can be built of it."),
      dataset.changed.length ? notice(`The recipe says something else than when version ${one.latest.version} was built: ${dataset.changed.join(", ")}.`) : null,
    ].filter(Boolean),
  );
  byId("version").replaceChildren(
    ...versions.map((each) => el("option", { value: String(each.version), textContent: `${each.version} · ${dated(each.published_at)}${each.withdrawn === null ? ` · ${images(each.images)}` : " · withdrawn"}` })),
  );
  if (wanted !== undefined) byId("version").value = String(wanted);
  byId("compare").replaceChildren(
    el("option", { value: "", textContent: "no other" }),
    ...live().filter((each) => each.version !== wanted).map((each) => el("option", { value: String(each.version), textContent: `${each.version} · ${dated(each.published_at)}` })),
  );
  byId("compare").value = state.compare;
  byId("asked").hidden = !versions.length;
  byId("of-version").hidden = wanted === undefined || !facts;
  byId("not-built").hidden = wanted !== undefined;
  byId("not-built").textContent = versions.length ? "Every version was withdrawn." : "No version of it is built.";
  showRecipe();
}

function showRecipe() {
  const options = dataset.options ? ` ${dataset.options}` : "";
  byId("recipe").textContent = dataset.recipe ?? "";
  byId("recipe").hidden = dataset.recipe === null;
  byId("recipe-hint").replaceChildren(
    ...(dataset.recipe === null
      ? [el("p", { className: "soft", textContent: "There is no recipe of this name any more." })]
      : [
          el("p", { className: "soft", textContent: `It is edited in ${dataset.file}. What it would keep, and what a build publishes:` }),
          commandLine(`curation dataset build ${quoted(name)} --dry-run${options}`),
          commandLine(`curation dataset build ${quoted(name)}${options}`),
        ]),
  );
}

// -------------------------------------------------------------------- a version

function showVersion() {
  const { version } = facts;
  byId("of-version").hidden = false;
  const failed = facts.gate.filter((one) => !one.passed).length;
  const numbers = [
    [number(version.images), "images kept"],
    [number(version.left_out), "left out"],
    facts.leaks === null ? null : [number(facts.leaks), `${facts.leaks === 1 ? "pair" : "pairs"} across sides`],
    version.gate ? [failed ? `${failed} let pass` : "holds", "gate"] : null,
  ];
  byId("numbers").replaceChildren(...numbers.filter(Boolean).map(([many, of]) => el("li", {}, el("b", { textContent: many }), of)));
  showClasses();
  showLeftOut();
  byId("gate").replaceChildren(
    ...facts.gate.map((one) => el("tr", {},
      el("th", { scope: "row", textContent: one.name.replaceAll("_", " ") }),
      el("td", { className: one.passed ? "" : "bad", textContent: one.passed ? "holds" : "failed" }),
      el("td", { textContent: one.told + (one.let_pass === null ? "" : `; let pass: ${one.let_pass}`) }))),
  );
  byId("gate-part").hidden = !facts.gate.length;
  showSubset();
  byId("facts").replaceChildren(
    ...[...facts.facts, { name: "Content", text: facts.content_id }].map((fact) => el("div", {}, el("dt", { textContent: fact.name }), el("dd", { textContent: fact.text }))),
  );
  byId("notes").replaceChildren(...facts.notes.map((note) => el("li", { textContent: note })));
  byId("leaks-now").href = `/leakage?${new URLSearchParams({ dataset: name, version: version.version })}`;
  byId("leaks-now").hidden = !version.has_sides;
  showExport();
}

function showClasses() {
  const sides = facts.sides.slice(0, MOST_SIDES);
  const of = (label) => (label === null ? { unlabelled: "true", class: "" } : { class: label, unlabelled: "" });
  const cell = (many, change, told) => el("td", {}, many ? leadTo(number(many), { ...NOTHING, ...change }, `${images(many)}, ${told}`) : "·");
  const row = (one) => {
    const label = one.label ?? "no label";
    return el("tr", {}, el("th", { scope: "row", textContent: label }),
      ...sides.map((side, at) => cell(one.images[at], { side, ...of(one.label) }, `${label} on ${side}`)),
      cell(one.total, of(one.label), label));
  };
  byId("classes").replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col", textContent: "class" }), ...sides.map((side) => el("th", { scope: "col", textContent: side })), el("th", { scope: "col", textContent: "all" }))),
    el("tbody", {}, ...facts.classes.map(row),
      el("tr", {}, el("th", { scope: "row", textContent: "all" }),
        ...sides.map((side, at) => cell(facts.totals[at], { side }, `all on ${side}`)),
        cell(facts.version.images, {}, "all that are kept"))),
  );
  const more = [facts.more_classes ? `${number(facts.more_classes)} more classes` : "", facts.sides.length > sides.length ? `${number(facts.sides.length - sides.length)} more sides` : ""].filter(Boolean);
  byId("more-classes").textContent = more.length ? `And ${more.join(", ")}.` : "";
}

function showLeftOut() {
  byId("left-out").replaceChildren(
    ...facts.left_out.map((one) => el("tr", {},
      el("th", { scope: "row" }, leadTo(one.reason, { ...NOTHING, reason: one.reason }, `${images(one.images)} left out: ${one.reason}`)),
      el("td", { textContent: number(one.images) }),
      el("td", { textContent: one.witnesses ? number(one.witnesses) : "·" }))),
  );
  byId("left-out-part").hidden = !facts.left_out.length;
}

function showSubset() {
  const { subset } = facts;
  byId("subset-part").hidden = !subset;
  if (!subset) return;
  const last = Object.entries(subset.last).sort((one, other) => other[1] - one[1]).map(([kind, many]) => `${kind.replaceAll("_", " ")} ${number(many)}`);
  const rows = [
    ["strategy", subset.strategy],
    ["chosen", `${number(subset.chosen)} of ${number(subset.among)}`],
    ["largest distance to the nearest chosen", `${subset.largest.toFixed(4)}, at random ${subset.largest_at_random.toFixed(4)}`],
    ["mean distance", `${subset.mean.toFixed(4)}, at random ${subset.mean_at_random.toFixed(4)}`],
    last.length ? ["came last", `${last.join(", ")}; ${number(subset.last_chosen)} of them are in it`] : null,
  ];
  byId("subset").replaceChildren(...rows.filter(Boolean).map(([of, text]) => el("div", {}, el("dt", { textContent: of }), el("dd", { textContent: text }))));
}

// --------------------------------------------------------- its images or changes

async function showList(signal) {
  byId("list").replaceChildren();
  byId("changes-part").hidden = !state.compare;
  byId("filters").hidden = Boolean(state.compare);
  byId(state.compare ? "numbers" : "parts").after(byId("shown")); // what was asked for comes first
  byId("shown-title").textContent = state.compare ? `What changed from version ${state.compare} to ${facts.version.version}` : "Images";
  if (!state.compare) showFilters();
  offset = 0;
  byId("more").hidden = true;
  byId("count").textContent = state.compare ? "The two are compared …" : "…";
  await load(signal);
}

const asked = () => (state.compare
  ? ofVersion(`/diff?${new URLSearchParams([["other", state.compare], ...given(OF_CHANGES), ["k", PAGE], ["offset", offset]])}`)
  : ofVersion(`/images?${new URLSearchParams([...given(OF_IMAGES), ["k", PAGE], ["offset", offset]])}`));

/** Whether images are shown beside what stands for them. */
const inPairs = () => !state.compare && facts.left_out.some((one) => one.reason === state.reason && one.witnesses);

async function load(signal) {
  const found = await askJson(asked(), { signal });
  offset += PAGE;
  byId("more").hidden = offset >= found.total;
  byId("list").className = inPairs() ? "groups pairs" : "tiles";
  byId("list").append(...found.images.map(state.compare ? changed : inPairs() ? pair : tile));
  if (state.compare) showChanges(found);
  else byId("count").textContent = `${images(found.total)} ${state.reason ? `left out: ${state.reason}` : "kept"}${state.side ? `, on ${state.side}` : ""}${state.class ? `, ${state.class}` : ""}${state.unlabelled ? ", without a label" : ""}`;
  if (!found.total) byId("list").append(el("li", { className: "nothing wide", textContent: state.compare ? "Nothing is otherwise." : "There is no such image in this version." }));
}

const tile = (one) => namedTile(one, [one.split, one.label].filter(Boolean).join(" · ") || one.reason, state.reason && one.witness ? likeness(one) : "");

function pair(one) {
  return el("li", { className: "group" },
    el("p", { className: "soft", textContent: [one.witness ? likeness(one) : "none stands for it", one.label].filter(Boolean).join(" · ") || one.reason }),
    el("ul", { className: "strip" },
      namedTile(one, "left out"),
      one.witness ? namedTile(one.witness, state.reason === "buffer" || state.reason.startsWith("joins ") ? "too near to it" : "stands for it") : null));
}

const changed = (one) => namedTile(one, `${one.before ?? "none"} → ${one.after ?? "none"}`, one.reason);

function options(select, values, chosen) {
  select.replaceChildren(...values.map(([value, text]) => el("option", { value, textContent: text })));
  select.value = chosen;
}

function showFilters() {
  options(byId("reason"), [["", "kept"], ...facts.left_out.map((one) => [one.reason, `left out: ${one.reason} (${number(one.images)})`])], state.reason);
  options(byId("side"), [["", "any side"], ...facts.sides.map((side) => [side, side])], state.side);
  // A label may be anything, also what stands for none of them: it comes after a mark.
  options(byId("class"), [["", "any class"], ...facts.classes.map((one) => (one.label === null ? ["-", "no label"] : [`=${one.label}`, one.label]))], state.unlabelled ? "-" : state.class ? `=${state.class}` : "");
  byId("side").parentElement.hidden = !facts.sides.length || Boolean(state.reason);
}

function showChanges(found) {
  const all = found.counts.reduce((sum, one) => sum + one.images, 0);
  const row = (one) => el("tr", { "aria-current": one.change === state.change && one.by === state.by ? "true" : undefined },
    el("th", { scope: "row", textContent: CHANGES[one.change] }),
    el("td", {}, leadTo(one.by, { change: one.change, by: one.by }, `${images(one.images)} ${CHANGES[one.change]}: ${one.by}`)),
    el("td", { textContent: number(one.images) }));
  byId("changes").replaceChildren(...found.counts.map(row));
  byId("changes-part").hidden = !all;
  byId("all-changes").replaceChildren(leadTo("Show all changes", { change: "", by: "" }));
  byId("all-changes").hidden = !state.change && !state.by;
  const totals = Object.keys(CHANGES).map((change) => [change, found.counts.filter((one) => one.change === change).reduce((sum, one) => sum + one.images, 0)]).filter(([, many]) => many);
  byId("count").textContent = totals.length ? `${totals.map(([change, many]) => `${number(many)} ${CHANGES[change]}`).join(", ")}${state.change || state.by ? `; shown are ${number(found.total)}` : ""}` : "";
}

// ------------------------------------------------------------------- taking along

const isOfFiles = () => byId("format").selectedOptions[0].dataset.list !== "true";

/** What is asked for as files: format, and what is done to the bytes. */
const asFiles = () => ({ to: byId("format").value, ...(byId("upright").checked ? { upright: true } : {}), ...(byId("strip-metadata").checked ? { strip_metadata: true } : {}) });

function showExport() {
  byId("called").placeholder = `${name}-${facts.version.version}`;
  const called = byId("called").value.trim() || byId("called").placeholder;
  const files = asFiles();
  for (const part of byId("main").querySelectorAll(".of-files")) part.hidden = !isOfFiles();
  const options = `${files.upright ? " --upright" : ""}${files.strip_metadata ? " --strip-metadata" : ""}${dataset.options ? ` ${dataset.options}` : ""}`;
  const line = `curation dataset export ${quoted(`${name}@${facts.version.version}`)} --to ${files.to} --out ${quoted(called)}${options}`;
  byId("command").replaceChildren(
    el("p", { className: "soft", textContent: "On the machine of the lake this writes the same as a folder, and goes on where it was ended:" }),
    commandLine(line),
  );
  if (isOfFiles()) tellFiles(files);
  else {
    counted = "";
    byId("export-state").textContent = "";
    byId("download").disabled = false;
  }
}

let counted = ""; // what was asked of files last

/** How large the files would be, and what the format loses, before anybody takes them. */
async function tellFiles(files) {
  const of = ofVersion(`/files?${new URLSearchParams(files)}`);
  if (counted === of) return;
  counted = of;
  byId("export-state").textContent = "The files are counted …";
  byId("download").disabled = true;
  const told = await askJson(of).then(
    (would) => ({ text: [`${images(would.images)}, ${size(would.bytes)}`, ...would.notes].join(" · "), can: true }),
    (error) => ({ text: error.message, can: error.status === 429 }), // until one is done
  );
  if (counted !== of) return;
  byId("export-state").textContent = told.text;
  byId("download").disabled = !told.can;
}

/** A list comes as a whole; files come while they are put together. */
async function takeAlong() {
  const called = byId("called").value.trim() ? { called: byId("called").value.trim() } : {};
  byId("download").disabled = true;
  try {
    if (isOfFiles()) {
      const files = asFiles();
      await ask(ofVersion(`/files?${new URLSearchParams(files)}`)); // whether it can be sent now: else this page would go
      const by = reviewer() ? { by: reviewer() } : {};
      location.assign(`/archive?${new URLSearchParams({ dataset: name, version: facts.version.version, ...files, ...called, ...by })}`);
    } else {
      byId("export-state").textContent = "The list is written …";
      await download(await ask(ofVersion(`/list?${new URLSearchParams({ format: byId("format").value, ...called })}`)));
      byId("export-state").textContent = "It is in the browser's downloads.";
    }
  } catch (error) {
    byId("export-state").textContent = error.message;
  }
  byId("download").disabled = false;
}

function showOne() {
  byId("asked").addEventListener("submit", (event) => event.preventDefault());
  byId("version").addEventListener("change", () => go({ ...NOTHING, version: byId("version").value }));
  byId("compare").addEventListener("change", () => go({ ...NOTHING, compare: byId("compare").value }));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("change", () => {
    const label = byId("class").value;
    const reason = byId("reason").value;
    go({ reason, side: reason ? "" : byId("side").value, class: label.startsWith("=") ? label.slice(1) : "", unlabelled: label === "-" ? "true" : "" });
  });
  byId("more").addEventListener("click", async () => {
    byId("more").disabled = true; // a second click would ask for the same images
    await load(stop.signal).catch((error) => error.name === "AbortError" || fail(error));
    byId("more").disabled = false;
  });
  byId("export").addEventListener("input", showExport);
  byId("export").addEventListener("submit", (event) => {
    event.preventDefault();
    takeAlong();
  });
  addEventListener("popstate", () => {
    readAddress();
    start();
  });
  readAddress();
  start();
}

if (name) showOne();
else showAll();
