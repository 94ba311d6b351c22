// Duplicates: groups, the largest first; and one at a time, with what tells its images apart and which of them is kept.
import { askJson, byId, el, fail, images, keyButton, labelled, large, linkTile, number, shot, size } from "./dom.js";
import { Decider, tellOfTrouble } from "./decide.js";
import { Review, undecided } from "./review.js";

const PAGE = 20;
const FEW = 4; // images of a group that are shown large at once
const SAID = { keeper: "decided", keep: "all are kept", different: "not the same" };
const KIND = { exact: "the same bytes", near: "the same photograph", burst: "the same scene" };
const decider = new Decider(byId("saved"));
const groups = (count) => `${number(count)} ${count === 1 ? "group" : "groups"}`;
tellOfTrouble(decider, byId("notices"));

const state = { kind: "", folder: "", undecided: false, offset: 0, view: "" };
let answer = null; // the last one
let review = null;
let stop = new AbortController();

// ------------------------------------------------------------------ the address

function readAddress() {
  const asked = new URLSearchParams(location.search);
  state.kind = asked.get("kind") in KIND ? asked.get("kind") : "";
  state.folder = asked.get("folder") ?? "";
  state.undecided = asked.get("undecided") === "true";
  state.offset = Math.max(0, Math.floor(Number(asked.get("offset")) || 0));
  state.view = asked.get("view") === "one" ? "one" : "";
  byId("kind").value = state.kind;
  byId("folder").value = state.folder;
  byId("undecided").checked = state.undecided;
}

function go() {
  const given = Object.entries(state).filter(([, value]) => value);
  history.pushState(null, "", given.length ? `?${new URLSearchParams(given)}` : location.pathname);
  return start();
}

function ask(more, options) {
  const asked = Object.entries({ kind: state.kind, folder: state.folder, ...more }).filter(([, value]) => value);
  return askJson(`/api/duplicates?${new URLSearchParams(asked)}`, options);
}

async function start() {
  stop.abort();
  stop = new AbortController();
  try {
    const found = await ask({ k: PAGE, offset: state.offset, undecided: state.undecided }, { signal: stop.signal });
    answer = found;
    decider.latest ??= found.latest;
    byId("notices").replaceChildren();
    show();
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
    return;
  }
  if (state.view === "one" && !review) await begin();
}

// ------------------------------------------------------------------- all groups

function show() {
  const kinds = answer.kinds.filter((one) => !state.kind || one.kind === state.kind);
  const sum = (name) => kinds.reduce((total, one) => total + one[name], 0);
  byId("count").textContent = sum("groups")
    ? `${groups(sum("groups"))} of ${images(sum("images"))}: ${number(sum("undecided"))} to decide, ${images(sum("spare"))} beside the keepers`
    : state.folder || state.kind ? "No such group is here." : "No two images show the same.";
  for (const one of answer.kinds) {
    byId("kind").querySelector(`option[value=${one.kind}]`).textContent = `${KIND[one.kind]} (${number(one.groups)})`;
  }
  const told = answer.kinds.find((one) => one.kind === state.kind);
  byId("meaning").textContent = told ? `${told.meaning}. What to do: ${told.advice}.`.replace(/^./, (first) => first.toUpperCase()) : "";
  byId("meaning").hidden = !told;
  byId("begin").disabled = !answer.undecided;
  byId("groups").replaceChildren(...answer.groups.map(row));
  if (!answer.groups.length) {
    const nothing = state.undecided && sum("groups") ? "Nothing is left to decide here." : "There is no group to show.";
    byId("groups").append(el("li", { className: "nothing", textContent: nothing }));
  }
  byId("pages").hidden = !state.offset && answer.next === null;
  byId("before").disabled = !state.offset;
  byId("after").disabled = answer.next === null;
  byId("where").textContent = answer.groups.length ? `${number(state.offset + 1)} to ${number(answer.next ?? answer.total)} of ${number(answer.total)}` : "";
}

function row(group) {
  const shown = group.images.length;
  return el(
    "li",
    { className: "group", "data-decided": group.decided ?? "" },
    el("p", {},
      el("b", { textContent: `${images(group.total)}, ${KIND[group.kind]}` }),
      el("span", { className: "soft", textContent: ` · ${group.decided ? SAID[group.decided] : "to decide"} · keeper: ${group.rule}` })),
    el("ul", { className: "strip" },
      ...group.images.map((one) => {
        const tile = linkTile(one.image, one.is_keeper ? `keep: ${one.rule}` : one.how ?? KIND[group.kind]);
        tile.classList.toggle("kept", one.is_keeper);
        return tile;
      }),
      group.total > shown ? el("li", { className: "soft", textContent: `and ${number(group.total - shown)} more` }) : null),
  );
}

