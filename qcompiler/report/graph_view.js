"use strict";
// The page: one pane a stage, drawn with Bokeh; fold and unfold, search, selection, colours.
const GraphView = (() => {
  const { stages, figures, sizes } = JSON.parse(document.getElementById("data").textContent);
  const get = id => document.getElementById(id);
  const { settings, CHANGES, FONT_SIZES, SMALLEST_FONT, errorOf, groupChange, members, colour, texts, fitText, fitLayer, mix } = Appearance;
  const isCompared = stages.length > 1;
  const hasErrors = stages.some(stage => stage.nodes.some(node => errorOf(node)));
  let panes = [], selected = null, hits = [], current = -1;
  settings.colourBy = isCompared ? "change" : hasErrors ? "error" : "kind";

  // Drawing

  function columns(rows, names) {
    return Object.fromEntries(names.split(" ").map(name => [name, rows.map(row => row[name])]));
  }

  function model(pane, name) { return pane.document.get_model_by_name(`${pane.name}-${name}`); }

  function rebuild(pane) {
    pane.scene = Scene.build(pane.stage, pane.unfolded, sizes);
    draw(pane);
  }

  function draw(pane) {
    const tone = Appearance.tone(), { scene } = pane, marked = highlights(pane);
    const line = (box, usual) => marked.selected.has(box) ? [tone.accent, 3.5] : marked.linked.has(box) ? [tone.accent, 2.5]
      : marked.hits.has(box) ? [tone.hit, 3] : [usual, 1.2];
    const frames = scene.frames.map(box => {
      const [colour, thickness] = line(box, tone.edge);
      return { ...box, fill: tone.frame, line: colour, thickness };
    });
    const edges = scene.edges.map(edge => {
      const near = marked.selected.has(edge.from) || marked.selected.has(edge.to);
      return { ...edge, line: near ? tone.accent : tone.edge, thickness: near ? 2.2 : 1.3 };
    });
    const arrows = edges.map(edge => ({ x: edge.to.x, y: edge.to.y - edge.to.h / 2 - 3, line: edge.line, size: 7 }));
    const boxes = [], stripes = [], labels = [[], [], [], []];
    for (const box of scene.boxes) {
      const shade = colour(pane, box), [edge, thickness] = line(box, shade), says = texts(pane, box);
      boxes.push({ ...box, fill: mix(shade, 0.14), line: edge, thickness, full: `${says.name.replace("▸ ", "")}: ${says.summary}, ${says.type}` });
      stripes.push({ x: box.x - box.w / 2 + 3.5, y: box.y, w: 7, h: box.h, fill: shade });
      const left = box.x - box.w / 2 + 15, room = box.w - 24;
      const taken = says.error ? Appearance.widthOf(says.error, `bold ${FONT_SIZES[3]}px`) + 8 : 0;
      labels[0].push({ x: left, y: box.y - 16, text: fitLayer(says.name, room), color: tone.ink });
      labels[1].push({ x: left, y: box.y + 1, text: fitText(says.summary, room, `${FONT_SIZES[1]}px`), color: tone.dim });
      labels[2].push({ x: left, y: box.y + 17, text: fitText(says.type, room - taken, `${FONT_SIZES[2]}px`), color: tone.dim });
      if (says.error) labels[3].push({ x: box.x + box.w / 2 - 9, y: box.y + 17, text: says.error, color: tone.ink });
    }
    for (const box of scene.frames) {
      labels[0].push({ x: box.x - box.w / 2 + 12, y: box.y - box.h / 2 + 17, color: tone.ink,
        text: fitLayer("▾ " + pane.stage.groups[box.id].name, box.w - 24) });
    }
    model(pane, "frames").data = columns(frames, "x y w h fill line thickness");
    model(pane, "edges").data = columns(edges, "xs ys line thickness");
    model(pane, "arrows").data = columns(arrows, "x y line size");
    model(pane, "boxes").data = columns(boxes, "x y w h fill line thickness full");
    model(pane, "stripes").data = columns(stripes, "x y w h fill");
    labels.forEach((rows, index) => { model(pane, `labels-source-${index}`).data = columns(rows, "x y text color"); });
  }

  // Boxes to mark: what is selected, what it stands for in the other pane, and what the search found.
  function highlights(pane) {
    const marked = { selected: new Set(), linked: new Set(), hits: new Set() };
    for (const hit of hits) if (hit.pane === pane) marked.hits.add(pane.scene.boxOf[hit.node]);
    if (!selected) return marked;
    if (selected.pane === pane) marked.selected.add(locate(pane, selected));
    else for (const id of counterparts(selected)) marked.linked.add(pane.scene.boxOf[id]);
    return marked;
  }

  function locate(pane, item) {
    if (item.kind === "node") return pane.scene.boxOf[item.id];
    return pane.scene.frames.find(frame => frame.id === item.id) || pane.scene.boxOf[pane.stage.groups[item.id].nodes[0]];
  }

  // Nodes of the other stage that hold the same values; where there are none, those that do the same layers' work.
  function counterparts(item) {
    const other = panes.find(pane => pane !== item.pane);
    if (!other) return [];
    const nodes = item.kind === "node" ? [item.pane.stage.nodes[item.id]] : members(item.pane, { kind: "group", id: item.id });
    const matched = [...new Set(nodes.flatMap(node => node.matches))];
    if (matched.length) return matched;
    const layers = new Set(nodes.flatMap(node => node.layers));
    return other.stage.nodes.flatMap((node, id) => node.layers.some(layer => layers.has(layer)) ? [id] : []);
  }

  // View

  function scaleOf(pane) { return pane.host.clientWidth / (pane.x.end - pane.x.start); }

  function look(pane, x, y, scale) {
    const width = pane.host.clientWidth / scale, height = pane.host.clientHeight / scale;
    pane.x.setv({ start: x - width / 2, end: x + width / 2 });
    pane.y.setv({ start: y + height / 2, end: y - height / 2 });
    follow(pane);
  }

  function middle(pane) { return [(pane.x.start + pane.x.end) / 2, (pane.y.start + pane.y.end) / 2]; }

  function wholeScale(pane) {
    const { left, right, top, bottom } = pane.scene.extent;
    return Math.min(pane.host.clientWidth / (right - left + 40), pane.host.clientHeight / (bottom - top + 40));
  }

  function fit(pane) {
    const { left, right, top, bottom } = pane.scene.extent;
    look(pane, (left + right) / 2, (top + bottom) / 2, Math.min(1.2, wholeScale(pane)));
  }

  // Large programs begin at the top, legible.
  function beginning(pane) {
    const scale = Math.max(0.85, Math.min(1.15, wholeScale(pane)));
    const first = pane.scene.boxes.reduce((a, b) => b.y < a.y ? b : a);
    const { top, bottom } = pane.scene.extent, room = pane.host.clientHeight / scale;
    look(pane, first.x, bottom - top + 40 < room ? (top + bottom) / 2 : top - 20 + room / 2, scale);
  }

  function isVisible(pane, box) {
    return box.x > pane.x.start && box.x < pane.x.end && box.y > pane.y.end && box.y < pane.y.start;
  }

  // Labels keep the size of their boxes; too small to read, they go.
  function follow(pane) {
    const scale = scaleOf(pane);
    if (Math.abs(scale - pane.drawnScale) < 1e-6) return;
    pane.drawnScale = scale;
    FONT_SIZES.forEach((size, index) => {
      const label = model(pane, `labels-${index}`), pixels = size * scale;
      label.visible = pixels >= SMALLEST_FONT;
      if (label.visible) label.glyph.text_font_size = { value: `${pixels.toFixed(2)}px` };
    });
    model(pane, "arrow-heads").visible = scale > 0.25;
  }

  // Selection

  function select(item, move = false) {
    selected = item;
    panes.forEach(draw);
    if (!item) return;
    if (move) look(item.pane, locate(item.pane, item).x, locate(item.pane, item).y, Math.max(0.85, scaleOf(item.pane)));
    const linked = counterparts(item), other = panes.find(pane => pane !== item.pane);
    if (linked.length) {
      const boxes = linked.map(id => other.scene.boxOf[id]);
      if (!boxes.some(box => isVisible(other, box))) look(other, boxes[0].x, boxes[0].y, Math.max(0.6, scaleOf(other)));
    }
    show(item, linked.map(id => ({ text: nodeName(other, id), note: other.stage.nodes[id].type, open: () => reveal(other, id) })));
  }

  function show(item, links) {
    const { stage } = item.pane;
    if (item.kind === "node") { Details.showNode(stage.nodes[item.id], CHANGES, links); return; }
    const group = stage.groups[item.id];
    const nodes = group.nodes.map(id => ({ ...stage.nodes[id], text: stage.nodes[id].ops.join(" → "), note: stage.nodes[id].type, open: () => reveal(item.pane, id) }));
    Details.showGroup(group, nodes, groupChange(nodes), CHANGES, item.pane.unfolded.has(item.id), () => toggle(item.pane, item.id), links);
  }

  function nodeName(pane, id) {
    const node = pane.stage.nodes[id], name = node.results.map(r => r.name).join(", ") || node.title;
    return `${name} ${node.ops.join(" → ")}`;
  }

  function reveal(pane, id) {
    const group = pane.scene.owner[id];
    if (pane.stage.groups[group].nodes.length > 1 && !pane.unfolded.has(group)) { pane.unfolded.add(group); rebuild(pane); }
    select({ pane, kind: "node", id }, true);
  }

  // The layer stays where it is on the screen while the rest makes room.
  function toggle(pane, id) {
    const before = locate(pane, { kind: "group", id }), [x, y] = middle(pane);
    if (pane.unfolded.has(id)) pane.unfolded.delete(id); else pane.unfolded.add(id);
    pane.scene = Scene.build(pane.stage, pane.unfolded, sizes);
    const after = locate(pane, { kind: "group", id });
    look(pane, x + after.x - before.x, y + (after.y - after.h / 2) - (before.y - before.h / 2), scaleOf(pane));
    select({ pane, kind: "group", id });
  }

  function boxAt(pane, x, y) {
    const inside = box => Math.abs(x - box.x) <= box.w / 2 && Math.abs(y - box.y) <= box.h / 2;
    return pane.scene.boxes.find(inside) || pane.scene.frames.find(inside);
  }

  function tapped(pane, { x, y }) {
    const box = boxAt(pane, x, y);
    if (!box) { select(null); return; }
    const onTriangle = box.kind === "group" && x < box.x - box.w / 2 + 28 && y < box.y - box.h / 2 + Scene.HEADER;
    if (onTriangle) toggle(pane, box.id); else select({ pane, kind: box.kind, id: box.id });
  }

  // Search

  function search(text) {
    const wanted = text.trim().toLowerCase();
    hits = [];
    current = -1;
    if (wanted) for (const pane of panes) pane.texts.forEach((known, node) => { if (known.includes(wanted)) hits.push({ pane, node }); });
    panes.forEach(draw);
    const list = get("results");
    const shown = hits.slice(0, 200).map((hit, index) => {
      const node = hit.pane.stage.nodes[hit.node];
      const where = isCompared ? `${hit.pane.stage.title}: ` : "";
      return Details.element("li", { onclick: () => go(index) }, nodeName(hit.pane, hit.node), " ", Details.element("small", {}, where + node.layers.join(" + ")));
    });
    if (hits.length > shown.length) shown.push(Details.element("li", {}, `… ${hits.length - shown.length} more`));
    get("count").textContent = wanted ? `${hits.length} found` : "";
    list.hidden = !shown.length;
    list.replaceChildren(...shown);
  }

  function go(index) {
    if (!hits.length) return;
    current = (index + hits.length) % hits.length;
    [...get("results").children].forEach((item, i) => item.classList.toggle("current", i === current));
    reveal(hits[current].pane, hits[current].node);
  }

  // Words of a node that the search looks at.
  function searchText(node) {
    const values = [...node.results, ...node.constants].flatMap(v => [v.name, v.original]);
    return [node.title, ...node.ops, ...node.layers, ...values].join("\n").toLowerCase();
  }

  // Controls

  function drawLegend() {
    get("legend").replaceChildren(...Appearance.legend().map(([shade, text]) =>
      Details.element("span", {}, Details.element("i", { style: `background:${shade}` }), text)));
  }

  function setTheme(name) {
    settings.theme = name;
    document.documentElement.dataset.theme = name;
    panes.forEach(draw);
  }

  function foldAll(unfold) {
    for (const pane of panes) {
      pane.unfolded = new Set(unfold ? pane.stage.groups.keys() : []);
      rebuild(pane);
      beginning(pane);
    }
  }

  function zoom(factor) { for (const pane of panes) look(pane, ...middle(pane), scaleOf(pane) * factor); }

  function connect() {
    const choices = [["kind", "kind of op"], ...(isCompared ? [["change", "change"]] : []), ...(hasErrors ? [["error", "error against float"]] : [])];
    get("colour").append(...choices.map(([value, text]) => Details.element("option", { value }, text)));
    get("colour").value = settings.colourBy;
    get("colour").onchange = event => { settings.colourBy = event.target.value; drawLegend(); panes.forEach(draw); };
    get("fit").onclick = () => panes.forEach(fit);
    get("zoom-in").onclick = () => zoom(1.3);
    get("zoom-out").onclick = () => zoom(1 / 1.3);
    get("unfold-all").onclick = () => foldAll(true);
    get("fold-all").onclick = () => foldAll(false);
    get("theme").onclick = () => setTheme(settings.theme === "dark" ? "light" : "dark");
    get("search").oninput = event => search(event.target.value);
    get("search").onfocus = event => { get("results").hidden = !hits.length || !event.target.value.trim(); };
    get("search").onkeydown = event => {
      if (event.key === "Enter") go(current + (event.shiftKey ? -1 : 1));
      if (event.key === "Escape") { event.target.value = ""; search(""); event.target.blur(); }
    };
    document.addEventListener("click", event => { if (!event.target.closest(".search")) get("results").hidden = true; });
    document.addEventListener("keydown", event => {
      if (event.target.closest("input")) return;
      if (event.key === "/") { event.preventDefault(); get("search").focus(); }
      if (event.key === "f") panes.forEach(fit);
    });
  }

  async function open(index) {
    await Bokeh.embed.embed_item(figures[index]);
    const name = `pane${index}`;
    const document_ = Bokeh.documents.find(d => d.get_model_by_name(name)), plot = document_.get_model_by_name(name);
    const pane = { name, stage: stages[index], unfolded: new Set(), document: document_, host: get(name),
      x: plot.x_range, y: plot.y_range, drawnScale: 0, texts: stages[index].nodes.map(searchText) };
    plot.on_event("tap", event => tapped(pane, event));
    plot.on_event("doubletap", event => {
      const box = boxAt(pane, event.x, event.y);
      if (box && box.kind === "group") toggle(pane, box.id);
    });
    pane.x.change.connect(() => follow(pane));
    return pane;
  }

  async function start() {
    for (let index = 0; index < stages.length; index++) panes.push(await open(index));
    connect();
    document.documentElement.dataset.theme = settings.theme;
    drawLegend();
    panes.forEach(rebuild);
    panes.forEach(beginning);
    panes.forEach(pane => {
      let size = [pane.host.clientWidth, pane.host.clientHeight];
      new ResizeObserver(() => {
        if (!pane.host.clientWidth || !pane.host.clientHeight) return;
        const scale = size[0] / (pane.x.end - pane.x.start);
        size = [pane.host.clientWidth, pane.host.clientHeight];
        look(pane, ...middle(pane), scale);
      }).observe(pane.host);
    });
  }

  // Where a box stands on the screen, by pane and name; with atTriangle, the corner that unfolds or folds.
  function positionOf(index, text, atTriangle = false) {
    const pane = panes[index], { host, x, y, scene, stage } = pane;
    const named = box => box.kind === "group" ? stage.groups[box.id].name : [stage.nodes[box.id].title, ...stage.nodes[box.id].layers].join("\n");
    const box = [...scene.frames, ...scene.boxes].find(b => named(b).includes(text));
    if (!box) return null;
    const at = atTriangle ? [box.x - box.w / 2 + 16, box.y - box.h / 2 + 14] : [box.x, box.y];
    const frame = host.getBoundingClientRect(), scale = scaleOf(pane);
    return [frame.left + (at[0] - x.start) * scale, frame.top + (at[1] - y.end) * scale];
  }

  const ready = start();
  return { ready, positionOf, reveal: (pane, node) => reveal(panes[pane], node),
    boxes: pane => panes[pane].scene.boxes.length, frames: pane => panes[pane].scene.frames.length,
    linked: pane => highlights(panes[pane]).linked.size };
})();
