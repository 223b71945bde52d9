// The page itself.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const columnsOf = new Map();
let metric = "bytes";
let asTables = false;
const redraw = [];
const isEmpty = number(data.total?.rows) === 0;

// ---- What it is about

const range = data.range;
// Times received, to the second: what the chart begins and ends with may be earlier, flows take time.
const [from, to] = [range.from ?? range.first, range.to ?? range.last];
at("about").textContent = from === null
  ? range.how
  : `Received ${moment(from, to - from < 600e6)} to ${moment(to, to - from < 600e6)} UTC, ${range.how}`;
at("chips").append(
  ...data.paths.map((path) => element("span", { class: "chip" }, `from ${path}`)),
  data.filter ? element("span", { class: "chip strong" }, `filter: ${data.filter}`) : "",
  data.anonymised && data.filtered ? element("span", { class: "chip strong" }, "filtered") : "",
  data.anonymised ? element("span", { class: "chip" }, "addresses anonymised") : "",
  data.once ? element("span", { class: "chip" }, "each flow once") : "",
  data.scale ? element("span", { class: "chip" }, "scaled by the sampling rate") : "",
);

const notice = (kind, ...text) => at("notices").append(element("p", { class: `notice ${kind}` }, ...text));
if (isEmpty) notice("warn", data.empty || "There are no flows.");
for (const file of data.scan.damaged) notice("bad", number(file.rows) > 0 ? `A file cannot be read whole; ${plural(file.rows, "row of it is", "rows of it are")} in these numbers: ` : "A file cannot be read and its flows are missing here: ", element("code", {}, file.path), `, ${file.error}`);
if (number(data.total?.running_totals) > 0) notice("info", `${plural(data.total.running_totals, "record has", "records have")} running totals in place of counts (${amount(data.total.running.bytes, "bytes")} in ${plural(data.total.running.packets, "packet", "packets")}), and ${number(data.total.running_totals) === 1 ? "is" : "are"} in no sum; --totals counts them.`);
if (data.stopped) notice("warn", "The scan was stopped early: these are the numbers of what was read until then.");
for (const failed of new Set(data.panels.flatMap((p) => p.views.map((v) => v.failed)).filter(Boolean))) notice("bad", `Some groups are missing: ${failed}.`);
if (data.scale && number(data.total?.unscaled) > 0) notice("info", `${share(data.total.unscaled, data.total.rows)} of the records have no sampling rate, and count as they are.`);
if (number(data.series?.outside?.flows) > 0) notice("info", `${plural(data.series.outside.flows, "flow is", "flows are")} not in the chart over time: ${number(data.series.outside.flows) === 1 ? "it lasts longer than it shows, or lies" : "they last longer than it shows, or lie"} too far from the others, as where an exporter's clock is wrong. The other numbers include ${number(data.series.outside.flows) === 1 ? "it" : "them"}.`);

// ---- In short

const tile = (name, value, more, kind = "") => element("div", { class: `tile ${kind}` },
  element("div", { class: "tile-name" }, name), element("div", { class: "tile-value" }, ...[value].flat()), element("div", { class: "tile-more" }, more));
const exactly = (n, metric) => element("data", { value: String(n), title: exact(n) }, amount(n, metric));

const drawTiles = () => {
  if (isEmpty) return;
  const { total, series } = data;
  const seconds = Math.max(1, (number(series?.intervals) * number(series?.interval)) / 1e6);
  const rates = (name) => series.total[name].map((n) => (number(n) * METRICS[name].factor) / (series.interval / 1e6));
  const peak = (name) => rates(name).reduce((best, value, i) => (value > best[0] ? [value, i] : best), [0, 0]);
  const mean = (name) => (number(total[name]) * METRICS[name].factor) / seconds;
  const [most, when] = series ? peak(metric) : [0, 0];
  const talkers = data.panels.find((p) => p.id === "talkers");
  const exporters = data.panels.find((p) => p.id === "exporters");
  const losses = data.losses;
  at("tiles").replaceChildren(
    tile("Traffic", exactly(total.bytes, "bytes"), `${rate(mean("bytes"), "bytes")} mean`),
    tile("Packets", exactly(total.packets, "packets"), `${rate(mean("packets"), "packets")} mean`),
    tile("Flows", exactly(total.flows, "flows"), `${rate(mean("flows"), "flows")} mean`),
    tile("Peak", series ? rate(most, metric) : "–", series ? `at ${moment(series.first + when * series.interval)} UTC` : ""),
    tile("Sources", talkers?.views[0] ? exact(talkers.views[0].groups) : "–",
      talkers?.views[1] ? `${plural(talkers.views[1].groups, "destination", "destinations")}` : ""),
    losses
      ? tile("Losses", losses.causes.length ? "Yes" : "None", losses.causes.length ? element("a", { href: "#losses" }, `${plural(losses.causes.length, "cause", "causes")}, see below`) : `${exact(losses.totals.datagrams)} datagrams came`, losses.causes.length ? "bad" : "good")
      : tile("Exporters", exporters?.views[0] ? exact(exporters.views[0].groups) : "–", "no ledger for losses"),
  );
};

