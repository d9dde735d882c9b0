/* The interactive figure: P_sigma(q; K) for keys in the plane. The formulas are plain functions, which the
   tests run in node and compare with projsym.project within its proven bounds. */
(function () {
  "use strict";

  /* Keys (m, 2) of each surface. */
  const SURFACES = {
    circle: range(24, (t, n) => [1.4 * Math.cos((Math.PI * n) / 12), 1.4 * Math.sin((Math.PI * n) / 12)]),
    wave: range(25, (t) => [4 * t - 2, 0.9 * Math.sin(2 * Math.PI * t)]),
    clusters: range(24, (t, n) => [
      [-1.2, -0.6, 1.3][n % 3] + 0.28 * Math.cos(2.4 * n) * Math.sqrt(0.1 + t),
      [1.0, -1.2, 0.2][n % 3] + 0.28 * Math.sin(2.4 * n) * Math.sqrt(0.1 + t),
    ]),
  };

  function range(count, point) {
    return Array.from({ length: count }, (_, n) => point(n / (count - 1), n));
  }

  /* Gaussian weights in the form of theorem I.3: no difference q - k_j is formed, the query's norm cancels. */
  function weights(q, keys, sigma) {
    const variance = sigma * sigma;
    const scores = keys.map((k) => (q[0] * k[0] + q[1] * k[1] - (k[0] * k[0] + k[1] * k[1]) / 2) / variance);
    const top = Math.max(...scores);
    const e = scores.map((s) => Math.exp(s - top));
    const sum = e.reduce((a, b) => a + b, 0);
    return e.map((x) => x / sum);
  }

  function mean(w, keys) {
    return [0, 1].map((a) => keys.reduce((sum, k, j) => sum + w[j] * k[a], 0));
  }

  /* Theorem II.2: the covariance of the keys under the weights, over sigma squared. [xx, xy, yy] */
  function jacobian(w, keys, p, sigma) {
    const entry = (a, b) => keys.reduce((sum, k, j) => sum + w[j] * (k[a] - p[a]) * (k[b] - p[b]), 0);
    return [entry(0, 0), entry(0, 1), entry(1, 1)].map((x) => x / (sigma * sigma));
  }

  function project(q, keys, sigma) {
    const w = weights(q, keys, sigma);
    const p = mean(w, keys);
    const entropy = -w.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
    return { weights: w, point: p, jacobian: jacobian(w, keys, p, sigma), effective: Math.exp(entropy) };
  }

  /* Eigenvalues, larger first, and the angle of the first axis. */
  function axes([xx, xy, yy]) {
    const middle = (xx + yy) / 2;
    const spread = Math.hypot((xx - yy) / 2, xy);
    return { values: [middle + spread, Math.max(0, middle - spread)], angle: Math.atan2(2 * xy, xx - yy) / 2 };
  }

  if (typeof module !== "undefined") {
    module.exports = { SURFACES, axes, project };
    return;
  }

  const SVG = "http://www.w3.org/2000/svg";
  const SPAN = 2.4;
  const SIZE = 480;
  const place = (x) => [((x[0] + SPAN) / (2 * SPAN)) * SIZE, ((SPAN - x[1]) / (2 * SPAN)) * SIZE];
  const clamp = (x) => Math.min(SPAN - 0.1, Math.max(0.1 - SPAN, x));
  const show = (x) => x.toFixed(3).replace("-", "−");

  function make(parent, name, attributes) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return parent.appendChild(node);
  }

  function start(figure) {
    const svg = figure.querySelector("svg");
    const sigma = figure.querySelector("[name=sigma]");
    const surface = figure.querySelector("[name=surface]");
    const out = Object.fromEntries([...figure.querySelectorAll("[data-out]")].map((o) => [o.dataset.out, o]));
    const state = { q: [0.6, 1.9] };
    const layers = Object.fromEntries(
      ["keys", "path", "ellipse", "arrow", "point", "query"].map((name) => [name, make(svg, "g", { class: name })])
    );
    const ellipse = make(layers.ellipse, "ellipse", {});
    const arrow = make(layers.arrow, "line", {});
    const point = make(layers.point, "path", { d: "M0-8 8 0 0 8-8 0Z" });
    const handle = make(layers.query, "g", {
      tabindex: 0,
      role: "button",
      "aria-label": "Query: drag it, or move it with the arrow keys",
    });
    make(handle, "circle", { r: 26, class: "reach" });
    make(handle, "circle", { r: 9 });

    function draw() {
      const keys = SURFACES[surface.value];
      const width = Math.pow(10, Number(sigma.value));
      const got = project(state.q, keys, width);
      const top = Math.max(...got.weights);
      layers.keys.replaceChildren();
      keys.forEach((k, j) => {
        const [x, y] = place(k);
        const share = got.weights[j] / top;
        make(layers.keys, "circle", { cx: x, cy: y, r: 3 + 7 * Math.sqrt(share), opacity: 0.25 + 0.75 * share });
      });
      layers.path.replaceChildren();
      let at = got.point;
      for (let n = 0; n < 12; n++) {
        at = project(at, keys, width).point;
        const [x, y] = place(at);
        make(layers.path, "circle", { cx: x, cy: y, r: 2.5 });
      }
      const [px, py] = place(got.point);
      const [qx, qy] = place(state.q);
      const { values, angle } = axes(got.jacobian);
      const unit = SIZE / (2 * SPAN);
      const turn = `translate(${px} ${py}) rotate(${(-angle * 180) / Math.PI})`;
      for (const [key, value] of [["rx", values[0] * unit], ["ry", values[1] * unit], ["transform", turn]])
        ellipse.setAttribute(key, value);
      for (const [key, value] of [["x1", qx], ["y1", qy], ["x2", px], ["y2", py]]) arrow.setAttribute(key, value);
      point.setAttribute("transform", `translate(${px} ${py})`);
      handle.setAttribute("transform", `translate(${qx} ${qy})`);
      out.sigma.textContent = width.toFixed(2);
      out.query.textContent = `(${state.q.map(show).join(", ")})`;
      out.point.textContent = `(${got.point.map(show).join(", ")})`;
      out.moved.textContent = show(Math.hypot(state.q[0] - got.point[0], state.q[1] - got.point[1]));
      out.effective.textContent = `${got.effective.toFixed(1)} of ${keys.length}`;
      out.along.textContent = show(values[0]);
      out.across.textContent = show(values[1]);
    }

    function move(q) {
      state.q = q.map(clamp);
      draw();
    }

    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      event.preventDefault();
      handle.focus({ preventScroll: true });
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width;
      const y = (event.clientY - box.top) / box.height;
      move([(2 * x - 1) * SPAN, (1 - 2 * y) * SPAN]);
    });
    handle.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.25 : 0.05;
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!by) return;
      event.preventDefault();
      move([state.q[0] + step * by[0], state.q[1] + step * by[1]]);
    });
    sigma.addEventListener("input", draw);
    surface.addEventListener("change", draw);
    draw();
    figure.dataset.ready = "true";
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".projection").forEach(start));
})();
