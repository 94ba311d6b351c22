// Problems: cards of all kinds, or one kind with a line that can be moved, images either side of it, and a decision each.
import { askJson, byId, el, fail, images, large, largeShot, number, shot, told } from "./dom.js";
import { Decider, tellOfTrouble } from "./decide.js";
import { idle, leftOf, measuring, sampled } from "./measuring.js";
import { namedTile } from "./named.js";
import { ANSWERS, decideOnTiles, decisionOf } from "./pictures.js";
import { askedOnce, Review, undecided } from "./review.js";
import { selectionBar } from "./selection.js";
import { Tiles } from "./tiles.js";

const PAGE = 60;
const SVG = "http://www.w3.org/2000/svg";
const decider = new Decider(byId("saved"));
const words = (kind) => kind.replaceAll("_", " ");
tellOfTrouble(decider, byId("notices"));

// ------------------------------------------------------------------- all kinds

async function showKinds() {
  const answer = await askJson("/api/problems");
  const found = answer.kinds.filter((kind) => kind.images);
  byId("count").textContent = `${images(answer.measured)} are measured. ${found.length ? "" : "None has a problem."}`;
  byId("kinds").replaceChildren(
    ...answer.kinds.map((kind) =>
      el(
        "li",
        { className: kind.images ? "kind" : "kind none" },
        el(
          "a",
          { href: `/problems?kind=${kind.kind}` },
          el("span", { className: "kind-head" },
            el("b", { textContent: words(kind.kind) }),
            el("span", { className: kind.images ? "badge" : "soft", textContent: number(kind.images) })),
          el("span", { className: "soft", textContent: kind.meaning }),
          el("span", { className: "shots" }, ...kind.examples.map((image) => shot(image))),
          el("span", { className: "soft", textContent: kindState(kind) }),
        ),
      ),
    ),
  );
}

function kindState(kind) {
  if (!kind.images && !kind.kept) return kind.limit;
  const said = kind.undecided ? `${number(kind.undecided)} to decide` : "all decided";
  return `${kind.limit} · ${said}${kind.kept ? ` · ${number(kind.kept)} kept` : ""}`;
}

// --------------------------------------------------------------------- one kind