// ---- Look closer

// The question of this page, for the command line. A double holds microseconds, a Date does not.
const micro = (us) => `${new Date(Math.floor(us / 1e6) * 1000).toISOString().slice(0, 19)}.${String(us % 1e6).padStart(6, "0")}`;
const bounds = [range.from !== null && `time_received >= ${micro(range.from)}`, range.to !== null && `time_received <= ${micro(range.to)}`];
const question = (own) => [data.filter && (/ or /i.test(data.filter) ? `(${data.filter})` : data.filter), own, ...bounds].filter(Boolean).join(" and ");
const where = data.paths.map((path) => `--in ${shell(path)}`).join(" ") + (data.once ? ` --dedup ${data.once}` : "");

const popover = at("popover");
let opener = null;
const close = (focus = true) => {
  if (popover.hidden) return;
  popover.hidden = true;
  if (focus) opener?.focus();
};
const lookCloser = (row, columns, event) => {
  if (row.rest) return;
  opener = document.activeElement;
  // Filters see real addresses: a question with others would find nothing.
  const own = data.anonymised ? null : filterOf(row.keys, columns);
  const command = `flowlane flows ${where} --order ${metric === "packets" ? "packets" : "bytes"} ${shell(question(own))}`;
  const copy = element("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(command);
    } catch {
      // Where there is no clipboard, as in a file: the text is selected for the reader to copy.
      getSelection().selectAllChildren(popover.querySelector("code"));
      document.execCommand("copy");
    }
    copy.textContent = "Copied";
    say("Copied");
  } }, "Copy");
  popover.replaceChildren(
    element("div", { class: "popover-head" }, element("strong", {}, row.label), element("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => close() }, "×")),
    element("p", { class: "muted" }, Object.keys(METRICS).map((m) => `${exact(row[m])} ${m}`).join(", ")),
    ...(own === null ? [] : [element("p", {}, "The flows themselves:"), element("div", { class: "command" }, element("code", {}, command), copy)]),
  );
  popover.hidden = false;
  const box = popover.getBoundingClientRect();
  const source = (opener ?? document.body).getBoundingClientRect();
  const [x, y] = event ? [event.clientX, event.clientY] : [source.left + 40, source.top + 40];
  popover.style.left = `${Math.max(8, Math.min(innerWidth - box.width - 8, x + 8)) + scrollX}px`;
  popover.style.top = `${Math.max(8, Math.min(innerHeight - box.height - 8, y + 8)) + scrollY}px`;
  popover.querySelector(own === null ? "button" : ".command button").focus();
};
addEventListener("keydown", (event) => event.key === "Escape" && close());
addEventListener("pointerdown", (event) => popover.contains(event.target) || close(false), true);

// ---- Tables

const heads = (columns) => {
  const names = { src_addr: "Source", dst_addr: "Destination", proto: "Protocol", port: "Port", src_port: "Port", dst_port: "Port", app_name: "Application",
    src_as: "Source AS", dst_as: "Destination AS", src_country: "Source country", dst_country: "Destination country", exporter: "Exporter", in_if: "Interface", out_if: "Interface" };
  return columns.map((column) => names[column] ?? column);
};
const tableOf = (view, rows, name) => {
  const whole = number(data.total[metric]);
  const columns = heads(view.keys);
  const named = rows.some((row) => row.name);
  const cell = (row, m) => element("td", { class: `number${m === metric ? " chosen" : ""}` }, element("data", { value: String(row[m]), title: exact(row[m]) }, amount(row[m], m)));
  return element("div", { class: "scroll" }, element("table", { class: "ranked" },
    element("caption", { class: "hidden" }, name),
    element("thead", {}, element("tr", {},
      ...columns.map((c) => element("th", { scope: "col" }, c)),
      named ? element("th", { scope: "col" }, "Name") : null,
      ...Object.entries(METRICS).map(([, m]) => element("th", { scope: "col", class: "number" }, m.name)),
      element("th", { scope: "col", class: "number" }, "Share"))),
    element("tbody", {}, ...rows.map((row) => element("tr", { class: row.rest ? "rest" : false },
      ...(row.rest
        ? [element("th", { scope: "row", colspan: columns.length + (named ? 1 : 0) }, row.label)]
        : [...row.keys.map((key, i) => element(i ? "td" : "th", i ? {} : { scope: "row" },
          i ? keyText(key, view.keys[i])
            : element("button", { type: "button", class: "link", onclick: (event) => lookCloser(row, view.keys, event) }, keyText(key, view.keys[i])))),
          named ? element("td", {}, row.name ?? "") : null]),
      ...Object.keys(METRICS).map((m) => cell(row, m)),
      element("td", { class: "number" }, row.rest && view.both ? "" : share(number(row[metric]), whole)))))));
};

// ---- Panels

const tabs = (names, title, changed) => {
  if (names.length < 2) return null;
  const buttons = names.map((name, i) => element("button", { type: "button", role: "tab", "aria-selected": i === 0, tabindex: i ? "-1" : "0",
    onclick: () => choose(i), onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      choose((i + step + names.length) % names.length).focus();
    } }, name));
  const choose = (i) => {
    buttons.forEach((b, j) => { b.setAttribute("aria-selected", i === j); b.tabIndex = i === j ? 0 : -1; });
    changed(i);
    return buttons[i];
  };
  return element("div", { class: "segments small", role: "tablist", "aria-label": title }, ...buttons);
};

