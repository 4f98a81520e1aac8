"use strict";
// The panel beside the drawing. Texts of the program become text nodes, never HTML.
const Details = (() => {
  const panel = document.getElementById("details");

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "onclick") made.addEventListener("click", value); else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  function section(title, ...children) {
    if (children.length) panel.append(element("h4", {}, title), ...children);
  }

  function table(rows) {
    return element("table", {}, ...rows.map(([name, text]) => element("tr", {}, element("td", {}, name), element("td", {}, text))));
  }

  function decibels(error) {
    return error.sqnr_db === null ? "exact" : `${error.sqnr_db.toFixed(1)} dB`;
  }

  function value(data) {
    const rows = [["type", data.type], ["original", data.origin], ...data.facts];
    if (data.error) {
      rows.push(["error", `${decibels(data.error)} SQNR, largest ${data.error.max_error.toPrecision(4)}` + (data.error.recovered ? " (recovered)" : "")]);
    }
    return element("div", { class: "value" }, element("code", {}, data.name), table(rows));
  }

  function links(items) {
    return items.map(item => element("p", {}, element("a", { onclick: item.open }, item.text), " ", element("small", {}, item.note || "")));
  }

  function badge(change, colours) {
    return change ? [element("span", { class: "badge", style: `background:${colours[change]}` }, change)] : [];
  }

  // counterparts, others: what to list and where its links lead.
  function showNode(node, colours, counterparts) {
    panel.replaceChildren(element("h3", {}, node.title, ...badge(node.change, colours)));
    if (node.ops.length > 1) panel.append(element("p", {}, node.ops.join(" → ")));
    section("Layer", ...node.layers.map(layer => element("p", {}, layer)));
    section("Results", ...node.results.map(value));
    section("Attributes", ...(node.attributes.length ? [table(node.attributes)] : []));
    section("Operands", ...node.operands.map(value));
    section("Constants", ...node.constants.map(value));
    section("In the other stage", ...links(counterparts));
    section("Text", element("pre", { id: "line" }, node.line));
  }

  function showGroup(group, nodes, change, colours, isOpen, toggle, counterparts) {
    panel.replaceChildren(
      element("h3", {}, group.name, ...badge(change, colours)),
      element("p", {}, `${nodes.length} nodes`),
      element("button", { id: "toggle", onclick: toggle }, isOpen ? "Fold" : "Unfold"),
    );
    section("Nodes", ...links(nodes));
    section("In the other stage", ...links(counterparts));
  }

  return { showNode, showGroup, element, decibels };
})();
