// Points in the plane on deck.gl: pan, zoom, hover, and a lasso drawn over them.
import { DotLayer } from "./dots.js";

const { Deck, OrthographicView } = globalThis.deck;
const SVG = "http://www.w3.org/2000/svg";

export class PointMap {
  /**
   * @param parent element to draw in
   * @param xy Float32Array of 2n coordinates
   * @param onHover called with the number of a point and its place on the page, or null
   * @param onClick called with the number of a point
   * @param onLasso called with the corners [x, y] of what was drawn, in the points' coordinates
   */
  constructor(parent, { xy, onHover, onClick, onLasso }) {
    Object.assign(this, { parent, xy, onHover, onClick, onLasso });
    this.count = xy.length / 2;
    this.colours = new Uint8ClampedArray(this.count * 4);
    this.lassoing = false;
    this.path = null;
    this.data = this.attributes();
    this.state = this.all();
    this.deck = new Deck({
      parent,
      width: "100%",
      height: "100%",
      deviceProps: { type: "webgl", webgl: { antialias: false } }, // the dots have soft edges
      views: new OrthographicView({ id: "map", flipY: false }),
      controller: { doubleClickZoom: false, keyboard: false, scrollZoom: { speed: 0.01, smooth: false } },
      viewState: this.state,
      layers: [this.layer()],
      pickingRadius: 4,
      onHover: (info) => this.hovered(info),
      onClick: (info) => info.index >= 0 && onClick(info.index),
      onViewStateChange: ({ viewState }) => this.show(viewState),
      onError: (error) => console.error(error),
    });
    this.overlay();
    new ResizeObserver(() => this.mark(-1)).observe(parent);
  }

  attributes() {
    return {
      length: this.count,
      attributes: {
        getPosition: { value: this.xy, size: 2 },
        getColor: { value: this.colours, size: 4, type: "unorm8" },
      },
    };
  }

  layer() {
    const parameters = { depthCompare: "always", depthWriteEnabled: false };
    return new DotLayer({ id: "points", data: this.data, pickable: true, parameters, radius: this.count > 20_000 ? 2.2 : 3.2 });
  }

  /** Uint8ClampedArray of 4n: red, green, blue and opacity of each point; opacity 0 hides it. */
  recolour(colours) {
    this.colours = colours;
    this.data = this.attributes(); // a new object is uploaded
    this.deck.setProps({ layers: [this.layer()] });
    this.mark(-1);
  }

  show(state) {
    this.state = state;
    this.deck.setProps({ viewState: state });
    this.mark(-1);
    this.onHover(null);
  }

  /** The view that shows every point. */
  all() {
    const { xy } = this;
    let [left, bottom, right, top] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let at = 0; at < xy.length; at += 2) {
      left = Math.min(left, xy[at]);
      right = Math.max(right, xy[at]);
      bottom = Math.min(bottom, xy[at + 1]);
      top = Math.max(top, xy[at + 1]);
    }
    if (!xy.length) [left, bottom, right, top] = [-1, -1, 1, 1];
    const room = (size) => Math.max(1, size - 40);
    const { clientWidth, clientHeight } = this.parent;
    const zoom = Math.log2(Math.min(room(clientWidth) / (right - left || 1), room(clientHeight) / (top - bottom || 1)));
    return { target: [(left + right) / 2, (bottom + top) / 2, 0], zoom, minZoom: zoom - 3, maxZoom: zoom + 14 };
  }

  fit() {
    this.show(this.all());
  }

  zoomBy(steps) {
    const { minZoom, maxZoom, zoom } = this.state;
    this.show({ ...this.state, zoom: Math.max(minZoom, Math.min(maxZoom, zoom + steps)) });
  }

  /** Move the view by some pixels, to the right and up. */
  moveBy(right, up) {
    const scale = 2 ** this.state.zoom;
    const [x, y] = this.state.target;
    this.show({ ...this.state, target: [x + right / scale, y + up / scale, 0] });
  }

  toScreen(number) {
    const [viewport] = this.deck.getViewports();
    return viewport ? viewport.project([this.xy[2 * number], this.xy[2 * number + 1], 0]).slice(0, 2) : [-99, -99];
  }

  toData([x, y]) {
    return this.deck.getViewports()[0].unproject([x, y]).slice(0, 2);
  }

  hovered(info) {
    const number = this.path ? -1 : info.index;
    this.mark(number);
    if (number < 0) this.onHover(null);
    else {
      const frame = this.parent.getBoundingClientRect();
      this.onHover(number, frame.left + info.x, frame.top + info.y);
    }
  }

  /** A ring round one point; cheaper than drawing all of them again. */
  mark(number) {
    const [x, y] = number >= 0 ? this.toScreen(number) : [-99, -99];
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
  }

  lasso(on) {
    this.lassoing = on;
    this.parent.classList.toggle("lasso", on);
  }

  /** The lasso takes pointer events before deck.gl sees them. */
  overlay() {
    const { parent } = this;
    const drawing = parent.appendChild(document.createElementNS(SVG, "svg"));
    const shape = drawing.appendChild(document.createElementNS(SVG, "polygon"));
    this.ring = drawing.appendChild(document.createElementNS(SVG, "circle"));
    this.ring.setAttribute("r", 7);
    this.mark(-1);
    const place = (event) => {
      const frame = parent.getBoundingClientRect();
      return [event.clientX - frame.left - parent.clientLeft, event.clientY - frame.top - parent.clientTop];
    };
    const draw = () => shape.setAttribute("points", (this.path ?? []).join(" "));
    const stop = () => {
      this.path = null;
      draw();
    };
    const begin = (event) => {
      if (event.button || !(this.lassoing || event.shiftKey)) return;
      event.stopPropagation();
      event.preventDefault();
      parent.setPointerCapture(event.pointerId);
      this.path = [place(event)];
      this.hovered({ index: -1 });
      draw();
    };
    const go = (event) => {
      if (!this.path) return;
      event.stopPropagation();
      const to = place(event);
      const [x, y] = this.path.at(-1);
      if (Math.hypot(to[0] - x, to[1] - y) < 3) return;
      this.path.push(to);
      draw();
    };
    const end = (event) => {
      if (!this.path) return;
      event.stopPropagation();
      const drawn = this.path;
      stop();
      if (drawn.length > 2) this.onLasso(drawn.map((corner) => this.toData(corner)));
    };
    parent.addEventListener("pointerdown", begin, true);
    parent.addEventListener("pointermove", go, true);
    parent.addEventListener("pointerup", end, true);
    parent.addEventListener("pointercancel", stop, true);
    parent.addEventListener("pointerleave", () => this.path || this.hovered({ index: -1 }));
    addEventListener("keydown", (event) => event.key === "Escape" && stop());
  }
}