const rowsOf = (view) => {
  const { rows, others } = view.by[metric];
  const all = rows.map((row) => ({ ...row, label: label(row.keys, view.keys, row.name) }));
  if (others) {
    const n = view.groups - rows.length;
    all.push({ ...others, rest: true, label: `${plural(n, "other", "others")}${view.both ? ", flows between two of them twice" : ""}` });
  }
  if (view.beyond) all.push({ ...view.beyond, rest: true, label: "groups for which there was no room" });
  return all;
};

const panelOf = (panel) => {
  const body = element("div", { class: "body" });
  const id = `${panel.id}-title`;
  let chosen = 0;
  let chart = null;
  let own = null; // as the page has it
  const toggle = element("button", { type: "button", class: "quiet small", onclick: () => { own = !(own ?? asTables); draw(); } });
  const draw = () => {
    drop(chart);
    chart = null;
    const view = panel.views[chosen];
    const isTable = own ?? asTables;
    toggle.textContent = isTable ? "Chart" : "Table";
    toggle.setAttribute("aria-label", `${panel.title} as ${isTable ? "a chart" : "a table"}`);
    const name = `${panel.title}${panel.views.length > 1 ? `, ${view.name.toLowerCase()}` : ""}, by ${metric}`;
    const rows = rowsOf(view);
    const whole = number(data.total[metric]);
    if (isTable) {
      body.replaceChildren(tableOf(view, rows, name));
      return;
    }
    const named = rows.filter((row) => !row.rest);
    const pick = (i, event) => lookCloser(shown[i], view.keys, event);
    let shown = named;
    const told = `${name}, ${named.length} bars: ${named.slice(0, 3).map((r) => `${r.label} ${amount(r[metric], metric)}`).join(", ")}. Arrow keys step through them, Enter looks closer.`;
    if (panel.id === "protocols") {
      shown = view.both ? named : rows;
      const holder = element("div");
      const legend = element("ul", { class: "legend column" });
      body.replaceChildren(element("div", { class: "ring" }, holder, legend));
      const ring = doughnut(holder, told, shown, metric, { whole, pick });
      chart = ring.chart;
      legend.append(...shown.map((row, i) => {
        const swatch = element("span", { class: "swatch" });
        swatch.style.background = ring.colours[i];
        return element("li", {}, swatch, element("span", { class: "legend-name" }, row.label), element("span", { class: "number" }, share(number(row[metric]), whole)));
      }));
      return;
    }
    const holder = element("div");
    body.replaceChildren(holder);
    chart = bars(holder, told, named, metric, { whole, pick });
    const rest = rows.filter((row) => row.rest);
    if (rest.length) body.append(element("p", { class: "muted small" }, rest.map((row) => `${row.label}: ${amount(row[metric], metric)}`).join(" · ")));
  };
  redraw.push(draw);
  return element("section", { class: "panel", id: panel.id, "aria-labelledby": id },
    element("div", { class: "panel-head" }, element("h2", { id }, panel.title),
      element("div", { class: "panel-tools" }, tabs(panel.views.map((v) => v.name), panel.title, (i) => { chosen = i; draw(); }), toggle)),
    body);
};

