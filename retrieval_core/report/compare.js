// Shared by the report and the search page, in front of their own scripts: elements, a fabric with the region that
// matched, and the dialog that shows it beside its motif. Texts enter the page as text nodes only.
"use strict";

const find = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en-US");
const figure = (value) => (value === null ? "–" : value.toFixed(3).replace("-", "−"));
const baseName = (path) => path.split("/").pop() || path;

function element(tag, classes, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children.filter((child) => child !== null));
  return made;
}

function svg(tag, values, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(values)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// An image and outlines of regions of it, in pixels of the full image, so that they fit at any size.
function outlined(image, width, height, boxes) {
  const view = element("span", "picture view", image);
  const parts = boxes.filter(([x0, y0, x1, y1]) => x1 - x0 < width || y1 - y0 < height);
  if (parts.length) {
    const layers = ["under", "over"].flatMap((layer) =>
      parts.map(([x, y, x1, y1]) => svg("rect", { class: `box ${layer}`, x, y, width: x1 - x, height: y1 - y })));
    view.append(svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...layers));
  }
  return view;
}

// ---- the dialog: one fabric of a list beside its motif

let series = null; // {fabrics, draw, buttons}: what the arrow keys go through
let opened = 0; // place in it

// A fabric as a button that enlarges it; `draw(fabric, place)` fills the dialog.
function fabricButton(view, caption, label, fabrics, place, draw) {
  const name = element("span", "name", baseName(fabrics[place].path));
  const button = element("button", "open", view, element("span", "caption", ...caption), name);
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => {
    series = { fabrics, draw, buttons: button.closest(".found, #sheet").querySelectorAll(".open") };
    enlarge(place);
  });
  return button;
}

function enlarge(place) {
  opened = place;
  const fabric = series.fabrics[place];
  series.draw(fabric, place);
  find("compare-path").textContent = fabric.path;
  find("previous").disabled = place === 0;
  find("next").disabled = place === series.fabrics.length - 1;
  if (!find("compare").open) find("compare").showModal();
}

function step(by) {
  if (series.fabrics[opened + by]) enlarge(opened + by);
}

find("previous").addEventListener("click", () => step(-1));
find("next").addEventListener("click", () => step(1));
find("close").addEventListener("click", () => find("compare").close());
find("compare").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
find("compare").addEventListener("click", (event) => {
  if (event.target === find("compare")) find("compare").close(); // a click on the backdrop
});
find("compare").addEventListener("close", () => series.buttons[opened].focus());
