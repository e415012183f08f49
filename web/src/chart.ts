// Draws every figure with `data-chart` from the JSON in it, now and when htmx brings more; see templates/parts.html.
import { drawCharts } from "./shared/chart";

drawCharts(document);
document.addEventListener("htmx:load", (event) => drawCharts(event.target as Element));
