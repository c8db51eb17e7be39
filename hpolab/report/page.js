"use strict";
(function () {
  var figures = new Map();

  // Named one by one: some versions of plotly.js offer to upload a chart by default.
  var BUTTONS = [["toImage", "zoom2d", "pan2d", "autoScale2d", "resetScale2d"]];

  // Where fingers scroll the page, dragging over a figure must not zoom it.
  var byFinger = window.matchMedia("(pointer: coarse)").matches;

  // The width that paper leaves: an A4 page at 96 dots an inch, less its margins.
  var PAPER = 690;

  function plot(place, figure, width) {
    var layout = Object.assign({}, figure.layout);
    if (width) {
      layout.width = width;
    }
    if (byFinger) {
      layout.dragmode = false;
    }
    Plotly.newPlot(place, figure.data, layout, {
      responsive: true,
      displaylogo: false,
      // On a small figure it would cover the data, on a narrow one the legend.
      displayModeBar: !width && place.clientWidth > 600 && !byFinger,
      modeBarButtons: BUTTONS,
      plotlyServerURL: "",
      toImageButtonOptions: { filename: place.id.slice("plot-".length), scale: 2 },
    });
  }

  function draw(onPaper) {
    figures.forEach(function (figure, place) {
      var half = place.closest(".grid") !== null;
      plot(place, figure, onPaper ? (half ? PAPER / 2 - 14 : PAPER) : 0);
    });
  }

  // A page that was opened from a file may be refused the clipboard.
  function copyBySelection(text) {
    var area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.appendChild(area);
    area.select();
    var copied = document.execCommand("copy");
    area.remove();
    return copied ? Promise.resolve() : Promise.reject(new Error("not copied"));
  }

  function copy(text) {
    if (!navigator.clipboard) {
      return copyBySelection(text);
    }
    return navigator.clipboard.writeText(text).catch(function () {
      return copyBySelection(text);
    });
  }

  function answer(button, words) {
    button.textContent = words;
    setTimeout(function () {
      button.textContent = "Copy";
    }, 1500);
  }

  document.querySelectorAll(".spelling button").forEach(function (button) {
    button.addEventListener("click", function () {
      var text = button.parentElement.querySelector("pre").textContent;
      copy(text).then(
        function () { answer(button, "Copied"); },
        function () { answer(button, "Select it"); }
      );
    });
  });
  document.querySelectorAll("script[data-for]").forEach(function (source) {
    figures.set(document.getElementById(source.dataset.for), JSON.parse(source.textContent));
  });

  // Unpacked, plotly.js is a script with a digest that the page's policy knows.
  async function unpack(packed) {
    var bytes = Uint8Array.from(atob(packed), function (char) { return char.charCodeAt(0); });
    var stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    var script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.appendChild(script);
  }

  function show() {
    window.addEventListener("beforeprint", function () { draw(true); });
    window.addEventListener("afterprint", function () { draw(false); });
    draw(false);
    document.documentElement.dataset.drawn = String(figures.size);
  }

  function regret() {
    var words = document.createElement("p");
    words.className = "finding";
    words.textContent = "This browser is too old to unpack the figures: it takes Chrome or Edge 80, "
      + "Firefox 113, Safari 16.4, or a newer one. Tables and text are complete.";
    document.querySelector("main").prepend(words);
  }

  var packed = document.getElementById("plotly");
  if (packed === null) {
    document.documentElement.dataset.drawn = "0";
  } else if (typeof DecompressionStream === "undefined") {
    regret();
  } else {
    unpack(packed.textContent).then(show);
  }
})();