// ------------------------------------------------------------ one group at a time

const isLarge = (thing) => thing.images.length <= FEW;
const keeperOf = (thing) => thing.images.find((one) => one.is_keeper) ?? thing.images[0];
const left = (thing) => thing.images.filter((one) => !thing.apart.has(one.image.relative_path));
const everyone = (thing) => [...left(thing).map((one) => one.image), ...thing.rest];

function thingOf(group) {
  const thing = { ...group, key: `${group.kind} ${group.group_id}`, apart: new Set() };
  thing.keys = [...group.images.map((one) => one.image), ...group.rest].map((one) => one.relative_path);
  thing.chosen = thing.images.find((one) => one !== keeperOf(thing));
  return thing;
}

const shownOf = (thing) => ({
  group: thing.group_id,
  kind: thing.kind,
  rule: thing.rule,
  proposed: thing.keeper,
  images: everyone(thing).length,
  members: [...new Set(everyone(thing).map((one) => one.content_sha256))].sort(),
});

function keeperDecision(thing, one) {
  if (!one || thing.apart.has(one.image.relative_path)) return null;
  return [{ kind: "keeper", key: one.image.relative_path, content: one.image.content_sha256, shown: shownOf(thing) }];
}

function keepDecisions(thing) {
  const shown = { group: thing.group_id, kind: thing.kind };
  return everyone(thing).map((one) => ({ kind: "keep", field: "duplicate", key: one.relative_path, content: one.content_sha256, shown }));
}

function differentDecision(thing) {
  const { chosen } = thing;
  const keeper = keeperOf(thing);
  if (!chosen || chosen.image.content_sha256 === keeper.image.content_sha256) {
    review.state.textContent = "These are the same bytes: they can't show something else.";
    return null;
  }
  thing.leaving = chosen;
  return [{
    kind: "different", key: chosen.image.relative_path, content: chosen.image.content_sha256,
    other: keeper.image.relative_path, other_content: keeper.image.content_sha256,
    shown: { group: thing.group_id, kind: thing.kind, similarity: chosen.similarity },
  }];
}

/** Whether there is more to say of a group once an image has left it. */
function goesOn(thing) {
  if (left(thing).length + thing.rest.length <= 2) return false;
  thing.apart.add(thing.leaving.image.relative_path);
  thing.chosen = left(thing).find((one) => one !== keeperOf(thing));
  return true;
}

function takenBack(step) {
  const thing = review.things.find((one) => step.keys.some((key) => one.apart.has(key)) && step.label === "Not the same");
  if (!thing) return null;
  for (const key of step.keys) thing.apart.delete(key);
  thing.chosen = thing.images.find((one) => step.keys.includes(one.image.relative_path));
  return thing;
}

const dated = (image) => (image.captured_at ? image.captured_at.slice(0, 19).replace("T", " ") : "no date");

/** What is known of an image; what is otherwise than with the keeper stands out. */
function factsOf(thing, one) {
  const keeper = keeperOf(thing);
  const { image } = one;
  const pixels = (of) => (of.width ? `${number(of.width)} × ${number(of.height)}` : "");
  const lines = [
    ["pixels", pixels(image), pixels(keeper.image)],
    ["size", size(image.size_bytes), size(keeper.image.size_bytes)],
    ["date", dated(image), dated(keeper.image)],
    ["label", labelled(one) || "none", labelled(keeper) || "none"],
    ["folder", image.folder, keeper.image.folder],
  ];
  if (one !== keeper) lines.unshift(["picture", one.how ?? (one.similarity === null ? "not compared with it" : `${(100 * one.similarity).toFixed(0)} % alike`), ""]);
  return el("dl", {}, ...lines.filter(([name, value, other]) => value && !(name === "label" && value === other && value === "none")).map(([name, value, other]) =>
    el("div", {}, el("dt", { textContent: name }), el("dd", {}, one === keeper || value === other ? value : el("b", { textContent: value })))));
}

