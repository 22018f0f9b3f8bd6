// The search page: a picture from the user, a part of it cut out, and the ranking the API gives for it.
// Texts enter the page as text nodes only.

const find = (id) => document.getElementById(id);
const settings = document.documentElement.dataset;
const edges = ["x0", "y0", "x1", "y1"].map(find);
const SVG = "http://www.w3.org/2000/svg";
const TALLEST = 384, WIDEST = 640, SMALLEST = 256; // of the picture on the bench, in CSS pixels
const SMALLEST_DRAG = 5; // CSS pixels; less is a click

const FRIENDLY = {
  not_an_image: "This file is no picture that can be read",
  truncated: "This picture is damaged: the file ends too soon",
  corrupt: "This picture is damaged",
  empty: "This file is empty",
  too_large: "This picture has too many pixels",
};

let query = null; // {file, name, width, height, shown}; width and height are 0 for a picture that cannot be shown
let crop = null; // [x0, y0, x1, y1] in pixels of the picture
let results = [];
let opened = 0; // place of the fabric that is shown large
let asked = null; // AbortController of the search under way

// ---- a picture arrives: dropped, pasted or chosen

function take(file) {
  if (!file) return;
  if (file.size > Number(settings.maxUpload)) {
    complain(`${file.name} is larger than ${Number(settings.maxUpload) / 1e6} MB`);
    return;
  }
  const picture = find("picture");
  URL.revokeObjectURL(picture.src);
  query = { file, name: file.name || "Pasted picture", width: 0, height: 0, shown: false };
  crop = null;
  find("motif-name").textContent = query.name;
  picture.alt = `The picture ${query.name}`;
  picture.src = URL.createObjectURL(file);
  find("drop").hidden = true;
  find("bench").hidden = false;
  search();
}

function pictureLoaded(shown) {
  const picture = find("picture");
  Object.assign(query, { shown, width: shown ? picture.naturalWidth : 0, height: shown ? picture.naturalHeight : 0 });
  picture.hidden = !shown;
  find("unshown").hidden = shown;
  find("hint").hidden = !shown;
  find("numbers").hidden = !shown;
  if (shown) {
    const fits = Math.min(TALLEST / query.height, WIDEST / query.width);
    const enlarged = Math.max(1, SMALLEST / Math.max(query.width, query.height));
    picture.style.width = `${Math.round(query.width * Math.min(fits, enlarged))}px`;
  }
  drawCrop();
}

find("picture").addEventListener("load", () => pictureLoaded(true));
find("picture").addEventListener("error", () => pictureLoaded(false));
find("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // the same file may be chosen again
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.documentElement.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.documentElement.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.documentElement.classList.remove("dragging");
  if (find("compare").open) find("compare").close();
  take(event.dataTransfer.files[0]);
});

// ---- the part that is searched for

function drawCrop() {
  const frame = find("crop");
  frame.hidden = !crop || !query.shown;
  find("whole").disabled = !crop;
  const shown = crop || [0, 0, query.width, query.height];
  edges.forEach((input, side) => {
    input.max = side % 2 ? query.height : query.width;
    input.value = shown[side];
  });
  if (frame.hidden) return;
  const [x0, y0, x1, y1] = crop;
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  frame.style.left = percent(x0, query.width);
  frame.style.top = percent(y0, query.height);
  frame.style.width = percent(x1 - x0, query.width);
  frame.style.height = percent(y1 - y0, query.height);
}

function setCrop(corners) {
  const [xs, ys] = [[corners[0], corners[2]], [corners[1], corners[3]]].map((pair) => pair.sort((a, b) => a - b));
  const inside = (value, limit) => Math.min(Math.max(Math.round(value), 0), limit);
  const box = [inside(xs[0], query.width), inside(ys[0], query.height), inside(xs[1], query.width), inside(ys[1], query.height)];
  const whole = box[0] === 0 && box[1] === 0 && box[2] === query.width && box[3] === query.height;
  crop = whole || box[0] >= box[2] || box[1] >= box[3] ? null : box;
  drawCrop();
}

function startDrag(event) {
  if (!query || !query.shown || event.button !== 0) return;
  event.preventDefault();
  const stage = find("stage"), before = crop, edge = event.target.dataset.edge;
  const area = find("picture").getBoundingClientRect();
  const at = (moved) => [
    ((moved.clientX - area.left) * query.width) / area.width,
    ((moved.clientY - area.top) * query.height) / area.height,
  ];
  const start = at(event);
  // A corner that is dragged moves against the opposite one; inside, the whole frame moves.
  const fixed = edge && [edge.includes("w") ? crop[2] : crop[0], edge.includes("n") ? crop[3] : crop[1]];
  const moves = !edge && find("crop").contains(event.target);
  const drag = (moved) => {
    const end = at(moved);
    if (!moves) return setCrop([...(fixed || start), ...end]);
    const by = [0, 1].map((axis) => {
      const limit = axis ? query.height : query.width;
      return Math.min(Math.max(end[axis] - start[axis], -before[axis]), limit - before[axis + 2]);
    });
    setCrop([before[0] + by[0], before[1] + by[1], before[2] + by[0], before[3] + by[1]]);
  };
  const end = (last) => {
    stage.removeEventListener("pointermove", drag);
    stage.removeEventListener("pointerup", end);
    stage.removeEventListener("pointercancel", end);
    const distance = Math.hypot(last.clientX - event.clientX, last.clientY - event.clientY);
    if (distance < SMALLEST_DRAG || last.type === "pointercancel") {
      crop = before;
      drawCrop();
    } else search();
  };
  stage.setPointerCapture(event.pointerId);
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
}

