// Draws every chart of the page from the specification inside it, in the page's light or dark colours.
(function () {
  "use strict";
  const ink = { light: { text: "#222832", line: "#9aa0a8" }, dark: { text: "#e3e6ea", line: "#6b727c" } };

  function colours() {
    const mode = document.documentElement.dataset.theme === "dark" ? "dark" : "light";
    const { text, line } = ink[mode];
    return {
      background: "transparent",
      axis: { labelColor: text, titleColor: text, gridColor: line, domainColor: line },
      legend: { labelColor: text, titleColor: text },
      title: { color: text, subtitleColor: text },
      header: { labelColor: text, titleColor: text },
      text: { color: text },
      rule: { color: line },
    };
  }

  function draw(chart) {
    const spec = JSON.parse(chart.querySelector("script").textContent);
    let canvas = chart.querySelector(".raretok-canvas");
    if (!canvas) {
      canvas = document.createElement("div");
      canvas.className = "raretok-canvas";
      chart.append(canvas);
    }
    const options = { actions: false, renderer: "svg", config: colours(), tooltip: { theme: document.documentElement.dataset.theme } };
    return window.vegaEmbed(canvas, spec, options).then(() => chart.setAttribute("data-drawn", "yes"));
  }

  function drawAll() {
    for (const chart of document.querySelectorAll(".raretok-chart")) draw(chart);
  }

  function start() {
    drawAll();
    new MutationObserver(drawAll).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
