// One thing at a time: it is shown large, one key answers, the next comes by itself and is there already.
import { askJson, el, keyButton, notice } from "./dom.js";
import { isTyping } from "./tiles.js";

const AHEAD = 4; // how many of the next have their pictures fetched while one is looked at
const KEPT = 40; // things whose pictures and answers are kept, for who goes back

const keyName = (key) => (key.length === 1 ? key.toUpperCase() : key.charAt(0).toUpperCase() + key.slice(1));

/**
 * What is told of each thing, asked for once, also ahead.
 * @param address (thing) → where
 * @param nothing the answer where there is none (404)
 * @returns (thing) → promise of the answer; of null where it can't be asked for now: then it is asked for again
 */
export function askedOnce(address, nothing) {
  const asked = new Map();
  return (thing) => {
    if (!asked.has(thing)) {
      const failed = (error) => {
        if (error.status === 404) return nothing;
        asked.delete(thing);
        return null;
      };
      asked.set(thing, askJson(address(thing)).catch(failed));
      if (asked.size > KEPT) asked.delete(asked.keys().next().value);
    }
    return asked.get(thing);
  };
}

/**
 * What is still to decide of a list that answers leave as soon as they are saved, as `load` of a Review.
 * @param page (offset) → {things: with a `key`, next: offset of what follows, or null, total: how long the list is}
 */
export function undecided(page) {
  let reached = 0; // place in the list as it was when this began
  return async (given, done) => {
    const known = new Set(given.map((one) => one.key));
    let isLast = false;
    for (;;) {
      const gone = done(); // not all of them are saved yet: then some come again
      const { things, next, total } = await page(Math.max(0, reached - gone));
      reached = (next ?? total) + gone;
      const fresh = things.filter((one) => !known.has(one.key));
      if (fresh.length || (next === null && isLast)) return fresh;
      if (next === null) {
        // Others' answers move the list too, and so what they moved past is looked for from its beginning.
        reached = 0;
        isLast = true;
      }
    }
  };
}

export class Review {
  /**
   * @param place element that it fills
   * @param decider who takes the answers
   * @param load (things, () → how many of them are answered) → the next things, those left out; [] where there are no more
   * @param draw thing → element
   * @param pictures thing → addresses of its large pictures
   * @param answers [{keys, name, title, decide: (thing, key) → decisions or null, strong, bare: without a button,
   *   stays: thing → whether more is to be said of it}]
   * @param left () → how many are left, in words
   * @param press (key, thing) → whether that key did something else
   * @param taken step that was taken back → thing that it was a part of, or nothing
   * @param concerns (decision of others, thing) → whether it answers the thing
   * @param settles (decision of one's own, thing still to come) → whether that needs no answer any more
   */
  constructor({ place, decider, load, draw, pictures, answers, left, close, press = () => false, taken = () => null, concerns = () => true, settles = () => false }) {
    Object.assign(this, { place, decider, load, draw, pictures, answers, left, close, other: press, taken, concerns, settles });
    this.things = [];
    this.at = 0;
    this.done = new Map(); // thing → what was said of it
    this.along = new Map(); // thing → those that were settled with it
    this.ended = false;
    this.fetched = new Map();
    this.busy = false;
    this.turn = 0; // how often it went on, or back
    this.shown = el("div", { className: "thing" });
    this.state = el("p", { className: "soft", role: "status", "aria-live": "polite" });
    this.notices = el("div", {});
    this.bar = el("div", { className: "answers", role: "toolbar", "aria-label": "Answers" });
    place.replaceChildren(this.notices, this.shown, this.bar, this.state);
    for (const answer of answers.filter((one) => !one.bare)) {
      const { title, strong } = answer;
      this.bar.append(keyButton(answer.name, keyName(answer.keys[0]), { title, className: strong ? "strong" : "", does: () => this.answer(answer) }));
    }
    this.back = keyButton("Undo", "Z", { className: "quiet", does: () => this.undo() });
    this.bar.append(this.back, keyButton("Close", "Esc", { className: "quiet", does: () => this.end() }));
    this.pressed = (event) => this.press(event);
    addEventListener("keydown", this.pressed);
    this.others = (event) => this.heard(event.detail);
    decider.addEventListener("others", this.others);
    // A button that was clicked would be clicked again by Enter, which is an answer here.
    place.addEventListener("click", this.clicked);
  }

  clicked(event) {
    if (event.detail) event.target.closest("button")?.blur();
  }

  async begin() {
    await this.decider.name();
    await this.more();
    this.show();
  }

  end() {
    removeEventListener("keydown", this.pressed);
    this.decider.removeEventListener("others", this.others);
    this.place.removeEventListener("click", this.clicked);
    this.place.replaceChildren();
    this.close();
  }

  get thing() {
    return this.things[this.at];
  }

