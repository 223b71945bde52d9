// Numbers, times and names as people read them.

const METRICS = {
  bytes: { name: "Bytes", rate: "bit/s", factor: 8 },
  packets: { name: "Packets", rate: "packets/s", factor: 1 },
  flows: { name: "Flows", rate: "flows/s", factor: 1 },
};

// Whole numbers beyond what a double holds come as text.
const exact = (n) => BigInt(n ?? 0).toLocaleString("en-US");
const number = (n) => Number(n ?? 0);

const scaled = (n, unit) => {
  const size = Math.abs(n);
  const [factor, prefix] = size >= 1e15 ? [1e15, "P"] : size >= 1e12 ? [1e12, "T"] : size >= 1e9 ? [1e9, "G"]
    : size >= 1e6 ? [1e6, "M"] : size >= 1e3 ? [1e3, "k"] : [1, ""];
  const value = n / factor;
  const digits = factor === 1 && Number.isInteger(n) ? 0 : Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  const gap = prefix && unit.length > 6 ? " " : "";
  return `${value.toFixed(digits)} ${prefix}${gap}${unit}`.trim();
};
const amount = (n, metric) => (metric === "bytes" ? scaled(number(n), "B") : number(n) < 1e5 ? exact(n) : scaled(number(n), ""));
const rate = (n, metric) => scaled(n, METRICS[metric].rate);
// At an axis: 50 Mbit/s rather than 50.0.
const round = (text) => text.replace(/(\.\d*?)0+ /, "$1 ").replace(". ", " ");
const share = (part, whole) => {
  const percent = whole > 0 ? 100 * part / whole : 0;
  return percent > 0 && percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(1)} %`;
};

const two = (n) => String(n).padStart(2, "0");
const day = (t) => `${t.getUTCFullYear()}-${two(t.getUTCMonth() + 1)}-${two(t.getUTCDate())}`;
const clock = (t, seconds) => `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}${seconds ? `:${two(t.getUTCSeconds())}` : ""}`;
const moment = (us, seconds = false) => {
  const t = new Date(us / 1000);
  return `${day(t)} ${clock(t, seconds)}`;
};
const span = (seconds) => {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = parts.findIndex(([length]) => seconds >= length);
  if (at < 0) return `${Math.round(seconds * 1000)} ms`;
  const [length, unit] = parts[at];
  const whole = Math.floor(seconds / length);
  const [next, small] = parts[at + 1] ?? [0, ""];
  const rest = next ? Math.round((seconds - whole * length) / next) : 0;
  return rest > 0 && rest * next < length ? `${whole} ${unit} ${rest} ${small}` : `${Math.round(seconds / length)} ${unit}`;
};
const plural = (n, one, many) => `${exact(n)} ${number(n) === 1 ? one : many}`;

// What is absent has no text of its own.
const absent = { app_name: "no application", src_country: "unknown", dst_country: "unknown" };
const regions = new Intl.DisplayNames("en", { type: "region", fallback: "none" });
const keyText = (key, column) => {
  if (column.endsWith("_country") && /^[A-Z]{2}$/.test(key) && regions.of(key)) return `${regions.of(key)} (${key})`;
  if (column.endsWith("_as")) return key && key !== "0" ? `AS${key}` : "no AS";
  if (column.endsWith("_if")) return key ? `if ${key}` : "no interface";
  if (column.endsWith("port")) return key;
  if (column === "proto" && key) return /^\d+$/.test(key) ? `protocol ${key}` : key.toUpperCase();
  return key || absent[column] || `no ${column.replace(/^(src|dst)_/, "")}`;
};
const WITH_PORTS = ["tcp", "udp", "dccp", "sctp", "udplite"];
const label = (keys, columns, name) => {
  const portless = columns.length === 2 && columns[0] === "proto" && !WITH_PORTS.includes(keys[0]) && (keys[1] === "0" || keys[1] === "");
  const texts = (portless ? keys.slice(0, 1) : keys).map((key, i) => keyText(key, columns[i])).filter((text) => text !== "");
  const pair = columns.length === 2 && columns[0].startsWith("src_");
  const isPort = columns[0] === "proto" && columns.length === 2;
  const joined = isPort && texts.length > 1 ? `${texts[0]} ${texts[1]}` : texts.join(pair ? " → " : ", ");
  if (!name) return joined;
  return columns.length === 1 && columns[0].endsWith("_as") ? `${joined} ${name}` : `${joined} (${name})`;
};

// A filter that finds the flows of a group.
const quoted = (text) => (/^[A-Za-z0-9_.:\/-]+$/.test(text) ? text : text.includes('"') ? `'${text}'` : `"${text}"`);
// None for a name with both kinds of quotes: a filter cannot say it.
const filterOf = (keys, columns) => (keys.some((key) => key.includes('"') && key.includes("'")) ? null
  : keys.map((key, i) => (key === "" ? `${columns[i]} is absent` : `${columns[i]} = ${quoted(key)}`)).join(" and "));
const shell = (text) => (/^[A-Za-z0-9_.:\/=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

const element = (tag, properties = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) node.setAttribute(name, String(value));
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  // Texts become text, whatever stands in them.
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
};
