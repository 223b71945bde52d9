// What was lost, as the collectors' ledgers have it.

const lossPanel = (losses, { isTable }) => {
  const body = element("div", { class: "body" });
  const panel = element("section", { class: "panel wide", id: "losses", "aria-labelledby": "losses-title" },
    element("div", { class: "panel-head" }, element("h2", { id: "losses-title" }, "Losses")), body);
  if (!losses) {
    body.append(element("p", { class: "muted" }, "No ledger was found for these flows, so this page cannot say what was lost. ",
      element("code", {}, "flowlane collect"), " keeps one in the folder beside its flows; ", element("code", {}, "--ledger 8080"), " asks a running collector."));
    return { panel, draw: () => {} };
  }
  const { totals, causes } = losses;
  const lost = causes.length > 0;
  const state = element("p", { class: `state ${lost ? "bad" : "good"}` },
    element("span", { class: "mark", "aria-hidden": "true" }, lost ? "!" : "✓"),
    lost ? "Something was lost: " : "Nothing was lost. ",
    lost ? causes.map((c) => `${exact(c.count)} ${c.title}`).join(", ") + ". " : "",
    `${exact(totals.datagrams)} datagrams came, ${plural(totals.rows, "row was", "rows were")} decoded, ${exact(totals.written)} written.`);
  const about = element("p", { class: "muted" }, `From ${losses.source}, ${moment(losses.from)} to ${moment(losses.to)} UTC`,
    losses.covered < 0.98 ? `; it covers ${share(losses.covered, 1)} of the time of these flows.` : ".");
  body.append(state, about);
  if (!lost) return { panel, draw: () => {} };

  const holder = element("div");
  const colours = () => causes.map((_, i) => colour(LINES[(i + 4) % LINES.length]));
  const swatches = [];
  const table = element("table", {},
    element("caption", { class: "hidden" }, "What was lost, by cause"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Cause"), element("th", { scope: "col", class: "number" }, "Count"), element("th", { scope: "col" }, "What to do"))),
    element("tbody", {}, ...causes.map((cause) => {
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      swatches.push(swatch);
      return element("tr", {}, element("th", { scope: "row" }, swatch, cause.title),
        element("td", { class: "number" }, element("data", { value: cause.count }, exact(cause.count))), element("td", { class: "hint" }, cause.hint));
    })));
  const named = causes.filter((c) => losses.exporters.some((e) => e.counts[c.id]));
  const exporters = losses.exporters.length === 0 ? null : element("table", {},
    element("caption", {}, "By exporter"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Exporter"),
      ...named.map((c) => element("th", { scope: "col", class: "number" }, c.title)))),
    element("tbody", {}, ...losses.exporters.map((e) => element("tr", {}, element("th", { scope: "row" }, e.exporter),
      ...named.map((c) => element("td", { class: "number" }, element("data", { value: e.counts[c.id] ?? 0 }, e.counts[c.id] ? exact(e.counts[c.id]) : "–")))))));
  body.append(holder, element("div", { class: "scroll" }, table));
  if (exporters) body.append(element("div", { class: "scroll" }, exporters));
  if (losses.more_exporters) body.append(element("p", { class: "muted small" }, `and ${plural(losses.more_exporters, "exporter", "exporters")} more`));
  let chart = null;
  const draw = () => {
    drop(chart);
    chart = null;
    colours().forEach((c, i) => { swatches[i].style.background = c; });
    if (losses.intervals < 2 || isTable()) {
      holder.replaceChildren();
      return;
    }
    const times = Array.from({ length: losses.intervals }, (_, i) => (losses.first + i * losses.interval) / 1000);
    const lines = causes.map((cause, i) => ({ name: cause.title, colour: colours()[i], values: cause.values }));
    const name = `Losses over time, bars: ${causes.map((c) => `${exact(c.count)} ${c.title}`).join(", ")}`;
    ({ chart } = overTime(holder, name, times, losses.interval / 1000, lines, { height: 180, type: "bar", value: (v) => scaled(v, "") }));
  };
  return { panel, draw };
};