  async more() {
    if (this.ended || this.loading) return this.loading;
    const given = [...this.things, ...[...this.along.values()].flat()];
    this.loading = this.load(given, () => this.done.size).then(
      (found) => {
        this.notices.replaceChildren();
        this.things.push(...found);
        this.ended = !found.length;
      },
      (error) => this.notices.replaceChildren(notice(error.message, "alert")),
    );
    await this.loading;
    this.loading = null;
  }

  show() {
    const { thing } = this;
    this.back.disabled = !this.decider.visit.length;
    for (const button of this.bar.children) if (button !== this.back && !button.classList.contains("quiet")) button.disabled = !thing;
    if (!thing) {
      const text = this.ended ? "Nothing is left to decide here." : "What comes next could not be loaded: → tries again.";
      this.shown.replaceChildren(el("p", { className: "nothing", textContent: text }));
      this.state.textContent = this.left();
      return;
    }
    const said = this.done.get(thing);
    this.shown.replaceChildren(this.draw(thing));
    this.state.textContent = [said ? `You said: ${said}` : "", this.left()].filter(Boolean).join(" · ");
    this.fetchAhead();
    if (this.at + AHEAD >= this.things.length) this.more().then(() => this.fetchAhead());
  }

  /** The pictures of this one and of those that come next. */
  fetchAhead() {
    for (const thing of this.things.slice(this.at, this.at + 1 + AHEAD)) this.fetch(thing);
  }

  fetch(thing) {
    if (this.fetched.has(thing)) return;
    this.fetched.set(thing, this.pictures(thing).map((address) => Object.assign(new Image(), { src: address })));
    if (this.fetched.size > KEPT) this.fetched.delete(this.fetched.keys().next().value);
  }

  async answer(answer, key = answer.keys[0]) {
    const { thing } = this;
    if (!thing || this.busy) return;
    this.busy = true;
    try {
      const decisions = await answer.decide(thing, key);
      if (!decisions?.length) return;
      if (!(await this.decider.say(decisions, answer.name))) return;
      if (answer.stays?.(thing)) {
        this.show();
        return;
      }
      this.done.set(thing, answer.name);
      this.settle(thing, decisions);
      if (this.things[this.at] === thing) await this.step(1);
    } finally {
      this.busy = false;
    }
  }

  /** What still comes and is answered by the same. */
  settle(thing, decisions) {
    const at = this.things.indexOf(thing);
    const isSettled = (one, place) => place > at && !this.done.has(one) && decisions.some((decision) => this.settles(decision, one));
    const settled = this.things.filter(isSettled);
    if (!settled.length) return;
    this.along.set(thing, settled);
    for (const one of settled) this.done.set(one, "");
    this.things = this.things.filter((one) => !settled.includes(one));
  }

  async step(by) {
    if (this.at + by < 0) return;
    const isThere = Boolean(this.thing); // else what is loaded comes to where it is
    this.turn += 1;
    const { turn } = this;
    if (this.at + by >= this.things.length && by > 0) await this.more();
    if (turn !== this.turn) return; // a step was taken back while it was loaded
    this.at = Math.min(isThere || by < 0 ? this.at + by : this.at, this.things.length);
    this.show();
  }

  async undo() {
    const step = await this.decider.undo();
    if (!step) return;
    const keys = new Set(step.keys);
    const latest = [...this.done.keys()].reverse();
    const thing = this.taken(step) ?? latest.find((one) => (one.keys ?? [one.key]).some((key) => keys.has(key)));
    const at = this.things.indexOf(thing);
    this.turn += 1;
    if (at >= 0) {
      for (const one of [thing, ...(this.along.get(thing) ?? [])]) this.done.delete(one);
      this.things.splice(at + 1, 0, ...(this.along.get(thing) ?? []));
      this.along.delete(thing);
      this.at = at;
    }
    this.show();
    this.state.textContent = `Taken back: ${step.label}`;
  }

  /** Others' decisions on what is still to come: those need no second answer. */
  heard(decisions) {
    const said = decisions.filter((one) => !one.undoes);
    const theirsOn = (thing) => said.find((one) => (thing.keys ?? [thing.key]).includes(one.relative_path) && this.concerns(one, thing));
    this.things = this.things.filter((thing, at) => at <= this.at || this.done.has(thing) || !theirsOn(thing));
    const theirs = this.thing && theirsOn(this.thing);
    if (theirs) this.state.textContent = `${theirs.decided_by} has just decided on this one too.`;
  }

  press(event) {
    if (event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
    const withCtrl = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (key === "enter" && event.target.closest?.("a, button, summary")) return; // that is what it is for there
    if (key === "escape") this.end();
    else if (isTyping(event.target)) return;
    else if (key === "z") this.undo();
    else if (withCtrl) return;
    else if (this.thing && this.other(key, this.thing)) event.preventDefault();
    else if (key === "arrowright") this.step(1);
    else if (key === "arrowleft") this.step(-1);
    else {
      const answer = this.answers.find((one) => one.keys.includes(key));
      if (!answer || event.repeat) return;
      this.answer(answer, key);
    }
    event.preventDefault();
  }
}
