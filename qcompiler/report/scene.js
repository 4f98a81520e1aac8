"use strict";
// Where everything stands for a given set of unfolded layers. No drawing here.
// Rows, order and wishes for x come with the data; unfolded layers are larger, so rows are spread again.
const Scene = (() => {
  const ROW_GAP = 40, PADDING = 14, HEADER = 28;

  // Centres nearest to those wanted that keep order and gap: pooling adjacent violators, as in layered_layout.py.
  function spread(wanted, widths, weights, gap) {
    const offsets = [0];
    for (let i = 1; i < widths.length; i++) offsets.push(offsets[i - 1] + (widths[i - 1] + widths[i]) / 2 + gap);
    const blocks = [];
    wanted.forEach((target, i) => {
      let mean = target - offsets[i], weight = weights[i], count = 1;
      while (blocks.length && blocks[blocks.length - 1][0] >= mean) {
        const [before, heavy, members] = blocks.pop();
        mean = (before * heavy + mean * weight) / (heavy + weight);
        weight += heavy;
        count += members;
      }
      blocks.push([mean, weight, count]);
    });
    const centres = [];
    for (const [mean, , count] of blocks) for (let k = 0; k < count; k++) centres.push(mean + offsets[centres.length]);
    return centres;
  }

  // Points of a curve that leaves and arrives vertically.
  function curve(points) {
    const xs = [points[0][0]], ys = [points[0][1]];
    for (let i = 1; i < points.length; i++) {
      const [x0, y0] = points[i - 1], [x1, y1] = points[i];
      const steps = Math.abs(x1 - x0) < 0.5 ? 1 : 12;
      for (let k = 1; k <= steps; k++) {
        const t = k / steps;
        xs.push(x0 + (x1 - x0) * (3 * t * t - 2 * t * t * t));
        ys.push(y0 + (y1 - y0) * t);
      }
    }
    return { xs, ys };
  }

  // boxes: {kind: "node"|"group", id, group, x, y, w, h} with x, y the centre; frames: unfolded groups.
  function build(stage, unfolded, sizes) {
    const isLane = item => item >= stage.groups.length;
    const isOpen = id => unfolded.has(id) && stage.groups[id].nodes.length > 1;
    const width = item => isLane(item) ? sizes.laneWidth
      : isOpen(item) ? stage.groups[item].width + 2 * PADDING : sizes.boxWidth;
    const height = item => isLane(item) ? 0
      : isOpen(item) ? stage.groups[item].height + HEADER + 2 * PADDING : sizes.boxHeight;
    const place = new Map(), bounds = [];
    let top = 0;
    stage.rows.forEach((row, number) => {
      const tall = Math.max(0, ...row.map(height));
      const centres = spread(row.map(item => stage.x[item]), row.map(width), row.map(item => isLane(item) ? sizes.laneWeight : 1), sizes.gap);
      row.forEach((item, i) => place.set(item, { x: centres[i], y: top + tall / 2, row: number }));
      bounds.push([top, top + tall]);
      top += tall + ROW_GAP;
    });
    const boxes = [], frames = [], owner = [], boxOf = [];
    stage.groups.forEach((group, id) => {
      const at = place.get(id);
      group.nodes.forEach(node => { owner[node] = id; });
      if (isOpen(id)) {
        const h = height(id), w = width(id), frame = { kind: "group", id, group: id, x: at.x, y: at.y, w, h, open: true };
        frames.push(frame);
        group.nodes.forEach(node => {
          const inside = stage.nodes[node];
          const y = at.y - h / 2 + HEADER + PADDING + inside.y + sizes.boxHeight / 2;
          boxes.push(boxOf[node] = { kind: "node", id: node, group: id, x: at.x + inside.x, y, w: sizes.boxWidth, h: sizes.boxHeight });
        });
      } else {
        const single = group.nodes.length === 1;
        const box = { kind: single ? "node" : "group", id: single ? group.nodes[0] : id, group: id, x: at.x, y: at.y, w: sizes.boxWidth, h: sizes.boxHeight };
        boxes.push(box);
        group.nodes.forEach(node => { boxOf[node] = box; });
      }
    });
    const edges = [], seen = new Set();
    for (const edge of stage.edges) {
      const from = boxOf[edge.source], to = boxOf[edge.destination];
      const key = `${from.kind}${from.id}>${to.kind}${to.id}`;
      if (from === to || seen.has(key)) continue;
      seen.add(key);
      const points = [[from.x, from.y + from.h / 2]];
      if (owner[edge.source] === owner[edge.destination]) {
        const at = place.get(owner[edge.source]), start = at.y - height(owner[edge.source]) / 2 + HEADER + PADDING;
        for (const [x, y] of edge.points) points.push([at.x + x, start + y], [at.x + x, start + y + sizes.boxHeight]);
      } else {
        const start = place.get(owner[edge.source]), end = place.get(owner[edge.destination]);
        points.push([from.x, bounds[start.row][1]]);
        for (const lane of edge.lanes) {
          const at = place.get(lane);
          points.push([at.x, bounds[at.row][0]], [at.x, bounds[at.row][1]]);
        }
        points.push([to.x, bounds[end.row][0]]);
      }
      points.push([to.x, to.y - to.h / 2]);
      edges.push({ from, to, ...curve(points) });
    }
    const all = [...frames, ...boxes];
    const left = Math.min(...all.map(b => b.x - b.w / 2)), right = Math.max(...all.map(b => b.x + b.w / 2));
    return { boxes, frames, edges, boxOf, owner, isOpen, extent: { left, right, top: 0, bottom: top - ROW_GAP } };
  }

  return { build, HEADER };
})();
