// Charts: Chart.js with the colours of the page, and what it lacks: a keyboard, zoom, values beside bars.

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const isDark = () => (root.dataset.theme === "auto" ? dark.matches : root.dataset.theme === "dark");
const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const LINES = ["c1", "c2", "c3", "c4", "c5", "c6", "c7"];
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif";
const drawn = new Set();

const fade = (hex, alpha) => {
  const n = parseInt(hex.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
};

Chart.defaults.font.family = FONT;
Chart.defaults.font.size = 12;
Chart.defaults.maintainAspectRatio = false;
Chart.defaults.plugins.legend.display = false;
const dress = () => {
  Chart.defaults.color = colour("muted");
  Chart.defaults.borderColor = colour("line");
  Chart.defaults.animation = still.matches ? false : { duration: 250 };
  Object.assign(Chart.defaults.plugins.tooltip, {
    backgroundColor: colour("tip"), titleColor: colour("tip-text"), bodyColor: colour("tip-text"), footerColor: colour("tip-muted"),
    padding: 10, cornerRadius: 8, boxPadding: 4, usePointStyle: true, titleMarginBottom: 8, footerMarginTop: 8, borderWidth: 1,
    borderColor: colour("tip-line"),
  });
};

// A canvas with a name, in a box that gives it its height.
const canvasIn = (holder, height, name) => {
  const box = element("div", { class: "canvas" });
  box.style.height = `${height}px`;
  const canvas = element("canvas", { role: "img", tabindex: "0", "aria-label": name });
  box.append(canvas);
  holder.replaceChildren(box);
  return canvas;
};

const make = (canvas, config) => {
  const chart = new Chart(canvas, config);
  drawn.add(chart);
  return chart;
};
const drop = (chart) => {
  if (!chart) return;
  drawn.delete(chart);
  chart.destroy();
};

const say = (text) => { document.getElementById("said").textContent = text; };

// Steps through the points of a chart: the tooltip shows them, and they are said aloud.
const walk = (chart, index, text) => {
  const last = chart.data.labels.length - 1;
  const at = Math.max(0, Math.min(last, index));
  const active = chart.data.datasets.flatMap((_, datasetIndex) => (chart.isDatasetVisible(datasetIndex) ? [{ datasetIndex, index: at }] : []));
  const place = chart.getDatasetMeta(active[0]?.datasetIndex ?? 0).data[at];
  chart.setActiveElements(active);
  chart.tooltip.setActiveElements(active, { x: place?.x ?? 0, y: place?.y ?? 0 });
  chart.update("none");
  say(text(at));
  return at;
};

const keyboard = (canvas, chart, { text, enter, zoom }) => {
  let at = -1;
  canvas.addEventListener("keydown", (event) => {
    const size = chart.data.labels.length;
    const big = Math.max(1, Math.round(size / 12));
    const [least, most] = zoom ? zoom.bounds() : [0, size - 1];
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, PageDown: at + big, PageUp: at - big, Home: least, End: most };
    if (event.key in steps && size > 0) {
      at = walk(chart, Math.max(least, Math.min(most, at < 0 ? least : steps[event.key])), text);
    } else if (event.key === "Enter" && at >= 0 && enter) {
      enter(at);
    } else if (zoom && (event.key === "+" || event.key === "=")) {
      zoom.by(0.5, at);
    } else if (zoom && event.key === "-") {
      zoom.by(2, at);
    } else if (zoom && (event.key === "0" || event.key === "Escape")) {
      zoom.reset();
    } else {
      return;
    }
    event.preventDefault();
  });
  canvas.addEventListener("blur", () => {
    at = -1;
    chart.setActiveElements([]);
    chart.tooltip.setActiveElements([], { x: 0, y: 0 });
    chart.update("none");
  });
};

// The value at the end of each bar.
const values = (text) => ({
  id: "values",
  afterDatasetsDraw(chart) {
    const { ctx } = chart;
    ctx.save();
    ctx.font = `500 12px ${FONT}`;
    ctx.textBaseline = "middle";
    chart.getDatasetMeta(0).data.forEach((bar, i) => {
      const value = text(i);
      const width = ctx.measureText(value).width;
      const fits = bar.x + width + 10 < chart.width;
      ctx.fillStyle = fits ? colour("text") : colour("on-bar");
      ctx.fillText(value, fits ? bar.x + 6 : bar.x - width - 6, bar.y);
    });
    ctx.restore();
  },
});