// ---- Traffic over time

const trafficPanel = (series) => {
  const times = Array.from({ length: series.intervals }, (_, i) => (series.first + i * series.interval) / 1000);
  const seconds = series.interval / 1e6;
  const splits = [...series.splits].sort((a, b) => (b.title === "Protocol") - (a.title === "Protocol"));
  const body = element("div", { class: "body" });
  const legend = element("ul", { class: "legend" });
  const reset = element("button", { type: "button", class: "quiet small", hidden: true }, "Show all");
  const note = element("p", { class: "muted small" });
  let chosen = 0;
  let chart = null;
  let own = null;
  const hidden = new Set();
  const toggle = element("button", { type: "button", class: "quiet small", onclick: () => { own = !(own ?? asTables); draw(); } });
  const pick = element("select", { "aria-label": "Lines of the chart", onchange: () => { chosen = pick.selectedIndex; hidden.clear(); draw(); } },
    ...splits.map((split) => element("option", {}, `by ${split.title[0].toLowerCase()}${split.title.slice(1)}`.replace(" aS", " AS").replace(/^by aS/, "by AS"))));
  const perSecond = (values) => values.map((n) => (number(n) * METRICS[metric].factor) / seconds);
  const draw = () => {
    drop(chart);
    chart = null;
    reset.hidden = true;
    const split = splits[chosen];
    const isTable = own ?? asTables;
    toggle.textContent = isTable ? "Chart" : "Table";
    toggle.setAttribute("aria-label", `Traffic over time as ${isTable ? "a chart" : "a table"}`);
    const whole = perSecond(series.total[metric]);
    const groups = [...split.groups.map((g, i) => ({ name: label(g.keys, split.keys, g.name), colour: colour(LINES[i]), values: perSecond(g[metric]) })),
      ...(split.others ? [{ name: "others", colour: colour("rest"), values: perSecond(split.others[metric]) }] : [])];
    note.textContent = `${METRICS[metric].rate}, mean of ${span(seconds)}; flows count ${data.at}. Drag to look closer.`;
    if (isTable) {
      legend.replaceChildren();
      body.replaceChildren(timeTable(split, groups, whole));
      return;
    }
    const lines = groups.map((line) => ({ ...line, hidden: hidden.has(line.name) }));
    const holder = element("div");
    body.replaceChildren(holder);
    const most = Math.max(...whole);
    const name = `Traffic over time by ${split.title}, stacked, in ${METRICS[metric].rate}. At most ${rate(most, metric)} at ${moment(times[whole.indexOf(most)] * 1000)} UTC. Arrow keys step through time, plus and minus zoom, Escape shows all.`;
    const made = overTime(holder, name, times, seconds * 1000, lines, {
      value: (v) => rate(v, metric), total: (i) => whole[i],
      changed: (isPart, a, b) => {
        reset.hidden = !isPart;
        say(isPart ? `${moment(a * 1000)} to ${moment(b * 1000)}` : "all");
      },
    });
    chart = made.chart;
    reset.onclick = made.zoom.reset;
    legend.replaceChildren(...lines.map((line, i) => {
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = line.colour;
      const button = element("button", { type: "button", class: "legend-item", "aria-pressed": !line.hidden, onclick: () => {
        const shown = hidden.has(line.name);
        if (shown) hidden.delete(line.name);
        else hidden.add(line.name);
        button.setAttribute("aria-pressed", shown);
        chart.setDatasetVisibility(i, shown);
        chart.update();
      } }, swatch, shorten(line.name, 40));
      return element("li", {}, button);
    }));
  };
  const timeTable = (split, groups, whole) => element("div", { class: "scroll tall", tabindex: "0" }, element("table", {},
    element("caption", { class: "hidden" }, `Traffic over time by ${split.title}, ${METRICS[metric].rate}`),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "UTC"), ...groups.map((g) => element("th", { scope: "col", class: "number" }, g.name)),
      element("th", { scope: "col", class: "number" }, "All"))),
    element("tbody", {}, ...times.map((t, i) => element("tr", {}, element("th", { scope: "row" }, moment(t * 1000, seconds < 60)),
      ...groups.map((g) => element("td", { class: "number" }, g.values[i] ? rate(g.values[i], metric) : "–")),
      element("td", { class: "number" }, rate(whole[i], metric)))))));
  redraw.push(draw);
  return element("section", { class: "panel wide", id: "traffic", "aria-labelledby": "traffic-title" },
    element("div", { class: "panel-head" }, element("h2", { id: "traffic-title" }, "Traffic over time"),
      element("div", { class: "panel-tools" }, reset, pick, toggle)),
    body, legend, note);
};

