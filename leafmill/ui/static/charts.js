// Draws what has a Vega-Lite specification: <div class="plot" data-chart="ADDRESS" data-version="N">. When the version changes (morph put
// another one there), new data are put into the chart that is drawn; only another kind of chart is drawn anew. A mark whose datum has an
// `address` is a link. Colours are CSS variables, so charts follow the theme by themselves. Nothing here needs eval or injected styles.
"use strict";

const charts = {
  drawn: new WeakMap(),

  /** Draw all charts below an element that are not drawn in their present version. */
  draw(root) {
    root.querySelectorAll("[data-chart]").forEach((place) => charts.one(place));
  },

  async one(place) {
    const wanted = `${place.dataset.chart} ${place.dataset.version}`;
    const known = charts.drawn.get(place) ?? {};
    if (known.wanted === wanted) return;
    charts.drawn.set(place, { ...known, wanted });
    const response = await fetch(place.dataset.chart, { headers: { accept: "application/json" } });
    if (!response.ok) { charts.drawn.set(place, { ...known, wanted: "" }); return; }
    const { spec, data } = charts.apart(await response.json());
    const shape = JSON.stringify(spec);
    const now = charts.drawn.get(place);
    if (now.wanted !== wanted) return; // another version has been asked for meanwhile
    if (now.view && now.shape === shape) {
      for (const [name, values] of Object.entries(data)) now.view.data(name, values);
      await now.view.runAsync();
    } else {
      now.view?.finalize();
      const { view } = await vegaEmbed(place, charts.joined(spec, data), {
        actions: false, ast: true, expr: vega.expressionInterpreter, renderer: "svg", defaultStyle: false, tooltip: charts.tell, logLevel: vega.Error,
      });
      view.addEventListener("click", charts.follow);
      charts.drawn.set(place, { ...charts.drawn.get(place), view, shape });
    }
  },

  /** A specification, and apart from it the values by the name of their data. */
  apart(spec) {
    const data = {};
    const take = (part) => {
      if (part.data?.values) { data[part.data.name] = part.data.values; part.data = { name: part.data.name }; }
      part.layer?.forEach(take);
    };
    take(spec);
    return { spec, data };
  },

  joined(spec, data) {
    return { ...spec, datasets: data };
  },

  /** Go where the datum of a mark leads; in another tab when asked so. */
  follow(event, item) {
    const address = item?.datum?.address;
    if (!address) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey) window.open(address, "_blank", "noopener");
    else location.assign(address);
  },

  /** What a mark says while it is pointed at. */
  tell(handler, event, item, value) {
    const box = document.getElementById("told") ?? document.body.appendChild(Object.assign(document.createElement("div"), { id: "told" }));
    box.hidden = value === undefined || value === null || value === "";
    box.textContent = box.hidden ? "" : String(value);
    if (box.hidden) return;
    const { width, height } = box.getBoundingClientRect();
    box.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 4))}px`;
    box.style.top = `${event.clientY > height + 20 ? event.clientY - height - 10 : event.clientY + 16}px`;
  },
};

// What morph would do to a chart that is drawn: it takes over the address and the version, and leaves the drawing alone.
const morphed = Idiomorph.defaults.callbacks.beforeNodeMorphed;
Idiomorph.defaults.callbacks.beforeNodeMorphed = (old, fresh) => {
  if (old instanceof Element && old.matches("[data-chart]") && fresh instanceof Element && fresh.matches("[data-chart]")) {
    for (const name of ["data-chart", "data-version", "aria-label"]) old.setAttribute(name, fresh.getAttribute(name));
    return false;
  }
  return morphed(old, fresh);
};

document.addEventListener("DOMContentLoaded", () => charts.draw(document));
document.addEventListener("htmx:afterSettle", () => charts.draw(document));
