"use strict";
(() => {
  const content = JSON.parse(document.getElementById("run-data").textContent);
  const figures = content.figures;
  const small = window.matchMedia("(max-width: 640px)");

  // Colours are written as CSS variables; Plotly wants what they stand for now.
  const coloured = (value) => {
    if (typeof value === "string") {
      const variable = /^var\((--[\w-]+)\)$/.exec(value);
      return variable ? getComputedStyle(document.documentElement).getPropertyValue(variable[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, coloured(item)]));
    }
    return value;
  };

  const draw = (id, data, layout) => {
    const place = document.getElementById(id);
    if (!place) return;
    const tools = id === "front-figure" && !small.matches;
    const options = { responsive: true, displaylogo: false, displayModeBar: tools ? "hover" : false,
      modeBarButtonsToRemove: ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d"], scrollZoom: false };
    const shown = small.matches ? { ...layout, dragmode: false, margin: { ...layout.margin, l: 44, r: 8 } } : layout;
    Plotly.react(place, coloured(data), coloured(shown), options);
  };

  const front = figures["front-figure"];
  const axisPicker = (axis) => document.querySelector(`select[data-axis="${axis}"]`);
  const focus = document.querySelector("input[data-focus]");

  const drawFront = () => {
    const x = axisPicker("x").value;
    const y = axisPicker("y").value;
    const titles = Object.fromEntries(front.axes.map((axis) => [axis.name, axis.title]));
    const bar = (trace, axis) => trace.errors && trace.errors[axis]
      ? { type: "data", array: trace.errors[axis], color: trace.marker.color, thickness: 1.3, width: 4 } : { visible: false };
    const traces = front.data.map((trace) => {
      const { points, errors, lines, ...rest } = trace;
      if (lines) {
        const line = lines[`${x} ${y}`];
        return line ? { ...rest, x: line.x, y: line.y, line: { ...rest.line, shape: line.shape } } : { ...rest, x: [], y: [] };
      }
      return { ...rest, x: points[x], y: points[y], error_x: bar(trace, x), error_y: bar(trace, y) };
    });
    const near = focus.checked;
    const axis = (name, base) => ({ ...base, title: { ...base.title, text: titles[name] },
      ...(near && front.ranges[name] ? { range: front.ranges[name], autorange: false } : { autorange: true }) });
    focus.parentElement.hidden = !(front.ranges[x] || front.ranges[y]);
    // The floor of an objective is drawn where it is in sight; it must not stretch the axis.
    const floor = front.floors && y in front.floors
      ? { shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: front.floors[y], y1: front.floors[y],
          line: { color: "var(--muted)", width: 1.2, dash: "dash" } }],
        annotations: [{ xref: "paper", x: 1, y: front.floors[y], xanchor: "right", yanchor: "bottom", showarrow: false,
          text: "noise floor", font: { size: 11, color: "var(--muted)" } }] } : {};
    draw("front-figure", traces, { ...front.layout, ...floor, xaxis: axis(x, front.layout.xaxis), yaxis: axis(y, front.layout.yaxis) });
  };

  if (front && axisPicker("x")) {
    for (const [index, axis] of ["x", "y"].entries()) {
      for (const item of front.axes) axisPicker(axis).add(new Option(item.title, item.name));
      axisPicker(axis).value = front.picked[index];
      axisPicker(axis).addEventListener("change", drawFront);
    }
    focus.addEventListener("change", drawFront);
  }

  const drawAll = () => {
    for (const [id, figure] of Object.entries(figures)) {
      if (id === "front-figure") drawFront();
      else draw(id, figure.data, figure.layout);
    }
  };
  drawAll();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  small.addEventListener("change", drawAll);

  for (const picker of document.querySelectorAll("select[data-shows]")) {
    picker.addEventListener("change", () => {
      const shown = document.querySelectorAll(`[data-shown-by="${picker.dataset.shows}"]`);
      shown.forEach((item, index) => { item.hidden = index !== Number(picker.value); });
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.key;
      const compare = (first, second) => {
        const [a, b] = [key(first), key(second)];
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
        const order = a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b);
        return descending ? -order : order;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    }));
  }

  for (const drawing of document.querySelectorAll("svg.lineage")) {
    const nodes = new Map([...drawing.querySelectorAll(".node")].map((node) => [node.dataset.id, node]));
    const edges = [...drawing.querySelectorAll(".edge")];
    const follow = (id, from, to, seen) => {
      seen.add(id);
      nodes.get(id).classList.add("lit");
      for (const edge of edges) {
        if (edge.dataset[from] !== id) continue;
        edge.classList.add("lit");
        if (!seen.has(edge.dataset[to])) follow(edge.dataset[to], from, to, seen);
      }
    };
    const clear = () => {
      drawing.classList.remove("picked");
      drawing.querySelectorAll(".lit").forEach((item) => item.classList.remove("lit"));
    };
    for (const [id, node] of nodes) {
      node.addEventListener("pointerenter", () => {
        clear();
        drawing.classList.add("picked");
        follow(id, "to", "from", new Set());
        follow(id, "from", "to", new Set());
      });
      node.addEventListener("pointerleave", clear);
    }
  }
})();
