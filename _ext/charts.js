// Draws every chart of the page, once, from the specification inside it; its colours follow the page's through CSS.
(function () {
  "use strict";

  function draw(chart) {
    const spec = JSON.parse(chart.querySelector("script").textContent);
    const canvas = document.createElement("div");
    canvas.className = "raretok-canvas";
    chart.append(canvas);
    window.vegaEmbed(canvas, spec, { actions: false, renderer: "svg" });
    // A chart as wide as its place asks for it when the window changes; its place also changes with the sidebars.
    new ResizeObserver(() => window.dispatchEvent(new Event("resize"))).observe(canvas);
  }

  function drawAll() {
    for (const chart of document.querySelectorAll(".raretok-chart")) draw(chart);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", drawAll);
  else drawAll();
})();
