// Measuring a kind of problem: what was drawn, what is to be looked at of it, and what that proves.
import { askJson, byId, el, fail, images, number } from "./dom.js";

const percent = (share) => (share === null ? "…" : `${(100 * share).toPrecision(2)} %`);

function sampleElement(sample, lookAt) {
  const heads = ["threshold", "in all", "drawn", "looked at", "have it", "haven't", "can't tell", "at most wrong"];
  const rows = sample.bands.map((band) => {
    const found = band.flagged ? band.most_wrong : band.most_right;
    const cells = [band.images, band.drawn, band.looked_at, band.right, band.wrong, band.unsure].map(number);
    return el("tr", {},
      el("th", { scope: "row", textContent: `${Number(band.first.toPrecision(4))} to ${Number(band.last.toPrecision(4))}${band.flagged ? "" : ", beyond the line"}` }),
      ...[...cells, `${percent(found)}${found === null || band.flagged ? "" : " have it"}`].map((text) => el("td", { textContent: text })));
  });
  const left = sample.drawn - sample.looked_at;
  const go = el("button", { type: "button", className: "strong", textContent: left ? `Look at ${number(left)} of the sample` : "All of it is looked at", disabled: !left });
  go.addEventListener("click", () => lookAt(sample));
  const agreed = sample.judged_by_several
    ? el("p", { className: "soft", textContent: `${images(sample.judged_by_several)} were judged by several people, who said the same in ${percent(sample.agreement)} of the pairs.` })
    : null;
  const edges = sample.edges.map((edge) =>
    el("details", {}, el("summary", { textContent: `${edge.told.charAt(0).toUpperCase()}${edge.told.slice(1)}.` }),
      el("p", { className: "soft", textContent: "As a recipe says it:" }), el("pre", { className: "code", textContent: edge.recipe })));
  return el("section", {},
    el("h2", { textContent: `Drawn ${sample.created_at.slice(0, 16).replace("T", " ")} UTC for ${sample.created_by}: ${sample.kind.replaceAll("_", " ")}` }),
    el("div", { className: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col", textContent: head })))), el("tbody", {}, ...rows))),
    el("p", { className: "soft", textContent: `All bounds hold at once with ${percent(sample.confidence)} confidence, once all that was drawn of a band is looked at.` }),
    ...edges, agreed, el("p", {}, go));
}

/**
 * The part of a page that measures.
 * @param decider who is asked for a name
 * @param kind () → the kind of problem
 * @param threshold () → the line, or null for the usual one
 * @param lookAt called with the sample that somebody wants to look at
 * @returns a function that shows the samples as they are now
 */
export function measuring({ decider, kind, threshold, lookAt }) {
  async function show() {
    if (!byId("measure").open) return;
    try {
      const { samples } = await askJson(`/api/samples?${new URLSearchParams({ kind: kind() })}`);
      byId("samples").replaceChildren(...samples.slice(0, 3).map((sample) => sampleElement(sample, lookAt)));
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

/** What of a sample nobody looked at yet, as `load` of a Review. */
export function sampled(kind, sample, thingsOf) {
  return async (given) => {
    const known = new Set(given.map((one) => one.key));
    const found = await askJson(`/api/samples?${new URLSearchParams({ kind, sample: sample.sample, k: 500 })}`);
    return thingsOf(found).filter((one) => !known.has(one.key));
  };
}
