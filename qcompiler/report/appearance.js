"use strict";
// What boxes say and which colours they have.
const Appearance = (() => {
  // What decides the colour of a layer comes first.
  const KINDS = { contraction: ["#3b6fd4", "convolution, matmul"], other: ["#0e8a97", "pooling, other"],
    elementwise: ["#2d8a57", "elementwise"], movement: ["#7d6bb8", "shape, layout"],
    quantization: ["#b0621b", "quantization"], boundary: ["#6d7885", "input, output"] };
  const CHANGES = { same: "#8a94a0", changed: "#c98a00", added: "#2a9348", removed: "#d0413a" };
  const ERRORS = [[40, "#2b7bba", "≥ 40 dB"], [30, "#2f9d93", "30–40"], [20, "#d6a21c", "20–30"], [10, "#e8722c", "10–20"], [-Infinity, "#cf2027", "< 10 dB"]];
  const FONT_SIZES = [12.5, 11, 11, 11], SMALLEST_FONT = 4.5, FONT = "system-ui, sans-serif";
  const THEMES = {
    light: { panel: [255, 255, 255], ink: "#1b2430", dim: "#5b6775", edge: "#a3adba", accent: "#1f6feb", frame: "#eceff3", hit: "#e0a800" },
    dark: { panel: [30, 36, 45], ink: "#e6eaf0", dim: "#9aa6b5", edge: "#5d6979", accent: "#58a6ff", frame: "#181d24", hit: "#f2cc60" },
  };
  const settings = { colourBy: "kind", theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light" };
  const ruler = document.createElement("canvas").getContext("2d");

  // What a box says

  function errorOf(node) { const found = node.results.find(r => r.error); return found ? found.error : null; }

  // Worst of several; infinite where all agree exactly, undefined where none is known.
  function worst(nodes) {
    const found = nodes.map(errorOf).filter(Boolean).map(e => e.sqnr_db === null ? Infinity : e.sqnr_db);
    return found.length ? Math.min(...found) : undefined;
  }

  function groupChange(nodes) {
    const changes = new Set(nodes.map(node => node.change));
    return changes.size === 1 ? nodes[0].change : changes.has("") ? "" : "changed";
  }

  function members(pane, box) {
    const ids = box.kind === "node" ? [box.id] : pane.stage.groups[box.id].nodes;
    return ids.map(id => pane.stage.nodes[id]);
  }

  function colour(pane, box) {
    const nodes = members(pane, box);
    if (settings.colourBy === "change") return CHANGES[groupChange(nodes)] || KINDS.boundary[0];
    if (settings.colourBy === "error") {
      const figure = worst(nodes);
      return figure === undefined ? KINDS.boundary[0] : ERRORS.find(([least]) => figure >= least)[1];
    }
    const kinds = nodes.map(node => node.kind);
    return KINDS[Object.keys(KINDS).find(kind => kinds.includes(kind))][0];
  }

  function texts(pane, box) {
    const nodes = members(pane, box), group = pane.stage.groups[box.group], last = nodes[nodes.length - 1];
    const figure = worst(nodes), error = figure === undefined ? "" : figure === Infinity ? "exact" : `${figure.toFixed(1)} dB`;
    if (box.kind === "group") {
      return { name: "▸ " + group.name, summary: `${nodes.length} nodes: ${[...new Set(nodes.flatMap(n => n.ops))].join(", ")}`, type: last.type, error };
    }
    const ops = last.ops.join(" → ");
    if (!pane.scene.isOpen(box.group) && last.layers.length) return { name: last.layers.join(" + "), summary: ops, type: last.type, error };
    // The op is the name; the value tells boxes of one op apart.
    const value = last.results[0], summary = last.kind === "boundary" || !value ? ops : [value.name, value.original].filter(Boolean).join(" = ");
    return { name: last.kind === "boundary" ? last.title : ops, summary, type: last.type, error };
  }

  // Longest beginning, or for names of layers the most telling end of each, that fits.
  function fitText(text, width, style, keepEnd) {
    ruler.font = `${style} ${FONT}`;
    if (ruler.measureText(text).width <= width) return text;
    let low = 0, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      const tried = keepEnd ? "…" + text.slice(-middle) : text.slice(0, middle) + "…";
      if (ruler.measureText(tried).width <= width) low = middle; else high = middle - 1;
    }
    return keepEnd ? "…" + text.slice(text.length - low) : text.slice(0, low) + "…";
  }

  // A layer's own name counts more than its path: "/blocks.3/conv + /blocks.3/bn" becomes "…/conv + 1".
  function fitLayer(text, width) {
    const style = `bold ${FONT_SIZES[0]}px`;
    ruler.font = `${style} ${FONT}`;
    if (ruler.measureText(text).width <= width) return text;
    const prefix = text.startsWith("▸ ") || text.startsWith("▾ ") ? text.slice(0, 2) : "";
    const [first, ...others] = text.slice(prefix.length).split(" + ");
    const more = others.length ? ` +${others.length}` : "";
    return prefix + fitText(first, width - ruler.measureText(prefix + more).width, style, true) + more;
  }

  function mix(hex, share) {
    const base = THEMES[settings.theme].panel;
    const parts = [1, 3, 5].map((at, i) => Math.round(parseInt(hex.slice(at, at + 2), 16) * share + base[i] * (1 - share)));
    return `rgb(${parts.join(",")})`;
  }

  function widthOf(text, style) {
    ruler.font = `${style} ${FONT}`;
    return ruler.measureText(text).width;
  }

  // Colour and meaning, for what boxes are coloured by.
  function legend() {
    if (settings.colourBy === "change") return Object.entries(CHANGES).map(([name, shade]) => [shade, name]);
    if (settings.colourBy === "error") return [...ERRORS.map(([, shade, text]) => [shade, text]), [KINDS.boundary[0], "unknown"]];
    return Object.values(KINDS);
  }

  return { settings, CHANGES, FONT_SIZES, SMALLEST_FONT, tone: () => THEMES[settings.theme], errorOf, groupChange, members, colour, texts, fitText, fitLayer, mix, widthOf, legend };
})();
