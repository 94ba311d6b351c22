// Leakage: pairs across sides counted, and each image that should give way beside what it is alike to on other sides.
import { askJson, byId, el, fail, images, notice, number } from "./dom.js";
import { likeness, namedTile } from "./named.js";

const PAGE = 20;
const KINDS = { exact: "the same bytes", near: "the same photograph", burst: "the same scene" };
const FIELDS = ["dataset", "version", "kind", "one", "other"];
const pairs = (count) => `${number(count)} ${count === 1 ? "pair" : "pairs"}`;

const state = Object.fromEntries(FIELDS.map((field) => [field, ""]));
let between = []; // pairs of sides, as the select has them by number
let offset = 0;
let stop = new AbortController();

const given = (of = state) => FIELDS.filter((field) => of[field]).map((field) => [field, of[field]]);
const address = (of = state) => (given(of).length ? `?${new URLSearchParams(given(of))}` : location.pathname);

function readAddress() {
  const asked = new URLSearchParams(location.search);
  for (const field of FIELDS) state[field] = asked.get(field) ?? "";
}

async function go(change, place = null) {
  Object.assign(state, change);
  history.pushState(null, "", address());
  await start();
  if (place) {
    byId(place).scrollIntoView({ block: "start" });
    byId(place).focus({ preventScroll: true });
  }
}

function leadTo(text, change, label) {
  const link = el("a", { href: address({ ...state, ...change }), textContent: text, "aria-label": label });
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(change, "shown-title");
  });
  return link;
}

const ask = (signal) => askJson(`/api/leakage?${new URLSearchParams([...given(), ["k", PAGE], ["offset", offset]])}`, { signal });

async function start() {
  stop.abort();
  stop = new AbortController();
  offset = 0;
  byId("kind").value = state.kind;
  byId("count").textContent = "Pairs are looked for …";
  try {
    const found = await ask(stop.signal);
    byId("list").replaceChildren();
    showSources(found);
    showCounts(found);
    take(found);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("count").textContent = "";
    byId("told").hidden = true;
    byId("list").replaceChildren();
    byId("more").hidden = true;
    fail(error);
  }
}

const versionName = (one) => `${one.dataset}@${one.version}`;

function showSources(found) {
  byId("of").replaceChildren(
    el("option", { value: "", textContent: "the annotations" }),
    ...found.versions.map((one) => el("option", { value: versionName(one), textContent: versionName(one) })),
  );
  byId("of").value = found.dataset === null ? "" : versionName(found);
  byId("notices").replaceChildren(
    ...[
      found.why_not ? notice(`Nothing is told of leaks: ${found.why_not}.`) : null,
      found.waiting ? notice(`${images(found.waiting)} ${found.waiting === 1 ? "is" : "are"} not compared yet, so a leak might not be seen; \`curation curate\` does that.`) : null,
      found.not_examined ? notice(`Of ${images(found.not_examined)} only equal bytes are seen, as their pictures can't be compared.`) : null,
    ].filter(Boolean),
  );
}

function showCounts(found) {
  const isTold = !found.why_not;
  byId("told").hidden = !isTold;
  byId("shown-title").hidden = !found.pairs;
  const built = found.built === null || found.built === found.pairs ? "" : `; when it was built there were ${number(found.built)}`;
  const without = found.without_split ? `; of ${images(found.without_split)} no side is known` : "";
  byId("count").textContent = !isTold ? "" : `${found.pairs ? `${pairs(found.pairs)} across sides` : "No image is on two sides"}${built}${without}.`;
  byId("splits").replaceChildren(
    ...found.splits.map((one) => el("li", { className: one.give_way ? "bad" : "" },
      el("b", { textContent: number(one.images) }), `${one.name}${one.give_way ? `: ${number(one.give_way)} should give way` : ""}`)),
  );
  between = [...new Map(found.counts.map((one) => [JSON.stringify([one.one, one.other]), one])).values()].map(({ one, other }) => ({ one, other }));
  byId("sides").replaceChildren(
    el("option", { value: "", textContent: "any two sides" }),
    ...between.map((two, at) => el("option", { value: String(at), textContent: `${two.one} and ${two.other}` })),
  );
  const at = between.findIndex((two) => two.one === state.one && two.other === state.other);
  byId("sides").value = at < 0 ? "" : String(at);
  const many = (two, kind) => found.counts.filter((one) => one.one === two.one && one.other === two.other && (!kind || one.kind === kind)).reduce((sum, one) => sum + one.pairs, 0);
  const cell = (two, kind) => {
    const count = many(two, kind);
    return el("td", {}, count ? leadTo(number(count), { ...two, kind }, `${pairs(count)} of ${two.one} and ${two.other}${kind ? `: ${KINDS[kind]}` : ""}`) : "·");
  };
  byId("counts").replaceChildren(
    ...between.map((two) => el("tr", {}, el("th", { scope: "row", textContent: `${two.one} and ${two.other}` }), ...Object.keys(KINDS).map((kind) => cell(two, kind)), cell(two, ""))),
  );
  byId("counts-part").hidden = !between.length;
}

function take(found) {
  offset += PAGE;
  byId("list").append(...found.images.map(row));
  byId("more").hidden = offset >= found.total;
  byId("shown-title").textContent = `${images(found.total)} that should give way`;
  if (!found.total && found.pairs) byId("list").append(el("li", { className: "nothing", textContent: "There is no such pair." }));
}

function row(one) {
  const more = one.others - one.beside.length;
  return el(
    "li",
    { className: "group" },
    el("p", {},
      el("b", { textContent: `${one.split} should give it up` }),
      el("span", { className: "soft", textContent: ` · in ${pairs(one.others)}${one.label === null ? "" : ` · ${one.label}`}` })),
    el("ul", { className: "strip" },
      namedTile(one, one.split),
      ...one.beside.map((other) => {
        const tile = namedTile(other, `${other.split} · ${KINDS[other.kind]}`, likeness(other));
        tile.classList.add("kept");
        return tile;
      }),
      more > 0 && !state.kind && !state.one ? el("li", { className: "soft", textContent: `and ${number(more)} more` }) : null),
  );
}

byId("asked").addEventListener("submit", (event) => event.preventDefault());
byId("of").addEventListener("change", () => {
  const [dataset, version] = byId("of").value.split("@");
  go({ dataset, version: version ?? "", kind: "", one: "", other: "" });
});
byId("kind").addEventListener("change", () => go({ kind: byId("kind").value }));
byId("sides").addEventListener("change", () => go(byId("sides").value ? between[Number(byId("sides").value)] : { one: "", other: "" }));
byId("more").addEventListener("click", async () => {
  byId("more").disabled = true; // a second click would ask for the same images
  await ask(stop.signal).then(take).catch((error) => error.name === "AbortError" || fail(error));
  byId("more").disabled = false;
});
addEventListener("popstate", () => {
  readAddress();
  start();
});
readAddress();
start();
