// A deck.gl layer of round dots, one GL point each: deck's own ScatterplotLayer draws a quad an instance, which takes
// software renderers 20 to 40 times as long. Globals `deck` and `luma` come from pydeck's bundle.
const { Layer, project32, picking } = globalThis.deck;
const { Model } = globalThis.luma;

const uniforms = {
  name: "dots",
  uniformTypes: { radius: "f32" },
  vs: "layout(std140) uniform dotsUniforms { float radius; } dots;",
};

const VERTEX = `#version 300 es
in vec2 positions;
in vec4 colors;
out vec4 vColor;
out float vSize;
void main() {
  geometry.worldPosition = vec3(positions, 0.0);
  int k = gl_VertexID + 1;  // deck's picking code: index + 1, in 24 bits
  geometry.pickingColor = vec3(float(k & 255), float((k >> 8) & 255), float((k >> 16) & 255));
  gl_Position = project_position_to_clipspace(geometry.worldPosition, vec3(0.0), vec3(0.0), geometry.position);
  DECKGL_FILTER_GL_POSITION(gl_Position, geometry);
  vSize = 2.0 * dots.radius * project.devicePixelRatio + 1.0;
  gl_PointSize = vSize;
  vColor = colors;
  if (colors.a == 0.0) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);  // hidden, and not picked
  DECKGL_FILTER_COLOR(vColor, geometry);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec4 vColor;
in float vSize;
out vec4 fragColor;
void main() {
  geometry.uv = gl_PointCoord;
  float a = clamp((0.5 - length(gl_PointCoord - 0.5)) * vSize, 0.0, 1.0);  // one pixel of soft edge
  if (a == 0.0) discard;
  fragColor = vec4(vColor.rgb, vColor.a * a);
  DECKGL_FILTER_COLOR(fragColor, geometry);
}`;

export class DotLayer extends Layer {
  static layerName = "DotLayer";

  static defaultProps = {
    radius: 3,
    getPosition: { type: "accessor", value: (point) => point },
    getColor: { type: "accessor", value: [0, 0, 0, 255] },
  };

  getShaders() {
    return super.getShaders({ vs: VERTEX, fs: FRAGMENT, modules: [project32, picking, uniforms] });
  }

  initializeState() {
    const attributes = this.getAttributeManager();
    attributes.remove(["instancePickingColors"]); // gl_VertexID does it
    attributes.add({
      positions: { size: 2, accessor: "getPosition" },
      colors: { size: 4, type: "unorm8", accessor: "getColor" },
    });
  }

  updateState(change) {
    super.updateState(change);
    if (this.state.model && !change.changeFlags.extensionsChanged) return;
    this.state.model?.destroy();
    this.state.model = new Model(this.context.device, {
      ...this.getShaders(),
      id: this.props.id,
      topology: "point-list",
      isInstanced: false,
      bufferLayout: this.getAttributeManager().getBufferLayouts(),
    });
    this.getAttributeManager().invalidateAll();
  }

  draw() {
    const { model } = this.state;
    model.setVertexCount(this.getNumInstances());
    model.shaderInputs.setProps({ dots: { radius: this.props.radius } });
    model.draw(this.context.renderPass);
  }
}
