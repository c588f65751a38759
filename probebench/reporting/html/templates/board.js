// The leaderboard: filters, sorting, pages. Only the rows of one page are in the document.
(() => {
  const board = document.getElementById("board");
  if (!board) return;
  const body = board.tBodies[0], form = document.querySelector(".filters"), pager = document.querySelector(".pager");
  const count = report.sweep.length;
  const columns = [...board.tHead.rows[0].cells].map((cell) => ({
    cell, key: cell.dataset.key, kind: cell.dataset.kind, title: cell.textContent, classes: cell.className,
    descending: cell.dataset.descending === "1",
  }));
  const sweepOf = (row) => report.sweeps[report.sweep[row]];
  const wordOf = { dataset: (row) => sweepOf(row).dataset, model: (row) => sweepOf(row).model, metric: (row) => sweepOf(row).score ?? "accuracy" };
  const signs = { regressed: "▼", improved: "▲", same: "=", new: "+", "not comparable": "≠" };

  const textOf = {
    word: (key, row) => wordOf[key](row),
    tap: (key, row) => tapName(row),
    count: (key, row) => String(report[key][row] ?? ""),
    percent: (key, row) => (OF_SCORE.has(key) ? scored(report[key][row], row) : percent(report[key][row])),
    points: (key, row) => changed(report[key][row], row),
    interval: (key, row) => interval(row),
    number: (key, row) => report[key][row] ?? "",
    verdict: (key, row) => report.verdicts[report.verdict[row]],
  };

  // Where data meets a tap: those behind the blocks follow each other.
  const placeOf = (layer, row) => (layer > sweepOf(row).depth ? 1e6 - report.site[row] : 10 * layer + report.site[row]);

  // What a column sorts by: a number, or null, which is last either way.
  function sortValues(column) {
    const { key, kind } = column;
    if (kind === "word") {
      const words = [...new Set(report.sweep.map((_, row) => wordOf[key](row)))];
      words.sort(new Intl.Collator(undefined, { numeric: true }).compare);
      const place = new Map(words.map((word, index) => [word, index]));
      return report.sweep.map((_, row) => place.get(wordOf[key](row)));
    }
    if (kind === "tap") return report.layer.map((layer, row) => placeOf(layer, row) + (report.pooling ? report.pooling[row] / 10 : 0));
    if (kind === "interval") return report.low;
    if (kind === "verdict") return report.verdict;
    if (kind === "number") return report[key].map((value) => (value === null ? null : Number(value)));
    return report[key];
  }

  let haystack = null; // made when somebody first searches
  const searched = (row) => {
    haystack ??= report.sweep.map((_, each) => `${wordOf.dataset(each)} ${wordOf.model(each)} ${tapName(each)} ${report.verdicts[report.verdict[each]]}`.toLowerCase());
    return haystack[row];
  };

  let order = Array.from({ length: count }, (_, row) => row), found = order, start = 0, sorted = null, ascending = true;

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    const site = report.sites.indexOf(wanted.site), verdict = report.verdicts.indexOf(wanted.verdict);
    const sweeps = report.sweeps.map((each) => (!wanted.model || each.model === wanted.model) && (!wanted.dataset || each.dataset === wanted.dataset));
    const layerFits = (row) => {
      const place = report.places.indexOf(wanted.layer);
      return place >= 0 ? report.site[row] === -1 - place : report.site[row] >= 0 && report.layer[row] === Number(wanted.layer);
    };
    found = order.filter((row) =>
      sweeps[report.sweep[row]] && (site < 0 || report.site[row] === site) && (verdict < 0 || report.verdict[row] === verdict) &&
      (!wanted.layer || layerFits(row)) && words.every((word) => searched(row).includes(word)));
    start = 0;
    show();
  }

  function sort(column) {
    ascending = sorted === column ? !ascending : !column.descending;
    sorted = column;
    const values = sortValues(column), sign = ascending ? 1 : -1;
    const by = (a, b) => {
      const x = values[a], y = values[b];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * (x - y) || a - b;
    };
    order = Array.from({ length: count }, (_, row) => row).sort(by);
    mark();
    filter();
  }

  function mark() {
    for (const { cell } of columns) cell.removeAttribute("aria-sort");
    if (sorted) sorted.cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  }

  function line(row) {
    const tr = document.createElement("tr");
    tr.setAttribute("role", "row");
    for (const column of columns) {
      const td = document.createElement("td"), text = textOf[column.kind](column.key, row);
      td.setAttribute("role", "cell");
      td.className = `${column.classes} ${column.key}`;
      td.dataset.title = column.title;
      if (column.kind === "tap") {
        const link = document.createElement("a");
        link.href = `#sweep-${report.sweep[row]}`;
        link.textContent = text;
        td.append(link);
      } else if (column.kind === "verdict") {
        const badge = document.createElement("span"), sign = document.createElement("span");
        badge.className = `verdict ${text.replace(" ", "-")}`;
        sign.setAttribute("aria-hidden", "true");
        sign.textContent = signs[text];
        badge.append(sign, ` ${text}`);
        td.append(badge);
      } else {
        td.textContent = text;
      }
      tr.append(td);
    }
    return tr;
  }

  const size = () => Number(pager.querySelector("select").value);
  const thousands = (number) => number.toLocaleString("en");

  function show() {
    const end = Math.min(start + size(), found.length);
    body.replaceChildren(...found.slice(start, end).map(line));
    document.querySelector(".found").textContent = found.length === count ? `${thousands(count)} cases` : `${thousands(found.length)} of ${thousands(count)} cases`;
    pager.querySelector(".position").textContent = found.length ? `${thousands(start + 1)}–${thousands(end)} of ${thousands(found.length)}` : "no case";
    pager.querySelector("[name=previous]").disabled = start === 0;
    pager.querySelector("[name=next]").disabled = end >= found.length;
  }

  for (const column of columns) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.title;
    button.title = column.cell.title;
    column.cell.removeAttribute("title");
    column.cell.replaceChildren(button);
    button.addEventListener("click", () => sort(column));
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    sorted = null;
    order = Array.from({ length: count }, (_, row) => row);
    mark();
    filter();
  }));
  pager.querySelector("[name=previous]").addEventListener("click", () => { start = Math.max(0, start - size()); show(); });
  pager.querySelector("[name=next]").addEventListener("click", () => { start += size(); show(); });
  pager.querySelector("select").addEventListener("change", () => { start -= start % size(); show(); });
  for (const link of document.querySelectorAll("a[data-verdict]")) {
    link.addEventListener("click", () => {
      form.reset();
      form.elements.verdict.value = link.dataset.verdict;
      // After the reset's own turn.
      setTimeout(() => { form.elements.verdict.value = link.dataset.verdict; filter(); });
    });
  }
  filter(); // a browser that comes back to the page keeps what was filled in
})();