function draw(thing) {
  const keeper = keeperOf(thing);
  const first = Date.parse(thing.images[0].image.captured_at ?? "");
  const cards = thing.images.map((one, at) => {
    const { image } = one;
    const isApart = thing.apart.has(image.relative_path);
    const picture = shot(image);
    if (isLarge(thing) && picture.tagName === "IMG") picture.src = large(image);
    picture.loading = "eager";
    const look = el("button", { type: "button", className: "picture", "aria-pressed": String(one === thing.chosen), "aria-label": `Choose ${image.name}`, disabled: isApart }, picture);
    look.addEventListener("click", () => (one === thing.chosen || one === keeper ? compare(thing) : choose(thing, one)));
    const keep = el("button", { type: "button", className: "quiet", disabled: isApart }, one === keeper ? "Proposed keeper" : "Keep this one", at < 9 ? el("kbd", { textContent: String(at + 1) }) : null);
    keep.addEventListener("click", () => review.answer({ ...ANOTHER, decide: () => keeperDecision(thing, one) }));
    const later = thing.kind === "burst" && image.captured_at && !Number.isNaN(first) ? (Date.parse(image.captured_at) - first) / 1000 : null;
    return el(
      "li",
      { className: `member${one === keeper ? " kept" : ""}${isApart ? " apart" : ""}`, "data-chosen": String(one === thing.chosen) },
      look,
      el("p", {},
        el("a", { href: image.page, textContent: image.name, title: image.path }),
        later === null ? null : el("span", { className: "soft", textContent: ` +${number(later)} s` })),
      el("p", { className: "soft", textContent: isApart ? "not the same as the keeper" : one === keeper ? `keep: ${one.rule}` : `the keeper is preferred: ${one.rule}` }),
      factsOf(thing, one),
      keep,
    );
  });
  const look = keyButton("Blink and difference", "B", { does: () => compare(thing) });
  return el(
    "section",
    { className: "one-group", "aria-label": `${images(thing.total)}, ${KIND[thing.kind]}` },
    el("div", { className: "bar" },
      el("p", {}, el("b", { textContent: `${images(thing.total)}, ${KIND[thing.kind]}` }), el("span", { className: "soft", textContent: ` · keeper: ${thing.rule}` })),
      el("div", { className: "bar-end" }, look)),
    el("ul", { className: `members ${thing.kind}`, "data-many": String(thing.images.length) }, ...cards),
    thing.rest.length ? el("p", { className: "soft", textContent: `and ${images(thing.rest.length)} more, which an answer is about too` }) : null,
  );
}

function choose(thing, one) {
  thing.chosen = one;
  review.show();
  review.shown.querySelector("[data-chosen=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function chooseNext(thing, by) {
  const others = left(thing).filter((one) => one !== keeperOf(thing));
  if (others.length) choose(thing, others[(others.indexOf(thing.chosen) + by + others.length) % others.length]);
}

// ------------------------------------------------------------- blink and difference

const FRAMED = /shows|around|turned|mirrored/; // in other places of the picture is something else

function compare(thing) {
  if (!thing.chosen) return;
  const keeper = keeperOf(thing);
  const pictures = { keeper: el("img", {}), chosen: el("img", {}) };
  const canvas = el("canvas", { role: "img", "aria-label": "Their difference" });
  const told = el("p", { role: "status", "aria-live": "polite" });
  const button = (name, key, does) => keyButton(name, key, { does });
  const dialog = el("dialog", { className: "compare", "aria-label": "Two images in one place" });
  let shows = "keeper";
  function close() {
    dialog.close(); // the focus goes back
    dialog.remove(); // at once: the next key is for what lies below
  }
  const blink = () => see(shows === "chosen" ? "keeper" : "chosen");
  const differ = () => difference.disabled || see(shows === "difference" ? "keeper" : "difference");
  const difference = button("Difference", "X", differ);
  const pixels = button("Own pixels", "F", () => pixels.setAttribute("aria-pressed", String(stage.classList.toggle("pixels"))));
  const another = button("Next image", "↓", () => next(1));
  another.hidden = left(thing).length < 3;

  function see(what) {
    shows = what;
    pictures.keeper.hidden = what !== "keeper";
    pictures.chosen.hidden = what !== "chosen";
    canvas.hidden = what !== "difference";
    const mean = what === "difference" ? drawDifference(canvas, pictures.keeper, pictures.chosen) : 0;
    difference.setAttribute("aria-pressed", String(what === "difference"));
    told.textContent = {
      keeper: `The keeper: ${keeper.image.path}`,
      chosen: `${thing.chosen.image.path}${thing.chosen.how ? ` · ${thing.chosen.how}` : ""}`,
      difference: `What differs, three times as strong; ${(mean * 100).toFixed(1)} % on average`,
    }[what];
  }

  async function open() {
    difference.disabled = true;
    for (const [name, one] of [["keeper", keeper], ["chosen", thing.chosen]]) Object.assign(pictures[name], { src: large(one.image), alt: one.image.name });
    see("keeper");
    const { chosen } = thing;
    try {
      await Promise.all([pictures.keeper.decode(), pictures.chosen.decode()]);
    } catch {
      if (chosen === thing.chosen) told.textContent = "A picture can't be shown.";
      return;
    }
    const shape = (picture) => picture.naturalWidth / picture.naturalHeight;
    const fits = Math.abs(shape(pictures.keeper) / shape(pictures.chosen) - 1) < 0.02 && !FRAMED.test(chosen.how ?? "");
    if (chosen === thing.chosen) difference.disabled = !fits;
    difference.title = fits ? "" : "Their frames differ: switch between them";
  }

  function next(by) {
    chooseNext(thing, by);
    open();
  }

  const first = button("Switch", "B", blink);
  first.autofocus = true; // and not the stage, which has it to be scrolled by keys
  const stage = el("div", { className: "stage", tabIndex: 0 }, pictures.keeper, pictures.chosen, canvas);
  dialog.append(
    stage,
    told,
    el("p", { className: "actions" }, first, difference, pixels, another, button("Close", "Esc", close)),
  );
  stage.addEventListener("click", blink);
  dialog.addEventListener("keydown", (event) => {
    const does = { escape: close, b: blink, x: differ, f: () => pixels.click(), arrowdown: () => next(1), arrowup: () => next(-1) }[event.key.toLowerCase()];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    does();
  });
  dialog.addEventListener("close", close); // by a gesture of the phone
  document.body.append(dialog);
  dialog.showModal();
  open();
}

/** Draw what differs between two pictures of one shape; the mean of it, from 0 to 1. */
function drawDifference(canvas, one, other) {
  canvas.width = Math.min(one.naturalWidth, other.naturalWidth);
  canvas.height = Math.round((canvas.width * one.naturalHeight) / one.naturalWidth);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const pixels = (picture) => {
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    return pen.getImageData(0, 0, canvas.width, canvas.height);
  };
  const found = pixels(one);
  const beside = pixels(other).data;
  let sum = 0;
  for (let at = 0; at < beside.length; at += 1) {
    if (at % 4 === 3) continue;
    const apart = Math.abs(found.data[at] - beside[at]);
    sum += apart;
    found.data[at] = 3 * apart;
  }
  pen.putImageData(found, 0, 0);
  return sum / (beside.length * 0.75) / 255;
}

// ---------------------------------------------------------------------- answers

const ANOTHER = {
  keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], name: "Another keeper", bare: true,
  decide: (thing, key) => keeperDecision(thing, thing.images[Number(key) - 1]),
};
const ANSWERS = [
  { keys: ["enter"], name: "Accept keeper", title: "The proposed one is kept; the others are its copies", strong: true, decide: (thing) => keeperDecision(thing, keeperOf(thing)) },
  { keys: ["a"], name: "Keep all", title: "Each of them stays in versions of datasets", decide: keepDecisions },
  { keys: ["d"], name: "Not the same", title: "The chosen image and the keeper show something else", decide: differentDecision, stays: goesOn },
  ANOTHER,
];

