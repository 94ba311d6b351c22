// Clusters: the largest first, each with images near its centre and far from it, and a name that people can change.
import { askJson, byId, el, images, linkTile, notice, number } from "./dom.js";
import { Decider } from "./decide.js";

const PAGE = 24;
const TYPED_MS = 250; // after the last letter
const decider = new Decider(byId("saved"));
const clusters = (count) => `${number(count)} ${count === 1 ? "cluster" : "clusters"}`;
const state = { name: "", folder: "" };
let mayDecide = false;
let offset = 0;
let stop = new AbortController();
let typing = 0;

// ------------------------------------------------------------------ the address

function readAddress() {
  const asked = new URLSearchParams(location.search);
  for (const name of Object.keys(state)) byId(name).value = state[name] = asked.get(name) ?? "";
}

const given = () => Object.entries(state).filter(([, value]) => value);

function go({ replace = false } = {}) {
  const before = JSON.stringify(state);
  Object.assign(state, { name: byId("name").value.trim(), folder: byId("folder").value.trim() });
  if (JSON.stringify(state) === before) return;
  history[replace ? "replaceState" : "pushState"](null, "", given().length ? `?${new URLSearchParams(given())}` : location.pathname);
  start();
}

const ask = (more, options) => askJson(`/api/clusters?${new URLSearchParams([...given(), ...Object.entries(more)])}`, options);

async function start() {
  stop.abort();
  stop = new AbortController();
  try {
    const found = await ask({ k: PAGE }, { signal: stop.signal });
    byId("notices").replaceChildren(...(found.without ? [notice(`${images(found.without)} ${found.without === 1 ? "is" : "are"} in no cluster yet: \`curation curate\` puts them into one.`)] : []));
    byId("clusters").replaceChildren();
    offset = 0;
    take(found);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("notices").replaceChildren(notice(error.message, "alert"));
    byId("clusters").replaceChildren();
    byId("count").textContent = "There are no clusters to show.";
    byId("more").hidden = true;
  }
}

function take(found) {
  mayDecide = found.may_decide;
  offset += found.clusters.length;
  byId("clusters").append(...found.clusters.map(card));
  byId("more").hidden = !found.clusters.length || offset >= found.total;
  byId("count").textContent = `${clusters(found.total)}${state.name ? ` called so, of ${images(found.images)}` : ` of ${images(found.images)}`}`;
  if (!found.total) byId("clusters").append(el("li", { className: "nothing", textContent: state.name ? "No cluster is called so." : "No image here is in a cluster." }));
}

// -------------------------------------------------------------------- one cluster

function membersOf(cluster) {
  const asked = new URLSearchParams({ where: `cluster = ${cluster.cluster}`, sort: "cluster_distance" });
  if (state.folder) asked.set("folder", state.folder);
  return `/?${asked}`;
}

function card(cluster) {
  const made = el("li", { className: "group cluster", "data-cluster": String(cluster.cluster), "data-decided": "" });
  const head = el("div", { className: "cluster-head" });
  made.append(
    head,
    el("div", { className: "cluster-shots" }, strip("Near the centre, the nearest first", cluster.near), strip("Far from it, the farthest first", cluster.far)),
    el("p", { className: "actions" },
      el("a", { className: "button", href: membersOf(cluster), textContent: `All ${images(cluster.images)}, the most typical first` }),
      el("a", { className: "button", href: `/map?${new URLSearchParams({ colour: "cluster", show: `cluster = ${cluster.cluster}` })}`, textContent: "On the map", "aria-label": `${cluster.name} on the map` })),
  );
  showHead(head, cluster);
  return made;
}

function strip(title, shown) {
  if (!shown.length) return null;
  return el("section", {}, el("h3", { className: "soft", textContent: title }), el("ul", { className: "strip" }, ...shown.map((image) => linkTile(image))));
}

function showHead(head, cluster) {
  const name = mayDecide
    ? el("button", { type: "button", className: "naming", title: "Rename (Enter)", "aria-label": `${cluster.name}: rename`, textContent: cluster.name })
    : cluster.name;
  const share = `${images(cluster.images)} · ${(100 * cluster.share).toFixed(1)} % · number ${cluster.cluster} · spread ${cluster.spread.toFixed(3)}`;
  const by = cluster.named_by === null ? "" : ` · named by ${cluster.named_by}; the program calls it ${cluster.own_name}`;
  head.replaceChildren(el("h2", {}, name), el("p", { className: "soft", textContent: share + by }));
  if (mayDecide) name.addEventListener("click", () => edit(head, cluster));
}

/** In place of the name what to write another one in. */
function edit(head, cluster) {
  const input = el("input", { value: cluster.name, maxLength: 100, required: true, spellcheck: true, autocomplete: "off", "aria-label": `Name of cluster ${cluster.cluster}` });
  const told = el("p", { className: "soft", role: "status", "aria-live": "polite", textContent: `The program calls it ${cluster.own_name}.` });
  const back = el("button", { type: "button", className: "quiet", textContent: "Take the name back", hidden: cluster.named_by === null });
  const cancel = el("button", { type: "button", className: "quiet", textContent: "Cancel" });
  const form = el("form", { className: "rename" }, input, el("button", { className: "strong", textContent: "Save" }), back, cancel);
  let saving = false;

  const close = () => {
    showHead(head, cluster);
    head.querySelector(".naming")?.focus();
  };
  const save = async (name) => {
    if (saving) return;
    const by = await decider.name();
    if (!by) {
      input.focus();
      return;
    }
    saving = true;
    told.classList.remove("bad");
    told.textContent = "Saving …";
    try {
      const answer = await askJson("/api/clusters/names", {
        method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ cluster: cluster.cluster, name, by, seen: cluster.name }),
      });
      const { is_new: _, ...called } = answer;
      Object.assign(cluster, called);
      close();
    } catch (error) {
      told.classList.add("bad");
      told.textContent = error.message;
      if (error.status === 409) await look(cluster, told);
      input.focus();
    } finally {
      saving = false;
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save(input.value);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    close();
  });
  back.addEventListener("click", () => save(null));
  cancel.addEventListener("click", close);
  head.replaceChildren(form, told);
  input.select();
}

/** What another person called it: whoever saves again has seen that. */
async function look(cluster, told) {
  try {
    const found = (await askJson(`/api/clusters?${new URLSearchParams({ k: "500" })}`)).clusters.find((one) => one.cluster === cluster.cluster);
    if (!found) return;
    for (const name of ["name", "own_name", "named_by", "named_at"]) cluster[name] = found[name];
    told.textContent += ". Save again to overrule it, Esc to leave it.";
  } catch {
    // what was said of it stands there
  }
}

// ---------------------------------------------------------------------- controls

byId("asked").addEventListener("submit", (event) => {
  event.preventDefault();
  go();
});
byId("asked").addEventListener("change", () => {
  clearTimeout(typing);
  go();
});
byId("name").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => go({ replace: true }), TYPED_MS);
});
byId("more").addEventListener("click", () =>
  ask({ k: PAGE, offset }, { signal: stop.signal }).then(take).catch((error) => byId("notices").replaceChildren(notice(error.message, "alert"))));
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input, select, textarea")) return;
  if (event.key === "/") byId("name").focus();
  else if (event.target.matches?.(".naming") && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    const all = [...document.querySelectorAll(".naming")];
    all[all.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
  } else return;
  event.preventDefault();
});
addEventListener("popstate", () => {
  readAddress();
  start();
});
readAddress();
start();
