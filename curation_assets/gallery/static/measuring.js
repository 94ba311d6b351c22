// Measuring a kind of problem: what was drawn, what is to be looked at of it, and what that proves.
import { askJson, byId, el, fail, images, number } from "./dom.js";

const percent = (share) => (share === null ? "…" : `${Number((100 * share).toPrecision(2))} %`);

/** How many of a sample are there, and nobody looked at. */
const unseen = (sample) => sample.drawn - sample.looked_at - sample.bands.reduce((sum, band) => sum + band.gone, 0);

function sampleElement(sample, decider, lookAt) {
  const heads = ["threshold", "in all", "drawn", "looked at", "have it", "haven't", "can't tell", "gone", "at most wrong"];
  const rows = sample.bands.map((band) => {
    const found = band.flagged ? band.most_wrong : band.most_right;
    const cells = [band.images, band.drawn, band.looked_at, band.right, band.wrong, band.unsure, band.gone].map(number);
    return el("tr", {},
      el("th", { scope: "row", textContent: `${Number(band.first.toPrecision(4))} to ${Number(band.last.toPrecision(4))}${band.flagged ? "" : ", beyond the line"}` }),
      ...[...cells, `${percent(found)}${found === null || band.flagged ? "" : " have it"}`].map((text) => el("td", { textContent: text })));
  });
  const left = unseen(sample);
  const go = el("button", { type: "button", className: "strong", textContent: left ? `Look at ${number(left)} of the sample` : "All of it is looked at", disabled: !left });
  go.addEventListener("click", () => lookAt(sample, null));
  const again = el("button", { type: "button", className: "quiet", textContent: "Judge all of it as another person", hidden: Boolean(left) });
  again.addEventListener("click", async () => {
    const by = await decider.name();
    if (by) lookAt(sample, by);
  });
  const agreed = sample.judged_by_several
    ? el("p", { className: "soft", textContent: `${images(sample.judged_by_several)} ${sample.judged_by_several === 1 ? "was" : "were"} judged by several people, who said the same in ${percent(sample.agreement)} of the pairs.` })
    : null;
  const edges = sample.edges.map((edge) =>
    el("details", {}, el("summary", { textContent: `${edge.told.charAt(0).toUpperCase()}${edge.told.slice(1)}.` }),
      el("p", { className: "soft", textContent: "As a recipe says it:" }), el("pre", { className: "code", textContent: edge.recipe })));
  return el("section", {},
    el("h2", { textContent: `Drawn ${sample.created_at.slice(0, 16).replace("T", " ")} UTC for ${sample.created_by}: ${sample.kind.replaceAll("_", " ")}` }),
    el("div", { className: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col", textContent: head })))), el("tbody", {}, ...rows))),
    el("p", { className: "soft", textContent: `All bounds hold at once with ${percent(sample.confidence)} confidence, once all that was drawn of a band, and is there, is looked at.` }),
    ...edges, agreed, el("p", {}, go, again));
}

/**
 * The part of a page that measures.
 * @param decider who is asked for a name
 * @param kind () → the kind of problem
 * @param threshold () → the line, or null for the usual one
 * @param lookAt called with the sample that somebody wants to look at, and their name where others have looked at it
 * @returns a function that shows the samples as they are now
 */
export function measuring({ decider, kind, threshold, lookAt }) {
  async function show() {
    if (!byId("measure").open) return;
    try {
      const { samples } = await askJson(`/api/samples?${new URLSearchParams({ kind: kind() })}`);
      byId("samples").replaceChildren(...samples.slice(0, 3).map((sample) => sampleElement(sample, decider, lookAt)));
    } catch (error) {
      fail(error);
    }
  }
  byId("measure").addEventListener("toggle", show);
  byId("draw").addEventListener("submit", async (event) => {
    event.preventDefault();
    const by = await decider.name();
    if (!by) return;
    const body = JSON.stringify({ kind: kind(), by, size: Number(event.target.elements.size.value), threshold: threshold() });
    try {
      await askJson("/api/samples", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      await show();
    } catch (error) {
      fail(error);
    }
  });
  return show;
}

const IN_A_ROW = 59; // of which none is one: at most 5 % are, had they been drawn at random

/** Of the worst first, what was said in its order: a hint, and no proof, that going on finds nothing more. */
export function idle(said) {
  const last = said.slice(-IN_A_ROW);
  return last.length === IN_A_ROW && last.every((one) => one === "Keep") ? `stop here? ${IN_A_ROW} in a row were kept` : "";
}

/** What of a sample nobody looked at yet, or one person didn't, as `load` of a Review; `thingsOf` gets the answer and the sample's id. */
export function sampled(kind, sample, thingsOf, by) {
  return async (given) => {
    const known = new Set(given.map((one) => one.key));
    const asked = new URLSearchParams({ kind, sample: sample.sample, k: 500, ...(by ? { by } : {}) });
    const found = await askJson(`/api/samples?${asked}`);
    return thingsOf(found, sample.sample).filter((one) => !known.has(one.key));
  };
}

/** How many of a sample are left, in words; nothing where one person judges it anew. */
export function leftOf(sample, review, by) {
  return by ? "" : `${number(Math.max(0, unseen(sample) - review.done.size))} of the sample to look at`;
}