const shorten = (text, most) => {
  if (text.length <= most) return text;
  const half = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - half)}…${text.slice(-half)}`;
};

const bars = (holder, name, rows, metric, { whole, pick }) => {
  const canvas = canvasIn(holder, Math.max(120, rows.length * 28 + 8), name);
  const text = (i) => amount(rows[i][metric], metric);
  const part = (i) => share(number(rows[i][metric]), whole);
  const chart = make(canvas, {
    type: "bar",
    data: {
      labels: rows.map((row) => row.label),
      datasets: [{
        data: rows.map((row) => number(row[metric])),
        backgroundColor: rows.map((row) => (row.rest ? colour("rest") : colour("bar"))),
        hoverBackgroundColor: rows.map((row) => (row.rest ? colour("rest") : colour("accent"))),
        borderRadius: 4, barThickness: 16, minBarLength: 2,
      }],
    },
    options: {
      indexAxis: "y",
      layout: { padding: { right: 72 } },
      interaction: { mode: "nearest", axis: "y", intersect: false },
      onClick: (event, found) => found[0] && pick(found[0].index, event.native),
      onHover: (event, found) => { event.native.target.style.cursor = found[0] && !rows[found[0].index].rest ? "pointer" : "default"; },
      scales: {
        x: { display: false, beginAtZero: true, max: Math.max(1, ...rows.map((row) => number(row[metric]))) },
        y: {
          grid: { display: false }, border: { display: false },
          ticks: { autoSkip: false, color: colour("text"), crossAlign: "far", callback: (_, i) => shorten(rows[i].label, holder.clientWidth < 420 ? 22 : 34) },
        },
      },
      plugins: {
        tooltip: {
          displayColors: false,
          callbacks: {
            title: ([item]) => rows[item.dataIndex].label,
            label: (item) => Object.keys(METRICS).map((m) => `${METRICS[m].name}: ${amount(rows[item.dataIndex][m], m)}`),
            footer: ([item]) => `${part(item.dataIndex)} of all ${metric}`,
          },
        },
      },
    },
    plugins: [values(text)],
  });
  keyboard(canvas, chart, { text: (i) => `${rows[i].label}: ${text(i)}, ${part(i)}`, enter: (i) => pick(i, null) });
  return chart;
};

const doughnut = (holder, name, rows, metric, { whole, pick }) => {
  const canvas = canvasIn(holder, 220, name);
  const colours = rows.map((row, i) => colour(row.rest || i >= LINES.length ? "rest" : LINES[i]));
  const chart = make(canvas, {
    type: "doughnut",
    data: {
      labels: rows.map((row) => row.label),
      datasets: [{ data: rows.map((row) => number(row[metric])), backgroundColor: colours, borderColor: colour("card"), borderWidth: 2, hoverOffset: 4 }],
    },
    options: {
      cutout: "66%",
      layout: { padding: 6 },
      onClick: (event, found) => found[0] && pick(found[0].index, event.native),
      plugins: {
        tooltip: {
          callbacks: { label: (item) => ` ${amount(rows[item.dataIndex][metric], metric)}, ${share(number(rows[item.dataIndex][metric]), whole)}` },
        },
      },
    },
    plugins: [{
      id: "middle",
      afterDraw({ ctx, chartArea: { left, right, top, bottom } }) {
        ctx.save();
        ctx.textAlign = "center";
        ctx.textBaseline = "middle";
        ctx.fillStyle = colour("text");
        ctx.font = `600 19px ${FONT}`;
        ctx.fillText(amount(whole, metric), (left + right) / 2, (top + bottom) / 2 - 8);
        ctx.fillStyle = colour("muted");
        ctx.font = `12px ${FONT}`;
        ctx.fillText(METRICS[metric].name.toLowerCase(), (left + right) / 2, (top + bottom) / 2 + 13);
        ctx.restore();
      },
    }],
  });
  keyboard(canvas, chart, {
    text: (i) => `${rows[i].label}: ${amount(rows[i][metric], metric)}, ${share(number(rows[i][metric]), whole)}`,
    enter: (i) => pick(i, null),
  });
  return { chart, colours };
};

// Where the pointer is, from top to bottom.
const crosshair = {
  id: "crosshair",
  afterDraw(chart) {
    const x = chart.tooltip?.opacity ? chart.tooltip.caretX : null;
    if (x === null || !chart.chartArea) return;
    const { ctx, chartArea: { top, bottom } } = chart;
    ctx.save();
    ctx.strokeStyle = colour("muted");
    ctx.setLineDash([3, 3]);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, bottom);
    ctx.stroke();
    ctx.restore();
  },
};

// Ticks at whole hours, days or minutes.
const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000].map((s) => s * 1000);
const timeAxis = (from, to) => ({
  type: "linear", min: from, max: to,
  grid: { color: colour("line"), drawTicks: false, offset: false }, border: { color: colour("line") },
  afterBuildTicks: (axis) => {
    const room = Math.max(2, Math.floor(axis.width / 90));
    const step = TICKS.find((t) => (axis.max - axis.min) / t <= room) ?? Math.ceil((axis.max - axis.min) / room);
    axis.ticks = [];
    for (let at = Math.ceil(axis.min / step) * step; at <= axis.max; at += step) axis.ticks.push({ value: at });
    axis.step = step;
  },
  ticks: {
    maxRotation: 0, padding: 8, autoSkip: false,
    callback(value, i, ticks) {
      const t = new Date(value);
      const isDay = value % 86400000 === 0;
      if (this.step >= 86400000) return day(t).slice(5);
      return isDay || i === 0 ? [clock(t, this.step < 60000), day(t).slice(5)] : clock(t, this.step < 60000);
    },
  },
});

// Drag to look closer, twice to see all again.
const zoomable = (canvas, chart, from, to, least, changed) => {
  const axis = chart.options.scales.x;
  const set = (a, b) => {
    if (b - a < least) return;
    [axis.min, axis.max] = [Math.max(from, a), Math.min(to, b)];
    chart.update("none");
    changed(axis.min > from || axis.max < to, axis.min, axis.max);
  };
  const zoom = {
    reset: () => set(from, to),
    by: (factor, at) => {
      const middle = chart.data.labels[at] ?? (axis.min + axis.max) / 2;
      const half = ((axis.max - axis.min) * factor) / 2;
      set(middle - half, middle + half);
    },
    bounds: () => {
      const inside = chart.data.labels.map((t, i) => [t, i]).filter(([t]) => t >= axis.min && t <= axis.max);
      return inside.length ? [inside[0][1], inside[inside.length - 1][1]] : [0, 0];
    },
  };
  const band = element("div", { class: "band", hidden: true });
  canvas.parentNode.append(band);
  let start = null;
  const inArea = (event) => Math.max(chart.chartArea.left, Math.min(chart.chartArea.right, event.clientX - canvas.getBoundingClientRect().left));
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    start = inArea(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const at = inArea(event);
    band.hidden = Math.abs(at - start) < 5;
    Object.assign(band.style, {
      left: `${Math.min(start, at)}px`, width: `${Math.abs(at - start)}px`,
      top: `${chart.chartArea.top}px`, height: `${chart.chartArea.bottom - chart.chartArea.top}px`,
    });
  });
  const end = (event) => {
    if (start === null) return;
    const at = inArea(event);
    const [a, b] = [start, at].sort((x, y) => x - y).map((x) => chart.scales.x.getValueForPixel(x));
    if (Math.abs(at - start) >= 5) set(a, b);
    start = null;
    band.hidden = true;
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", () => { start = null; band.hidden = true; });
  canvas.addEventListener("dblclick", zoom.reset);
  return zoom;
};

// Stacked areas or bars over time. `lines` have a name, a colour and values of each interval.
const overTime = (holder, name, times, interval, lines, { height = 320, type = "line", value, total, changed }) => {
  const canvas = canvasIn(holder, height, name);
  const [from, to] = [times[0], times[times.length - 1] + (type === "bar" ? interval : 0)];
  const [least, most] = type === "bar" ? [from - interval / 2, to - interval / 2] : [from, Math.max(to, from + interval)];
  const chart = make(canvas, {
    type,
    data: {
      labels: times,
      datasets: lines.map((line) => ({
        label: line.name, data: times.map((x, i) => ({ x, y: line.values[i] })), hidden: line.hidden ?? false,
        borderColor: line.colour, backgroundColor: type === "bar" ? line.colour : fade(line.colour, isDark() ? 0.42 : 0.38),
        fill: type === "bar" ? undefined : "stack", borderWidth: type === "bar" ? 0 : 1.4, pointRadius: times.length === 1 ? 3 : 0,
        pointHoverRadius: 3, stack: "all", barPercentage: 1, categoryPercentage: 0.9,
      })),
    },
    options: {
      parsing: true, normalized: true,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { ...timeAxis(least, most), offset: false },
        y: {
          stacked: true, beginAtZero: true, border: { display: false }, grid: { color: colour("line"), drawTicks: false },
          ticks: { maxTicksLimit: 6, padding: 8, callback: (v) => round(value(v)) },
        },
      },
      plugins: {
        tooltip: {
          itemSort: (a, b) => b.datasetIndex - a.datasetIndex,
          filter: (item) => item.parsed.y > 0,
          callbacks: {
            title: ([item]) => item && `${moment(times[item.dataIndex] * 1000, interval < 60000)} UTC, ${span(interval / 1000)}`,
            label: (item) => ` ${shorten(item.dataset.label, 44)}: ${value(item.parsed.y)}`,
            labelColor: (item) => ({ borderColor: item.dataset.borderColor, backgroundColor: item.dataset.borderColor }),
            footer: (items) => (items.length && total ? `All: ${value(total(items[0].dataIndex))}` : ""),
          },
        },
      },
    },
    plugins: [crosshair],
  });
  const zoom = zoomable(canvas, chart, least, most, 4 * interval, changed ?? (() => {}));
  keyboard(canvas, chart, {
    zoom,
    text: (i) => `${moment(times[i] * 1000, interval < 60000)}: ${lines.map((l) => [l.name, l.values[i]]).filter(([, v]) => v > 0).map(([n, v]) => `${n} ${value(v)}`).join(", ") || "nothing"}`,
  });
  return { chart, zoom };
};
