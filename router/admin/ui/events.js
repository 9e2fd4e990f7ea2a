// The list of what happened: the router's events, newest first, as they come.

import { follow } from "./api.js";
import { byId, list, node } from "./dom.js";

const SHOWN = 50;
const events = [];

const word = (value) => (Array.isArray(value) ? value.join(", ") : String(value));

function details(data) {
  return Object.entries(data)
    .filter(([name, value]) => name !== "at" && name !== "kind" && value !== null && !(Array.isArray(value) && !value.length))
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${word(value)}`)
    .join(", ");
}

function show() {
  byId("no-events").hidden = events.length > 0;
  list(
    byId("events"),
    events,
    (event) => event.id,
    (event) => {
      const time = new Date(1000 * event.data.at).toLocaleTimeString();
      const cells = [time, event.data.kind, details(event.data)].map((text) => node("td", {}, text));
      return { element: node("tr", { "data-kind": event.data.kind }, ...cells) };
    },
    () => {},
  );
}

/** Follows the router's events for as long as the page is open. */
export function startEvents() {
  follow((name, data, id) => {
    if (!id) return; // about the stream itself
    events.unshift({ id, data });
    events.length = Math.min(events.length, SHOWN);
    show();
  });
}