find("stage").addEventListener("pointerdown", startDrag);
for (const input of edges) {
  input.addEventListener("change", () => {
    setCrop(edges.map((edge) => edge.valueAsNumber || 0));
    search();
  });
}
find("whole").addEventListener("click", () => {
  crop = null;
  drawCrop();
  search();
});
find("top").addEventListener("change", () => search());

// ---- the search

function complain(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}

async function search() {
  if (!query) return;
  if (asked) asked.abort();
  const mine = (asked = new AbortController());
  const form = new FormData();
  form.append("image", query.file, "query");
  form.append("top", find("top").value);
  if (crop) form.append("crop", crop.join(","));
  complain("");
  find("status").textContent = "Searching …";
  document.body.classList.add("searching");
  const began = performance.now();
  try {
    const answer = await fetch("/api/search", { method: "POST", body: form, signal: mine.signal });
    const content = await answer.json();
    if (mine !== asked) return;
    if (answer.ok) show(content, (performance.now() - began) / 1000);
    else fail(content.error);
  } catch (error) {
    if (mine === asked) fail({ detail: `No answer from the server (${error.message}). Is it still running?` });
  } finally {
    if (mine === asked) document.body.classList.remove("searching");
  }
}

function fail({ code, detail }) {
  find("status").textContent = "";
  complain(FRIENDLY[code] ? `${FRIENDLY[code]} (${detail})` : detail);
  results = [];
  find("sheet").replaceChildren();
  find("results").hidden = true;
}

function show(answer, seconds) {
  results = answer.results;
  find("sheet").replaceChildren(...results.map(card));
  find("results").hidden = false;
  const count = (number) => number.toLocaleString("en");
  const part = crop ? "part of the picture" : "whole picture";
  find("status").textContent =
    `${count(results.length)} of ${count(answer.fabrics)} fabrics for the ${part}, in ${seconds.toFixed(2)} s`;
}

// ---- the fabrics

const baseName = (path) => path.split("/").pop() || path;
const score = (hit) => hit.similarity.toFixed(3).replace("-", "\u2212");

function element(name, className, ...content) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...content);
  return made;
}

function card(hit, place) {
  const caption = element("span", "caption", element("span", "rank", String(hit.rank)), element("span", "score", score(hit)));
  const button = element("button", "open", fabric(hit, hit.thumbnail), caption, element("span", "name", baseName(hit.path)));
  button.type = "button";
  button.title = hit.path;
  button.setAttribute("aria-label", `Rank ${hit.rank}, similarity ${score(hit)}: ${hit.path}. Enlarge`);
  button.addEventListener("click", () => compare(place));
  return element("li", "candidate", button);
}

/** A picture of a fabric with the region that matched; drawn in units of the full image, so a box needs no scaling. */
function fabric(hit, address) {
  const image = element("img", "");
  Object.assign(image, { alt: "", loading: "lazy", decoding: "async", src: address });
  const view = element("span", "picture view", image);
  image.addEventListener("error", () => view.replaceChildren(element("span", "lost", "no preview")));
  const [x0, y0, x1, y1] = hit.box || [0, 0, hit.width, hit.height];
  if (x1 - x0 < hit.width || y1 - y0 < hit.height) {
    const overlay = document.createElementNS(SVG, "svg");
    overlay.setAttribute("viewBox", `0 0 ${hit.width} ${hit.height}`);
    for (const layer of ["under", "over"]) {
      const box = document.createElementNS(SVG, "rect");
      const values = { class: `box ${layer}`, x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
      for (const [name, value] of Object.entries(values)) box.setAttribute(name, value);
      overlay.append(box);
    }
    view.append(overlay);
  }
  return view;
}

// ---- one fabric beside the motif

function compare(place) {
  opened = place;
  const hit = results[place];
  find("compare-title").textContent = `Rank ${hit.rank} · similarity ${score(hit)}`;
  find("compare-path").textContent = hit.path;
  find("compare-fabric").replaceChildren(fabric(hit, hit.preview));
  find("compare-fabric").firstChild.setAttribute("role", "img");
  find("compare-fabric").firstChild.setAttribute("aria-label", `The fabric ${hit.path}`);
  find("previous").disabled = place === 0;
  find("next").disabled = place === results.length - 1;
  drawMotif();
  if (!find("compare").open) find("compare").showModal();
}

function drawMotif() {
  const canvas = find("compare-motif");
  const [x0, y0, x1, y1] = crop || [0, 0, query.width, query.height];
  canvas.hidden = !query.shown;
  if (!query.shown) return;
  // A small motif is enlarged here, as a canvas is never drawn larger than its own pixels.
  const scale = Math.max(1, Math.min(8, 480 / Math.max(x1 - x0, y1 - y0)));
  [canvas.width, canvas.height] = [(x1 - x0) * scale, (y1 - y0) * scale];
  canvas.getContext("2d").drawImage(find("picture"), x0, y0, x1 - x0, y1 - y0, 0, 0, canvas.width, canvas.height);
}

function step(by) {
  const place = opened + by;
  if (place >= 0 && place < results.length) compare(place);
}

find("previous").addEventListener("click", () => step(-1));
find("next").addEventListener("click", () => step(1));
find("close").addEventListener("click", () => find("compare").close());
find("compare").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
find("compare").addEventListener("click", (event) => {
  if (event.target === find("compare")) find("compare").close(); // the dark ground around it
});
find("compare").addEventListener("close", () => find("sheet").children[opened]?.querySelector("button").focus());
find("search-this").addEventListener("click", async () => {
  const hit = results[opened];
  find("compare").close();
  const answer = await fetch(hit.preview);
  if (!answer.ok) return complain("The file of this fabric cannot be read");
  take(new File([await answer.blob()], baseName(hit.path), { type: "image/jpeg" }));
  find("motif").scrollIntoView({ block: "start" });
});