async function begin() {
  byId("look").hidden = true;
  byId("review").hidden = false;
  const open = answer.undecided;
  review = new Review({
    place: byId("review"),
    decider,
    draw,
    pictures: (thing) => thing.images.slice(0, 12).map((one) => (isLarge(thing) ? large(one.image) : one.image.thumbnail)).filter(Boolean),
    left: () => `${groups(Math.max(0, open - review.done.size))} to decide`,
    load: undecided(async (from) => {
      const found = await ask({ undecided: true, k: 20, images: 100, rest: true, offset: from });
      return { things: found.groups.map(thingOf), next: found.next, total: found.total };
    }),
    answers: ANSWERS,
    press: (key, thing) => {
      if (key === "b") compare(thing);
      else if (key === "arrowdown" || key === "arrowup") chooseNext(thing, key === "arrowdown" ? 1 : -1);
      else return false;
      return true;
    },
    taken: takenBack,
    concerns: (one, thing) => one.kind === "keeper" || one.field === "duplicate" || (one.kind === "different" && thing.total === 2),
    close: () => {
      review = null;
      byId("review").hidden = true;
      byId("look").hidden = false;
      byId("begin").focus();
      decider.settled().then(() => {
        if (!state.view) return start();
        state.view = "";
        return go();
      });
    },
  });
  await review.begin();
}

byId("begin").addEventListener("click", () => {
  state.view = "one";
  go();
});
byId("asked").addEventListener("submit", (event) => event.preventDefault());
byId("asked").addEventListener("change", () => {
  Object.assign(state, { kind: byId("kind").value, folder: byId("folder").value.trim(), undecided: byId("undecided").checked, offset: 0 });
  go();
});
byId("before").addEventListener("click", () => {
  state.offset = Math.max(0, state.offset - PAGE);
  go().then(() => byId("count").scrollIntoView({ block: "nearest" }));
});
byId("after").addEventListener("click", () => {
  state.offset = answer.next;
  go().then(() => byId("count").scrollIntoView({ block: "nearest" }));
});
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
