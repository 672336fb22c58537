// The songs in the background of the map. Here: drawing up to 100,000 of them in one frame, with WebGL, or on a plain
// canvas where there is none. Not here: the view, the user's own songs, or names (`map.js`).

export const HUES = 8; // genres with a colour of their own, those of most songs; the others are grey

const VERTEX = `
attribute vec2 place;
attribute float hue;
uniform vec2 centre;
uniform vec2 scale;
uniform mediump float size;
uniform float only;
uniform vec3 colours[${HUES + 1}];
varying vec4 colour;
void main() {
  gl_Position = vec4((place - centre) * vec2(2.0, -2.0) * scale, 0.0, 1.0);
  bool faint = only >= 0.0 && abs(hue - only) > 0.5;
  gl_PointSize = size * (hue < ${HUES - 0.5} ? 1.0 : 0.85);
  colour = vec4(colours[int(hue)], faint ? 0.09 : 0.8);
}`;

const FRAGMENT = `
precision mediump float;
uniform mediump float size;
varying vec4 colour;
void main() {
  float edge = 2.0 / size;
  float alpha = colour.a * (1.0 - smoothstep(1.0 - edge, 1.0, length(gl_PointCoord * 2.0 - 1.0)));
  gl_FragColor = vec4(colour.rgb * alpha, alpha);
}`;

/** `canvas` filled with points by `draw`. `setPoints` and `setColours` come first. */
export class MapPoints {
  #canvas;
  #gl = null;
  #uniforms = {};
  #paper = null;
  #x = new Float32Array();
  #y = new Float32Array();
  #hues = new Uint8Array();
  #byHue = [];
  #colours = [];

  /** `onRestored` is called when the points have to be drawn again because the graphics card was reset. */
  constructor(canvas, onRestored) {
    this.#canvas = canvas;
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.#start();
      this.#upload();
      this.setColours(this.#colours);
      onRestored();
    });
    this.#gl = canvas.getContext("webgl", { alpha: true, antialias: false, depth: false });
    if (this.#gl) this.#start();
    else this.#paper = canvas.getContext("2d");
  }

  /** Coordinates from 0 to 1 and hues from 0 to HUES, the most important point first. */
  setPoints(x, y, hues) {
    [this.#x, this.#y, this.#hues] = [x, y, hues];
    this.#byHue = Array.from({ length: HUES + 1 }, () => []);
    if (this.#gl) this.#upload();
    else hues.forEach((hue, place) => this.#byHue[hue].push(place));
  }

  /** Colours of the hues as [red, green, blue] from 0 to 255, the last being the grey. */
  setColours(colours) {
    this.#colours = colours;
    if (this.#gl) this.#gl.uniform3fv(this.#uniforms.colours, colours.flat().map((part) => part / 255));
  }

  /**
   * Draw the first so many as seen from a view, of which `size` is that of the whole map at scale 1 in dots of the
   * canvas. `radius` is in pixels of the page; `only`: the hue to stand out, -1 for all.
   */
  draw({ x, y, scale, size }, most, radius, density, only) {
    const n = Math.min(most, this.#x.length);
    if (!this.#gl) {
      this.#drawPlain({ x, y, scale: scale * size }, n, radius, density, only);
      return;
    }
    const gl = this.#gl;
    const { width, height } = this.#canvas;
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(this.#uniforms.centre, x, y);
    gl.uniform2f(this.#uniforms.scale, (scale * size) / width, (scale * size) / height);
    gl.uniform1f(this.#uniforms.size, Math.max(1.6, 2 * radius * density));
    gl.uniform1f(this.#uniforms.only, only);
    gl.drawArrays(gl.POINTS, this.#x.length - n, n);
  }

  #start() {
    const gl = this.#gl;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "hue");
    gl.linkProgram(program);
    gl.useProgram(program);
    for (const name of ["centre", "scale", "size", "only", "colours"]) {
      this.#uniforms[name] = gl.getUniformLocation(program, name);
    }
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** All points in one buffer of three numbers each, last first, so that the first is on top. */
  #upload() {
    const gl = this.#gl;
    const n = this.#x.length;
    const numbers = new Float32Array(3 * n);
    for (let place = 0; place < n; place += 1) {
      const at = 3 * (n - 1 - place);
      numbers[at] = this.#x[place];
      numbers[at + 1] = this.#y[place];
      numbers[at + 2] = this.#hues[place];
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, numbers, gl.STATIC_DRAW);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 12, 0);
    gl.vertexAttribPointer(1, 1, gl.FLOAT, false, 12, 8);
    gl.enableVertexAttribArray(0);
    gl.enableVertexAttribArray(1);
  }

  #drawPlain({ x, y, scale }, n, radius, density, only) {
    const paper = this.#paper;
    const { width, height } = this.#canvas;
    const side = Math.max(1.4, 1.8 * radius * density);
    paper.clearRect(0, 0, width, height);
    // The grey ones lie below the others. Squares: circles take ten times as long.
    for (let hue = HUES; hue >= 0; hue -= 1) {
      paper.fillStyle = `rgb(${this.#colours[hue]?.join(" ")})`;
      paper.globalAlpha = only >= 0 && hue !== only ? 0.09 : 0.8;
      for (const place of this.#byHue[hue] ?? []) {
        if (place >= n) break;
        const left = width / 2 + (this.#x[place] - x) * scale - side / 2;
        const top = height / 2 + (this.#y[place] - y) * scale - side / 2;
        if (left > -side && top > -side && left < width && top < height) paper.fillRect(left, top, side, side);
      }
    }
  }
}