function oneKind() {
  const { kind } = byId("line").dataset;
  const hasEvidence = "evidence" in byId("line").dataset;
  const tiles = new Tiles(byId("grid"), byId("tiles"));
  const state = { threshold: null, folder: "", view: "line", one: false };
  let answer = null; // the last one
  let facts = new Map(); // key → what the answer says of it
  let stop = new AbortController();
  let offset = 0;
  let review = null;

  function readAddress() {
    const asked = new URLSearchParams(location.search);
    const given = Number(asked.get("threshold"));
    state.threshold = asked.get("threshold") && given > 0 ? given : null;
    state.folder = asked.get("folder") ?? "";
    state.view = asked.get("view") === "worst" ? "worst" : "line";
    state.one = asked.get("one") === "true";
    byId("folder").value = state.folder;
  }

  function address() {
    const asked = new URLSearchParams({ kind });
    if (state.threshold !== null) asked.set("threshold", String(state.threshold));
    if (state.folder) asked.set("folder", state.folder);
    if (state.view === "worst") asked.set("view", "worst");
    if (state.one) asked.set("one", "true");
    return asked;
  }

  const go = ({ replace = false } = {}) => {
    history[replace ? "replaceState" : "pushState"](null, "", `?${address()}`);
    return start();
  };

  function asked(more) {
    const parameters = new URLSearchParams(more);
    if (state.threshold !== null) parameters.set("threshold", String(state.threshold));
    if (state.folder) parameters.set("folder", state.folder);
    return `/api/problems/${kind}?${parameters}`;
  }

  async function start() {
    stop.abort();
    stop = new AbortController();
    byId("at-line").setAttribute("aria-pressed", String(state.view === "line"));
    byId("worst").setAttribute("aria-pressed", String(state.view === "worst"));
    try {
      const found = await askJson(asked({ k: PAGE, ...(state.view === "line" ? { around: "true" } : {}) }), { signal: stop.signal });
      facts = new Map();
      tiles.clear();
      offset = found.offset;
      take(found);
      showLine();
      if (state.one && !review) await begin();
    } catch (error) {
      if (error.name !== "AbortError") fail(error);
    }
  }

  function take(found) {
    answer = found;
    decider.latest ??= found.latest;
    for (const one of found.images) {
      one.image.decided = one.decided;
      facts.set(one.image.relative_path, one);
    }
    tiles.add(found.images.map((one) => one.image), found.total);
    offset += found.images.length;
    byId("more").hidden = !found.images.length || offset >= found.total;
    mark();
    count();
    if (!tiles.images.length) byId("tiles").replaceChildren(el("p", { className: "nothing wide", textContent: "No image here can be judged by it." }));
  }

  const verdict = (one) => `${answer.scale} ${Number(one.score.toPrecision(4))}`;

  /** What tiles say beside their names, and on which side of the line they are. */
  function mark() {
    tiles.images.forEach((image, at) => {
      const one = facts.get(image.relative_path);
      const tile = tiles.row.children[at];
      const flagged = answer.is_low ? one.at < answer.threshold : answer.is_counted ? one.at >= answer.threshold : one.at > answer.threshold;
      tile.classList.toggle("beyond", !flagged);
      tile.querySelector(".score").textContent = verdict(one);
    });
  }

  function count() {
    const said = Object.entries(answer.decided).map(([name, many]) => `${number(many)} ${told({ kind: name })}`);
    byId("count").textContent = `${images(answer.flagged)} at ${answer.limit}: ${number(answer.undecided)} to decide${said.length ? `, ${said.join(", ")}` : ""}`;
    byId("begin").disabled = !answer.undecided;
  }

  // The line

  const low = () => answer.histogram.edges[0] ?? 0;
  const high = () => answer.histogram.edges.at(-1) ?? 1;
  const placeOf = (value) => Math.min(1, Math.max(0, (value - low()) / (high() - low() || 1)));

  function showLine() {
    byId("meaning").textContent = `${answer.meaning.charAt(0).toUpperCase()}${answer.meaning.slice(1)}. What to do: ${answer.advice}.`;
    byId("exact").value = String(Number(answer.threshold.toPrecision(6)));
    byId("threshold").value = String(Math.round(1000 * placeOf(answer.threshold)));
    byId("threshold").setAttribute("aria-valuetext", answer.limit);
    const { counts } = answer.histogram;
    const most = Math.log1p(Math.max(1, ...counts));
    const bars = counts.map((many, at) => {
      const middle = (at + 0.5) / counts.length;
      const flagged = answer.is_low ? middle < placeOf(answer.threshold) : middle > placeOf(answer.threshold);
      const bar = document.createElementNS(SVG, "rect");
      const height = (86 * Math.log1p(many)) / most;
      for (const [name, value] of Object.entries({ x: (600 * at) / counts.length, y: 90 - height, width: 600 / counts.length - 1, height })) {
        bar.setAttribute(name, String(value));
      }
      if (flagged) bar.setAttribute("class", "flagged");
      return bar;
    });
    byId("histogram").replaceChildren(...bars);
  }

  let timer = 0;
  async function recount() {
    try {
      const found = await askJson(asked({ k: 0 }));
      if (found.threshold !== state.threshold) return; // it was moved on
      answer = found;
      count();
      mark();
      showLine();
    } catch (error) {
      fail(error);
    }
  }
  function moved(threshold, { settled }) {
    state.threshold = Number(threshold.toPrecision(6));
    byId("exact").value = String(state.threshold);
    recount();
    clearTimeout(timer);
    timer = setTimeout(() => go({ replace: true }), settled ? 0 : 400);
  }
  byId("threshold").addEventListener("input", (event) => {
    const share = Number(event.target.value) / 1000;
    const given = low() + share * (high() - low());
    moved(Math.max(given, (high() - low()) / 1e4, Number.MIN_VALUE), { settled: false });
  });
  byId("exact").addEventListener("change", (event) => Number(event.target.value) > 0 && moved(Number(event.target.value), { settled: true }));
  byId("usual").addEventListener("click", () => {
    state.threshold = null;
    go();
  });
  byId("folder").addEventListener("change", (event) => {
    state.folder = event.target.value.trim().replace(/^\/+|\/+$/g, "");
    go();
  });
  for (const [id, view] of [["at-line", "line"], ["worst", "worst"]]) {
    byId(id).addEventListener("click", () => {
      state.view = view;
      go();
    });
  }
  byId("line").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", async () => {
    try {
      take(await askJson(asked({ k: PAGE, offset })));
    } catch (error) {
      fail(error);
    }
  });

  // Decisions

  const seenOf = (one) => ({ problem: kind, score: one.score, threshold: answer.threshold, sample: one.sample });

  selectionBar({ tiles, decider, changed: mark, active: () => byId("review").hidden });
  decideOnTiles({
    tiles,
    decider,
    place: byId("say"),
    shown: (image) => facts.has(image.relative_path) ? seenOf(facts.get(image.relative_path)) : undefined,
    changed: mark,
    active: () => byId("review").hidden,
  });

  const evidenceOf = askedOnce(
    (one) => `/api/problems/${kind}/evidence?${new URLSearchParams({ key: one.key })}`,
    { said: "", boxes: [], beside: [] }, // the image is gone
  );

  function draw(one) {
    const { image } = one;
    const picture = el("div", { className: "boxed" }, largeShot(image));
    const words = el("span", { className: "soft" });
    const figure = el("figure", { className: "large" }, picture,
      el("figcaption", {},
        el("a", { href: image.page, textContent: image.path }),
        // Who measures isn't told what the score says.
        one.sample ? null : el("span", { className: "soft", textContent: ` · ${verdict(one)} · ${answer.limit}` }),
        words));
    if (!hasEvidence) return figure;
    const beside = el("div", { className: "beside" });
    evidenceOf(one).then((found) => {
      if (!found) return;
      words.textContent = found.said ? ` · ${found.said}` : "";
      if (found.boxes.length && image.width && image.height) picture.append(boxesOver(found.boxes, image));
      if (found.beside.length) {
        beside.append(el("h2", { textContent: "Beside it" }),
          el("ul", { className: "strip" }, ...found.beside.map((other) => namedTile(other, other.told))));
      }
    });
    return el("div", { className: "two" }, figure, beside);
  }

  function boxesOver(boxes, image) {
    const made = (name, attributes, text = "") => {
      const one = document.createElementNS(SVG, name);
      for (const [attribute, value] of Object.entries(attributes)) one.setAttribute(attribute, String(value));
      one.textContent = text;
      return one;
    };
    const drawn = made("svg", { viewBox: `0 0 ${image.width} ${image.height}`, role: "img", "aria-label": `${number(boxes.length)} boxes` });
    for (const box of boxes) {
      drawn.append(made("rect", { x: box.x, y: box.y, width: Math.max(box.width, 0), height: Math.max(box.height, 0) }));
      if (box.label) drawn.append(made("text", { x: box.x, y: box.y, "font-size": image.width / 45, dy: "-0.3em" }, box.label));
    }
    return drawn;
  }
  const thingsOf = (found, sample) => found.images.map((one) => ({ ...one, sample, key: one.image.relative_path }));

  /** One by one, of what `load` gives (as for a Review), perhaps of a sample; and then back to the grid. */
  function decideOneByOne(load, left, sample) {
    byId("look").hidden = true;
    byId("review").hidden = false;
    review = new Review({
      place: byId("review"),
      decider,
      draw,
      pictures: (one) => {
        if (hasEvidence) evidenceOf(one);
        return [large(one.image)];
      },
      left: () => left(review),
      load,
      concerns: sample ? (one) => one.sample === sample : undefined,
      answers: ANSWERS.map((one) => ({ ...one, decide: (thing) => [decisionOf(thing.image, one, seenOf(thing))] })),
      close: () => {
        review = null;
        byId("review").hidden = true;
        byId("look").hidden = false;
        byId("begin").focus();
        decider.settled().then(() => {
          showSamples();
          if (!state.one) return start();
          state.one = false;
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
        const found = await askJson(asked({ undecided: "true", k: 50, offset: from }));
        // An image that the index doesn't have yet is counted, and not told.
        return { things: thingsOf(found), next: from + 50 < found.total ? from + 50 : null, total: found.total };
      }),
      ({ done }) => [`${number(Math.max(0, open - done.size))} to decide`, idle([...done.values()])].filter(Boolean).join(" · "),
    );
  }

  byId("begin").addEventListener("click", () => {
    state.one = true;
    go();
  });

  // Measuring

  const lookAt = (sample, by) =>
    decideOneByOne(sampled(kind, sample, thingsOf, by), (review) => leftOf(sample, review, by), sample.sample);
  const showSamples = byId("measure") ? measuring({ decider, kind: () => kind, threshold: () => answer?.threshold ?? null, lookAt }) : () => {};
  addEventListener("popstate", () => {
    readAddress();
    if (review && !state.one) review.end();
    else start();
  });
  readAddress();
  start();
}

if (byId("line")) oneKind();
else showKinds().catch(fail);
