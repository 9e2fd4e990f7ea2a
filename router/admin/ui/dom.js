// Small means to show data without a framework: elements from calls, lists that keep their rows.

/** An element: node("td", {class: "number"}, "12"). Text is text, never markup. */
export function node(tag, attributes = {}, ...children) {
  const svg = tag === "svg" || tag === "path";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Sets an element's text, touching the page only if it changed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets a badge's words and colour: good, bad, wait, warm or none. */
export function badge(element, text, colour = "") {
  say(element, text);
  const wanted = `badge ${colour}`.trim();
  if (element.className !== wanted) element.className = wanted;
}

/**
 * Makes the children of a parent match the items, keeping the element of each key, so that a
 * button under the pointer stays the same button from one second to the next.
 */
export function list(parent, items, key, create, update) {
  // Not called `rows`: tables have such a property of their own.
  const rows = (parent.shown ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [name, row] of rows) {
    if (!wanted.has(name)) {
      row.element.remove();
      rows.delete(name);
    }
  }
  items.forEach((item, index) => {
    let row = rows.get(key(item));
    if (!row) {
      row = create(item);
      rows.set(key(item), row);
    }
    if (parent.children[index] !== row.element) parent.insertBefore(row.element, parent.children[index] ?? null);
    update(row, item);
  });
}

/** A bar from 0 to 1 with words beside it. */
export function meter() {
  const fill = node("b");
  const words = node("span");
  return { element: node("span", { class: "meter" }, node("i", {}, fill), words), fill, words };
}

export function setMeter(bar, share, text) {
  bar.fill.style.width = `${Math.round(100 * Math.min(1, Math.max(0, share)))}%`;
  say(bar.words, text);
}

const TRAIL = 60;

/** The last minute of a number as a line. */
export function trail(label) {
  const area = node("path", { class: "area" });
  const line = node("path");
  const element = node("svg", { class: "trail", viewBox: `0 0 ${TRAIL - 1} 20`, preserveAspectRatio: "none", role: "img", "aria-label": label }, area, line);
  return { element, area, line, values: [] };
}

export function extend(chart, value) {
  chart.values.push(value);
  if (chart.values.length > TRAIL) chart.values.shift();
  const top = Math.max(4, ...chart.values);
  const start = TRAIL - chart.values.length;
  const points = chart.values.map((v, i) => `${start + i},${(19 - (18 * v) / top).toFixed(1)}`);
  chart.line.setAttribute("d", `M${points.join("L")}`);
  chart.area.setAttribute("d", `M${start},20L${points.join("L")}L${TRAIL - 1},20Z`);
}

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d`;
}
