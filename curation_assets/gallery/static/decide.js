// Decisions of this visit: sent together, kept in this browser until the gallery has them on its disk, taken back in order.
import { askFor, askJson, el, notice, told } from "./dom.js";
import { keep, ofLake, recall, REVIEWER, reviewer } from "./kept.js";

const OUTBOX = ofLake("curation outbox"), VISIT = ofLake("curation visit");
const POLL_MS = 5000, LATER_MS = 3000, MOST = 1000;
const LATER = [401, 408]; // and what the gallery itself isn't up to: it may be sent again

const token = () => [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export class Decider extends EventTarget {
  /** Events: `others` with other people's decisions, `undone` with a step that is taken back, `conflict`, `refused`. */
  constructor(place) {
    super();
    this.place = place; // where it says what is saved
    this.latest = null; // id of the latest decision that the page knows of
    this.outbox = recall(localStorage, OUTBOX, []); // {by, decision}; of an earlier page too
    this.visit = recall(sessionStorage, VISIT, []); // {label, said: its first decision, keys, tokens} of each step that can be taken back
    this.mine = new Set(this.outbox.map(({ decision }) => decision.token));
    this.sending = this.looking = null;
    this.trouble = "";
    this.isKept = true; // in this browser, until it is sent
    if (this.outbox.length) this.send();
    setInterval(() => document.hidden || this.look(), POLL_MS);
    addEventListener("beforeunload", (event) => this.outbox.length && !(this.trouble && this.isKept) && event.preventDefault());
    this.show();
  }

  /** Whose token this is, or else the name that was given once. */
  get by() {
    return reviewer();
  }

  /** The name of who decides, asked for once; null where it isn't told. */
  async name() {
    if (this.by) return this.by;
    const input = el("input", { required: true, maxLength: 100, autocomplete: "name", name: "by" });
    const text = "Your name stands beside what you decide, so that others know whom to ask.";
    const said = await askFor(input, { title: "Who decides?", label: "Name", text });
    if (said) keep(localStorage, REVIEWER, said);
    return said;
  }

  /** Say something; the answer to what a person did comes before it is saved. Null where nobody says who they are. */
  async say(decisions, label) {
    const by = await this.name();
    if (!by) return null;
    const made = decisions.map((decision) => ({ token: token(), seen: this.latest ?? "", ...decision }));
    this.queue(by, made);
    const { kind, value } = made[0];
    this.visit.push({ label, said: { kind, value }, tokens: made.map((one) => one.token), keys: made.map((one) => one.key) });
    keep(sessionStorage, VISIT, this.visit);
    this.show();
    return made;
  }

  /** Take the last step back; what it was, or null where there is none. */
  async undo() {
    const step = this.visit.pop();
    if (!step) return null;
    keep(sessionStorage, VISIT, this.visit);
    this.queue(this.by, step.tokens.map((undoes) => ({ token: token(), undoes })));
    this.show();
    this.dispatchEvent(new CustomEvent("undone", { detail: step }));
    return step;
  }

  queue(by, decisions) {
    for (const decision of decisions) {
      this.outbox.push({ by, decision });
      this.mine.add(decision.token);
    }
    this.keep();
    this.send();
  }

  /** Keep what waits, beside what other pages of this browser let wait there; `gone`: tokens of what doesn't any more. */
  keep(gone = new Set()) {
    const own = new Set(this.outbox.map(({ decision }) => decision.token));
    const theirs = recall(localStorage, OUTBOX, []).filter(({ decision }) => !own.has(decision.token) && !gone.has(decision.token));
    this.isKept = keep(localStorage, OUTBOX, [...theirs, ...this.outbox]);
  }

  send() {
    this.sending ??= this.sendAll().finally(() => {
      this.sending = null;
      if (this.outbox.length) setTimeout(() => this.send(), this.trouble ? LATER_MS : 0);
    });
    return this.sending;
  }

  /** When all is sent that could be. */
  async settled() {
    while (this.sending) await this.sending;
  }

  async sendAll() {
    while (this.outbox.length) {
      const by = this.outbox[0].by;
      const others = this.outbox.findIndex((one) => one.by !== by);
      const batch = this.outbox.slice(0, Math.min(MOST, others < 0 ? this.outbox.length : others)).map((one) => one.decision);
      try {
        await this.post(by, batch);
      } catch (error) {
        this.trouble = error.message;
        this.show();
        return;
      }
    }
  }

  /** Send some of one person's; throws an Error where they may be sent again later. */
  async post(by, batch) {
    let answer;
    try {
      answer = await askJson("/api/decisions", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ by, decisions: batch }),
      });
    } catch (error) {
      if (!error.status || error.status >= 429 || LATER.includes(error.status)) throw error;
      // One that can't be written keeps no other from being written: of either half the one without it is.
      if (batch.length > 1) {
        const half = Math.ceil(batch.length / 2);
        for (const part of [batch.slice(0, half), batch.slice(half)]) await this.post(by, part);
      } else {
        this.drop(batch);
        this.leaveOut(batch[0].token);
        this.dispatchEvent(new CustomEvent("refused", { detail: { decision: batch[0], message: error.message } }));
      }
      return;
    }
    this.took(batch, answer);
  }

  took(batch, answer) {
    this.trouble = "";
    this.drop(batch);
    for (const [at, one] of answer.decisions.entries()) {
      if (one.status === "conflict") {
        this.leaveOut(one.token);
        this.dispatchEvent(new CustomEvent("conflict", { detail: { mine: batch[at], theirs: one.decision } }));
      }
    }
    this.show();
  }

  drop(batch) {
    const tokens = new Set(batch.map((one) => one.token));
    this.outbox = this.outbox.filter(({ decision }) => !tokens.has(decision.token));
    this.keep(tokens);
    this.show();
  }

  /** What was not written can't be taken back. */
  leaveOut(token) {
    for (const step of this.visit) {
      const at = step.tokens.indexOf(token);
      if (at < 0) continue;
      step.tokens.splice(at, 1);
      step.keys.splice(at, 1);
    }
    this.visit = this.visit.filter((step) => step.tokens.length);
    keep(sessionStorage, VISIT, this.visit);
  }

  /** What others decided since; one look at a time, so that a slow gallery isn't asked twice for the same. */
  look() {
    if (this.latest === null) return;
    this.looking ??= this.lookOnce().finally(() => { this.looking = null; });
  }

  async lookOnce() {
    try {
      const { decisions, latest } = await askJson(`/api/decisions?after=${encodeURIComponent(this.latest)}`);
      this.latest = latest;
      const others = decisions.filter((one) => !this.mine.has(one.decision_id.slice(-16)));
      if (others.length) this.dispatchEvent(new CustomEvent("others", { detail: others }));
    } catch {
      // the next look tells
    }
  }

  show() {
    const waiting = this.outbox.length;
    const stay = this.isKept ? "They stay in this browser, and are sent again." : "This browser has no room for them: leave the page open until they are sent.";
    const text = this.trouble
      ? `${waiting} not saved: ${this.trouble} ${stay}`
      : waiting ? `Saving ${waiting} …` : this.mine.size ? "All saved" : "";
    if (this.place) {
      this.place.textContent = text;
      this.place.classList.toggle("bad", Boolean(this.trouble));
    }
  }
}