// ---- All of it

const drawAll = () => {
  dress();
  drawTiles();
  redraw.forEach((draw) => draw());
};

if (!isEmpty) {
  const grid = element("div", { class: "grid" });
  if (data.series) grid.append(trafficPanel(data.series));
  const known = data.panels.filter((panel) => panel.views.length > 0);
  const panels = known.map(panelOf);
  // None stands alone beside a gap.
  if (panels.length % 2) panels[panels.length - 1].classList.add("wide");
  grid.append(...panels);
  at("panels").append(grid);
  const unknown = data.panels.filter((panel) => panel.views.length === 0);
  if (unknown.length) grid.append(element("p", { class: "muted small wide" }, `Not in these flows: ${unknown.map((p) => p.title.toLowerCase()).join(", ")}.`));
}
const losses = lossPanel(data.losses, { isTable: () => asTables });
(at("panels").querySelector(".grid") ?? at("panels")).append(losses.panel);
redraw.push(losses.draw);

const metrics = Object.entries(METRICS).map(([name, m]) => element("button", { type: "button", role: "radio", "aria-checked": name === metric, tabindex: name === metric ? "0" : "-1", "data-metric": name,
  onclick: () => choose(name),
  onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const names = Object.keys(METRICS);
    choose(names[(names.indexOf(name) + step + names.length) % names.length]).focus();
  } }, m.name));
const choose = (name) => {
  metric = name;
  metrics.forEach((b) => { b.setAttribute("aria-checked", b.dataset.metric === name); b.tabIndex = b.dataset.metric === name ? 0 : -1; });
  drawAll();
  return metrics.find((b) => b.dataset.metric === name);
};
at("metric").append(...metrics);
at("tables").addEventListener("click", () => {
  asTables = !asTables;
  at("tables").setAttribute("aria-pressed", asTables);
  redraw.forEach((draw) => draw());
});

// The reader's own choice is kept by the browser, where it keeps anything for a file.
const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };
const setTheme = (name, keep) => {
  root.dataset.theme = name;
  at("theme").textContent = `Theme: ${THEMES[name]}`;
  at("theme").setAttribute("aria-label", `Theme: ${THEMES[name]}. Press for the next one.`);
  if (keep) try { localStorage.setItem("flowlane-theme", name); } catch { /* not kept, then */ }
};
let kept = null;
try { kept = localStorage.getItem("flowlane-theme"); } catch { /* none */ }
setTheme(kept in THEMES ? kept : "auto", false);
at("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(root.dataset.theme) + 1) % names.length], true);
  drawAll();
});
dark.addEventListener("change", drawAll);
addEventListener("beforeprint", () => drawn.forEach((chart) => chart.resize()));
addEventListener("afterprint", () => drawn.forEach((chart) => chart.resize()));

const { scan } = data;
at("made").textContent = `Made ${moment(data.made, true)} UTC by flowlane ${data.version} from ${plural(scan.files, "file", "files")}: `
  + `${plural(scan.rows, "row", "rows")} looked at, ${exact(scan.matched)} shown here. Bytes and packets are those of each flow's forward direction; k, M and G are powers of 1000. `
  + (data.anonymised ? "Addresses stand for others, and equal prefixes for equal ones." : "The same on the command line:");
if (!data.anonymised) at("made").append(element("br"), element("code", {}, `flowlane top src_addr ${where}${data.scale ? " --scale" : ""}${question(null) ? ` ${shell(question(null))}` : ""}`));

drawAll();
root.dataset.drawn = "yes";
