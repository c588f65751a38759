// Values of heat maps and charts, for the pointer, a finger and the keyboard.
(() => {
  const gain = (row) => (report.output[row] === null ? "" : `\n${changed(report.output[row], row)} over output`);
  const baseline = (row) => {
    const before = report.baseline ? report.baseline[row] : null;
    return before === null ? "" : `\nbaseline ${scoreText(before, row)}, ${changed(report.change[row], row)}`;
  };

  // Heat maps

  function about(cell) {
    const sweep = Number(cell.closest("table").dataset.sweep), layer = cell.parentElement.cells[0].textContent;
    const site = cell.closest("table").tHead.rows[0].cells[cell.cellIndex].textContent;
    // A row of the map is a layer, or a tap of its own: L06, output, L06-act.cls.
    const row = rowOf(sweep, /^L\d+$/.test(layer) ? `${layer}-${site}` : layer);
    if (row === undefined) return null;
    return `${tapName(row)}: ${scoreText(report.accuracy[row], row)} [${interval(row)}]${gain(row)}${baseline(row)}\n${report.verdicts[report.verdict[row]]}`;
  }

  const cellOf = (target) => {
    const cell = target.closest("td");
    return cell && cell.textContent && cell.closest("tbody") && cell.closest("table.map") ? cell : null;
  };
  const tell = (cell) => { const text = about(cell); if (text) showTip(cell, text); };

  for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, (event) => {
    const cell = cellOf(event.target);
    if (cell) tell(cell);
  });
  for (const kind of ["pointerout", "focusout"]) document.addEventListener(kind, (event) => { if (cellOf(event.target)) hideTip(); });

  function go(cell) {
    for (const other of cell.closest("table").querySelectorAll("[tabindex]")) other.removeAttribute("tabindex");
    cell.tabIndex = 0;
    cell.focus();
  }
  document.addEventListener("click", (event) => { const cell = cellOf(event.target); if (cell) go(cell); });
  document.addEventListener("keydown", (event) => {
    const cell = cellOf(event.target);
    if (!cell) return;
    const rows = [...cell.closest("tbody").rows], row = cell.parentElement, at = rows.indexOf(row);
    let next = null;
    if (event.key === "ArrowRight") next = cell.nextElementSibling;
    else if (event.key === "ArrowLeft") next = cell.previousElementSibling;
    else if (event.key === "Home") next = row.cells[1];
    else if (event.key === "End") next = row.cells[row.cells.length - 1];
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const beside = rows[at + (event.key === "ArrowDown" ? 1 : -1)];
      next = beside && beside.cells[Math.min(cell.cellIndex, beside.cells.length - 1)];
    } else return;
    event.preventDefault();
    if (next && next.tagName === "TD") go(next);
  });

  // Curves

  const drawn = (chart) => [...chart.querySelectorAll(".series")].filter((each) => !each.hasAttribute("hidden"));

  // Where a chart has values: layers of its sweep, or depths of all that it draws, each as a fraction of its width.
  function places(chart) {
    const found = new Set();
    for (const each of drawn(chart)) {
      const { depth } = report.sweeps[each.dataset.sweep];
      const site = chart.dataset.site || each.dataset.name;
      for (let layer = 1; layer <= depth; layer += 1) {
        if (rowOf(each.dataset.sweep, blockTap(layer, site)) === undefined) continue;
        found.add(chart.dataset.kind === "layers" ? (layer - 1) / Math.max(depth - 1, 1) : layer / depth);
      }
    }
    return [...found].sort((a, b) => a - b);
  }

  function valuesAt(chart, place) {
    const values = [];
    for (const each of drawn(chart)) {
      const { depth, model } = report.sweeps[each.dataset.sweep];
      const layer = Math.max(1, Math.round(chart.dataset.kind === "layers" ? 1 + place * Math.max(depth - 1, 1) : place * depth));
      const row = rowOf(each.dataset.sweep, blockTap(layer, chart.dataset.site || each.dataset.name));
      if (row !== undefined) values.push({ row, layer, depth, name: chart.dataset.site ? model : each.dataset.name });
    }
    return values.sort((a, b) => report.accuracy[b.row] - report.accuracy[a.row]);
  }

  function say(chart, place) {
    const values = valuesAt(chart, place);
    if (!values.length) return;
    const wide = Math.max(...values.map(({ name }) => name.length));
    const layer = (value) => `L${String(value.layer).padStart(2, "0")}`;
    const title = chart.dataset.site ? `${chart.dataset.site}, ${Math.round(100 * place)}% deep` : `layer ${values[0].layer} of ${values[0].depth}`;
    const lines = values.slice(0, 12).map((value) =>
      `${value.name.padEnd(chart.dataset.site ? wide : 4)} ${chart.dataset.site ? `${layer(value)} ` : ""}${scored(report.accuracy[value.row], value.row)} [${interval(value.row)}]`);
    if (values.length > 12) lines.push(`and ${values.length - 12} more`);
    const { left, right, top, bottom } = chart.dataset, x = Number(left) + place * (right - left);
    let cross = chart.querySelector(".cross");
    if (!cross) {
      cross = document.createElementNS("http://www.w3.org/2000/svg", "path");
      cross.setAttribute("class", "cross");
      chart.append(cross);
    }
    cross.setAttribute("d", `M${x},${top}V${bottom}`);
    chart.dataset.place = place;
    showTip(chart, [title, ...lines].join("\n"), () => {
      const box = chart.getBoundingClientRect(), at = box.left + (x * box.width) / chart.viewBox.baseVal.width;
      return { left: at, right: at, top: box.top + box.height / 2, bottom: box.top + box.height / 2 };
    });
  }

  function quiet(chart) {
    chart.querySelector(".cross")?.remove();
    hideTip();
  }

  const nearest = (list, value) => list.reduce((best, each) => (Math.abs(each - value) < Math.abs(best - value) ? each : best), list[0]);

  function follow(event) {
    const chart = event.target.closest?.("svg.chart");
    if (!chart) return;
    const box = chart.getBoundingClientRect(), { left, right } = chart.dataset;
    const x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
    const list = places(chart);
    if (list.length) say(chart, nearest(list, (x - left) / (right - left)));
  }
  document.addEventListener("pointermove", follow);
  document.addEventListener("pointerdown", follow);
  document.addEventListener("pointerout", (event) => {
    const chart = event.target.closest?.("svg.chart");
    if (chart && event.pointerType === "mouse" && !chart.contains(event.relatedTarget)) quiet(chart);
  });
  document.addEventListener("focusout", (event) => { const chart = event.target.closest?.("svg.chart"); if (chart) quiet(chart); });
  document.addEventListener("focusin", (event) => {
    const chart = event.target.closest?.("svg.chart");
    if (chart && chart.matches(":focus-visible")) { const list = places(chart); if (list.length) say(chart, nearest(list, Number(chart.dataset.place ?? 0.5))); }
  });
  document.addEventListener("keydown", (event) => {
    const chart = event.target.closest?.("svg.chart"), list = chart ? places(chart) : [];
    if (!list.length) return;
    const here = list.indexOf(nearest(list, Number(chart.dataset.place ?? 0.5)));
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: list.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    say(chart, list[Math.max(0, Math.min(list.length - 1, to))]);
  });

  // Legends

  for (const button of document.querySelectorAll(".key button")) {
    const chart = button.closest("figure").querySelector(".chart");
    const its = [...chart.querySelectorAll(".series")].find((each) => each.dataset.name === button.dataset.name);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      its.toggleAttribute("hidden", !on);
    });
    const only = (on) => { chart.classList.toggle("some", on); its.classList.toggle("this", on); };
    for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => only(true));
    for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => only(false));
  }
  for (const box of document.querySelectorAll(".choices input")) {
    const apply = () => {
      for (const each of box.closest("fieldset").querySelectorAll(`.series[data-sweep="${box.value}"]`)) each.toggleAttribute("hidden", !box.checked);
    };
    box.addEventListener("change", apply);
    if (box.checked !== box.defaultChecked) apply(); // restored by the browser
  }
})();