/** Say on a page what could not be written, or what somebody else said meanwhile. */
export function tellOfTrouble(decider, notices) {
  const place = el("div", {}); // of its own: what a page says of a search goes with the search
  notices.before(place);
  const met = new Map(); // id of somebody's decision → {mine: what was said against it, banner}
  decider.addEventListener("conflict", ({ detail: { mine, theirs } }) => {
    const before = met.get(theirs.decision_id);
    const isShown = before?.banner.isConnected;
    const all = [...(isShown ? before.mine : []), mine];
    const banner = conflictNotice(decider, all, theirs);
    if (isShown) before.banner.replaceWith(banner);
    else place.append(banner);
    met.set(theirs.decision_id, { mine: all, banner });
  });
  decider.addEventListener("refused", ({ detail: { message } }) => {
    const said = `Not written: ${message}`;
    const before = [...place.children].find((one) => one.dataset.said === said);
    const times = Number(before?.dataset.times ?? 0) + 1;
    const now = notice(times > 1 ? `${said} (${times} times)` : said, "alert");
    Object.assign(now.dataset, { said, times });
    if (before) before.replaceWith(now);
    else place.append(now);
  });
}

/** What two people said of one thing, and a way to insist: `mine` are the decisions that theirs kept from being written. */
function conflictNotice(decider, mine, theirs) {
  const insist = el("button", { type: "button", textContent: `Say “${told(mine[0])}” all the same` });
  const banner = el(
    "p",
    { className: "banner", role: "alert" },
    `${theirs.decided_by} said “${told(theirs)}” of ${theirs.relative_path ?? "this image"} meanwhile; yours was not written. `,
    insist,
  );
  insist.addEventListener("click", () => {
    decider.say(mine.map(({ token: _, ...again }) => ({ ...again, seen: theirs.decision_id })), told(mine[0]));
    banner.remove();
  });
  return banner;
}
