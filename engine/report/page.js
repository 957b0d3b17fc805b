// The interactive part of a page: draws the charts, and shows the curves of the chosen layer.
"use strict";
(async () => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const model = (name) => {
    for (const doc of Bokeh.documents) {
      const found = doc.get_model_by_name(name);
      if (found) return found;
    }
    return null;
  };
  for (const [id, item] of Object.entries(payload.charts)) await Bokeh.embed.embed_item(item, id);

  const select = document.getElementById("layer");
  if (select) {
    const { names, steps, k, bounds } = payload;
    const x = Float64Array.from(steps);
    const unpack = ({ low, high, data }) => {
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      const scale = (high - low) / 65535;
      return Float32Array.from({ length: bytes.length / 2 }, (_, i) => low + scale * view.getUint16(2 * i, true));
    };
    const values = { alpha: unpack(payload.alpha), contribution: unpack(payload.contribution) };

    const show = (layer) => {
      for (const [kind, all] of Object.entries(values)) {
        const columns = { step: x };
        for (let j = 0; j < k; j++) {
          const start = (layer * k + j) * x.length;
          columns[`c${j}`] = all.subarray(start, start + x.length);
        }
        model(`${kind}-curves`).data = columns;
      }
      const bound = model("lambda");
      if (bound && bounds) bound.location = bounds[layer];
      const last = (all) => Array.from({ length: k }, (_, j) => all[(layer * k + j + 1) * x.length - 1]);
      const rings = model("chosen-components");
      if (rings) rings.data = { alpha: last(values.alpha), contribution: last(values.contribution) };
      document.getElementById("chosen").textContent = names[layer];
      history.replaceState(null, "", `#layer=${layer}`);
    };
    const choose = (layer) => {
      if (!Number.isInteger(layer) || layer < 0 || layer >= names.length) return;
      select.value = String(layer);
      show(layer);
    };
    const inAddress = () => Number((/^#layer=(\d+)$/.exec(location.hash) || [])[1]);

    select.addEventListener("change", () => show(Number(select.value)));
    addEventListener("hashchange", () => choose(inAddress()));
    // A click on a cell of a map, a bar or a point chooses its layer.
    for (const name of ["rank-cells", "rank-stretches", "components", "share-bars"]) {
      const source = model(name);
      if (!source) continue;
      source.selected.properties.indices.change.connect(() => {
        const [index] = source.selected.indices;
        if (index === undefined) return;
        choose(Number(source.data.index[index]));
        source.selected.indices = [];
      });
    }
    // Read the address first, as showing a layer overwrites it.
    const wanted = inAddress();
    choose(0);
    choose(wanted);
  }
  // Open all folded parts for printing, and fold them again afterwards.
  const folded = () => document.querySelectorAll("details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => { opened = [...folded()]; for (const part of opened) part.open = true; });
  addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
  document.documentElement.dataset.ready = "yes";
})();
