"use strict";
// What the scripts share: the data, the tip, and opening what a link leads to.
const report = JSON.parse(document.getElementById("data").textContent);
document.documentElement.classList.add("scripts");

const percent = (tenths) => (tenths === null ? "" : (tenths / 10).toFixed(1));

// Scores and their differences, in the unit of the row's sweep: percent, or one whole for those that have a name.
const scoreName = (row) => report.sweeps[report.sweep[row]].score;
const scored = (tenths, row) => (tenths === null || !scoreName(row) ? percent(tenths) : (tenths / 1000).toFixed(3));
const changed = (tenths, row) => (tenths === null ? "" : (tenths < 0 ? "" : "+") + scored(tenths, row));
const scoreText = (tenths, row) => (scoreName(row) ? `${scoreName(row)} ${scored(tenths, row)}` : `${percent(tenths)}%`);
const interval = (row) => `${scored(report.low[row], row)}${report.low[row] < 0 ? " to " : "–"}${scored(report.high[row], row)}`;
const OF_SCORE = new Set(["accuracy", "baseline", "held_out", "matched"]);

// The id of a row's tap, such as L06-act, output or L06-act.cls.
function tapName(row) {
  const site = report.site[row];
  const place = site < 0 ? report.places[-1 - site] : blockTap(report.layer[row], report.sites[site]);
  const pooling = report.pooling ? report.poolings[report.pooling[row]] : "";
  return pooling ? `${place}.${pooling}` : place;
}
function blockTap(layer, site) { return `L${String(layer).padStart(2, "0")}-${site}`; }

// Rows by sweep and tap.
const rowOf = (() => {
  const found = new Map(report.sweep.map((sweep, row) => [`${sweep} ${tapName(row)}`, row]));
  return (sweep, tap) => found.get(`${sweep} ${tap}`);
})();

const tip = document.getElementById("tip");
let tipOf = null, anchorOf = null;

// What an element has to say, beside `anchor` (which gives a rectangle; the element's own, if it is left out).
function showTip(element, text, anchor = () => element.getBoundingClientRect()) {
  if (tipOf && tipOf !== element) tipOf.removeAttribute("aria-describedby");
  tipOf = element;
  anchorOf = anchor;
  tip.textContent = text;
  tip.hidden = false;
  element.setAttribute("aria-describedby", "tip");
  placeTip();
}

// Never outside of the window, and gone where what it belongs to is.
function placeTip() {
  const anchor = anchorOf();
  if (anchor.bottom < 0 || anchor.top > innerHeight) return hideTip();
  const box = tip.getBoundingClientRect(), gap = 10;
  let left = anchor.right + gap, top = anchor.top - box.height - gap;
  if (left + box.width > innerWidth - 4) left = anchor.left - box.width - gap;
  if (top < 4) top = anchor.bottom + gap;
  if (top + box.height > innerHeight - 4) top = innerHeight - box.height - 4;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - box.width - 4))}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

function hideTip() {
  tip.hidden = true;
  if (tipOf) tipOf.removeAttribute("aria-describedby");
  tipOf = anchorOf = null;
}

document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
addEventListener("scroll", () => { if (tipOf) placeTip(); }, { passive: true, capture: true });

for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const marked = event.target.closest("[data-tip]");
    if (marked) showTip(marked, marked.dataset.tip);
  });
}
for (const kind of ["pointerout", "focusout"]) {
  document.addEventListener(kind, (event) => { if (tipOf && event.target.closest("[data-tip]") === tipOf) hideTip(); });
}

// A link into something closed opens it.
function reveal() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  target.scrollIntoView();
  const focus = target.tagName === "DETAILS" ? target.querySelector("summary") : target;
  focus.focus({ preventScroll: true });
}
addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.hash === location.hash) setTimeout(reveal); // no hashchange comes
});
reveal();

for (const button of document.querySelectorAll("button[data-open]")) {
  button.addEventListener("click", () => {
    for (const each of document.querySelectorAll("#depth details")) each.open = button.dataset.open === "true";
  });
}
