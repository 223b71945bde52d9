#!/usr/bin/env python3
"""The page of `flowlane report` in a real browser, headless and offline.

    tests/report.py target/release/flowlane [--pictures FOLDER]

A day of generated traffic is decoded, reported, and opened in Chromium: every chart drew something, every number of every table
equals what `flowlane top` says, nothing is asked of any network, nothing is said on the console, names that exporters chose do no
harm, colours follow the reader's, all of it works from the keyboard. A collector that loses datagrams says so in its report.

With --pictures it also takes the two pictures that the README shows.
Needs chromium and chromedriver (Debian: chromium chromium-driver). Every step is bounded in time. No network beyond loopback.
"""
import argparse
import base64
import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.dont_write_bytecode = True
import report_traffic as traffic  # noqa: E402

BEGIN = 1795478400  # 2026-11-24, UTC
HOSTILE = "</script><script>window.harm=1</script><img src=x onerror='window.harm=2'>\"'`{{script}}\u2028<!--&lt;"
SHELL = "$(exit 3)';`exit 4`;exit 5 #"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb"]
METRICS = ["bytes", "packets", "flows"]
KEYS = {"ArrowRight": "\ue014", "ArrowLeft": "\ue012", "Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "End": "\ue010", "Home": "\ue011"}


def run(*argv, code=0):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    if done.returncode != code:
        raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}, not {code}\n{done.stderr}")
    return done


def same(what, got, want):
    if got != want:
        raise AssertionError(f"{what}:\n  got  {str(got)[:1500]}\n  want {str(want)[:1500]}")


def holds(what, is_true, detail=""):
    if not is_true:
        raise AssertionError(f"{what} {detail}")


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Browser:
    """Chromium by WebDriver's own protocol: JSON over HTTP."""

    def __init__(self, url, profile):
        self.url = url
        options = {"args": [*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"], "perfLoggingPrefs": {"enableNetwork": True},
                   **({"binary": b} if (b := shutil.which("chromium")) else {})}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        answer = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{answer['sessionId']}"

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:1000]}") from None

    def call(self, path, body, method="POST"):
        return self.ask(method, self.session + path, body)

    def open(self, path):
        self.call("/url", {"url": f"file://{path}"})
        deadline = time.monotonic() + 15
        while self.js("return document.documentElement.dataset.drawn") != "yes":
            holds("the page draws itself", time.monotonic() < deadline, self.log("browser"))
            time.sleep(0.05)

    def js(self, code, *arguments):
        return self.call("/execute/sync", {"script": code, "args": list(arguments)})

    def cdp(self, command, **parameters):
        return self.call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self, kind):
        return self.call("/se/log", {"type": kind})

    def prefers(self, scheme):
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme},
                                                         {"name": "prefers-reduced-motion", "value": "reduce"}])

    def size(self, width, height):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def press(self, *keys):
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def drag(self, x, y, to):
        moves = [{"type": "pointerMove", "duration": 0, "x": x, "y": y}, {"type": "pointerDown", "button": 0},
                 {"type": "pointerMove", "duration": 50, "x": to, "y": y}, {"type": "pointerUp", "button": 0}]
        self.call("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def quit(self):
        with contextlib.suppress(Exception):
            self.ask("DELETE", self.session)


@contextlib.contextmanager
def browser(folder):
    port = free_port(socket.SOCK_STREAM)
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    opened = None
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            holds("chromedriver answers", time.monotonic() < deadline and driver.poll() is None)
            time.sleep(0.1)
        opened = Browser(f"http://127.0.0.1:{port}", os.path.join(folder, "profile"))
        yield opened
    finally:
        if opened:
            opened.quit()
        driver.terminate()
        driver.wait(10)


# What every canvas shows: how many colours, and its name.
CANVASES = """return [...document.querySelectorAll('canvas')].map(c => {
  const pixels = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
  return [c.getAttribute('aria-label'), new Set(pixels).size, pixels.filter(p => p >>> 24).length / pixels.length];
})"""

TABLES = """return [...document.querySelectorAll('section.panel')].filter(p => p.querySelector('table.ranked')).map(panel => [panel.id,
  [...panel.querySelectorAll('tbody tr')].map(row => ({ rest: row.classList.contains('rest'), values: [...row.querySelectorAll('data')].map(d => d.value),
    keys: [...row.querySelectorAll('th, td:not(.number)')].map(c => c.textContent) }))])"""


def library_is_as_it_was_published():
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src/query/report/page/vendor")
    with open(os.path.join(folder, "chart.umd.min.js"), "rb") as library, open(os.path.join(folder, "README.md")) as about:
        holds("the library is the published one", hashlib.sha256(library.read()).hexdigest() in about.read())


def charts_drew(page):
    canvases = page.js(CANVASES)
    holds("there are charts", len(canvases) >= 8, canvases)
    for name, colours, covered in canvases:
        holds("a chart has a name", name and len(name) > 20, name)
        holds("a chart drew", colours > 8 and covered > 0.02, (name, colours, covered))
    return len(canvases)


def numbers_equal(page, flowlane, folder, *options):
    """Every row of every table, for every view and metric, against `flowlane top` over the same flows."""
    data = json.loads(page.js("return document.getElementById('data').textContent"))
    page.js("document.getElementById('tables').click()")
    rows = 0
    for metric in METRICS:
        page.js("document.querySelector(`[data-metric=${arguments[0]}]`).click()", metric)
        for i in range(3):
            page.js("""for (const list of document.querySelectorAll('section.panel [role=tablist]')) list.children[arguments[0]]?.click()""", i)
            for panel, shown in page.js(TABLES):
                views = next(p["views"] for p in data["panels"] if p["id"] == panel)
                view = views[min(i, len(views) - 1)]
                text = run(flowlane, "top", ",".join(view["keys"]), *options, "--in", folder, "--by", metric, "--format", "csv").stdout
                want = list(csv.DictReader(io.StringIO(text)))
                first = [[w[m] for m in METRICS] for w in want if not (w[view["keys"][0]].startswith("(") or len(want) == 0)]
                same(f"{panel}, {view['name']}, by {metric}", [r["values"] for r in shown if not r["rest"]], first)
                keys = [[w[k] for k in view["keys"]] for w in want][:len(first)]
                same(f"the keys of {panel}", [r["keys"] for r in view["by"][metric]["rows"]], keys)
                others = [[w[m] for m in METRICS] for w in want if "others" in w[view["keys"][0]]]
                same(f"the others of {panel}", [r["values"] for r in shown if r["rest"]], others)
                total = next([w[m] for m in METRICS] for w in want if w[view["keys"][0]] == "(total)")
                same("the total", [str(data["total"][m]) for m in METRICS], total)
                rows += len(shown)
    page.js("""document.getElementById('tables').click(); document.querySelector('[data-metric=bytes]').click();
        for (const list of document.querySelectorAll('section.panel [role=tablist]')) list.children[0].click()""")
    return rows


def lines_add_up(page):
    """Lines of every chart over time add up to all flows."""
    data = json.loads(page.js("return document.getElementById('data').textContent"))
    series = data["series"]
    for split in series["splits"]:
        lines = split["groups"] + ([split["others"]] if split["others"] else [])
        for metric in METRICS:
            same(f"{split['title']} over time", sum(sum(map(int, line[metric])) for line in lines) + int(series["outside"][metric]), int(data["total"][metric]))
    holds("an hour without an exporter is seen", any(s["title"] == "Exporter" for s in series["splits"]))


def is_quiet(page, path):
    """Nothing on the console, and nothing asked for but the page itself."""
    same("the console", [e for e in page.log("browser") if e["level"] in ("SEVERE", "WARNING")], [])
    asked = [m["params"]["request"]["url"] for e in page.log("performance") if (m := json.loads(e["message"])["message"])["method"] == "Network.requestWillBeSent"]
    foreign = [url for url in asked if url != f"file://{path}" and not url.startswith(("data:", "chrome:", "about:"))]
    same("requests", foreign, [])
    same("resources", page.js("return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"), [])
    with open(path, encoding="utf-8") as f:
        markup = f.read()
    same("links to elsewhere", re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)[^"']*""", markup.split('<script type="application/json"')[0]), [])
    holds("the policy forbids all else", "default-src 'none'" in markup)
    holds("the library's licence is there", "Chart.js Contributors" in page.js("return document.querySelector('footer pre').textContent"))


LUMINANCE = """const of = (text) => { const c = text.match(/[\\d.]+/g).slice(0, 3).map(n => { n /= 255; return n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
const card = of(getComputedStyle(document.querySelector('.tile')).backgroundColor);
const contrast = (node) => { const t = of(getComputedStyle(node).color); return (Math.max(t, card) + 0.05) / (Math.min(t, card) + 0.05); };
return [card, ...['.tile-value', '.tile-more', '.legend-item', '.panel .quiet'].map(s => contrast(document.querySelector(s)))]"""


def has_both_colours(page, path):
    seen = {}
    for scheme in ("light", "dark"):
        page.prefers(scheme)
        page.open(path)
        card, *contrasts = page.js(LUMINANCE)
        holds(f"{scheme} is {scheme}", card > 0.8 if scheme == "light" else card < 0.05, card)
        holds(f"text can be read in {scheme}", min(contrasts) >= 4.5, contrasts)
        seen[scheme] = page.js("return document.querySelector('canvas').toDataURL()")
    holds("charts have the colours of the page", seen["light"] != seen["dark"])
    # The reader's choice goes before the system's: auto, light, dark, auto.
    for theme, is_light in (("light", True), ("dark", False), ("auto", False)):
        page.js("document.getElementById('theme').click()")
        same("the theme", page.js("return document.documentElement.dataset.theme"), theme)
        holds(f"the theme {theme} is shown", (page.js(LUMINANCE)[0] > 0.5) == is_light)
    page.prefers("light")
    page.open(path)


def works_by_keyboard(page):
    page.js("document.querySelector('#traffic canvas').focus()")
    page.press("ArrowRight", "ArrowRight")
    said = page.js("return document.getElementById('said').textContent")
    holds("a step is said", re.match(r"2026-11-2\d \d\d:\d\d: .*bit/s", said), said)
    page.press("+", "+")
    holds("zoomed", not page.js("return document.querySelector('#traffic .panel-tools button').hidden"))
    page.press("Escape")
    holds("all is shown again", page.js("return document.querySelector('#traffic .panel-tools button').hidden"))
    page.js("document.querySelector('#talkers canvas').focus()")
    page.press("Home", "Enter")
    command = page.js("return document.querySelector('#popover code').textContent")
    holds("a bar leads to its flows", re.search(r"flowlane flows --in .* 'src_addr = [0-9a-f.:]+ and time_received >= .* and time_received <= 2026-11-25T00:00:0.*'$", command), command)
    page.press("Escape")
    same("closed, and back at the chart", page.js("return [document.getElementById('popover').hidden, document.activeElement.tagName]"), [True, "CANVAS"])
    page.js("document.querySelector('[data-metric=bytes]').focus()")
    page.press("ArrowRight")
    same("the next metric", page.js("return document.querySelector('#metric [aria-checked=true]').textContent"), "Packets")
    page.press("ArrowLeft")
    page.js("document.querySelector('#talkers [role=tab]').focus()")
    page.press("ArrowRight")
    same("the next tab", page.js("return document.querySelector('#talkers [aria-selected=true]').textContent"), "Destinations")
    page.press("ArrowLeft")
    return command


def is_sound(page):
    """What a reader of screens needs."""
    same("nameless", page.js("""return [...document.querySelectorAll('button, select, canvas, table, section')].filter(e => !(
        e.getAttribute('aria-label') || e.textContent.trim() && e.tagName !== 'TABLE' && e.tagName !== 'SECTION' || e.querySelector('caption')
        || document.getElementById(e.getAttribute('aria-labelledby')))).map(e => e.outerHTML.slice(0, 200))"""), [])
    same("headings", page.js("return [document.querySelectorAll('h1').length, document.documentElement.lang]"), [1, "en"])
    ids = page.js("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    same("ids are unique", len(ids), len(set(ids)))


def zooms_by_mouse(page):
    x, y, width = page.js("scrollTo(0, 0); const r = document.querySelector('#traffic canvas').getBoundingClientRect(); return [r.x, r.y + r.height / 2, r.width].map(Math.round)")
    page.drag(x + width // 2, y, x + width // 2 + width // 5)
    holds("a drag zooms", not page.js("return document.querySelector('#traffic .panel-tools button').hidden"))
    page.js("document.querySelector('#traffic .panel-tools button').click()")


def fits(page):
    for width in (360, 768, 1280, 1920):
        page.size(width, 900)
        time.sleep(0.1)
        same(f"no wider than {width}", page.js("return document.documentElement.scrollWidth <= innerWidth"), True)
    page.size(1280, 900)


def losses(flowlane, folder, page):
    """A collector to which every 20th message does not come."""
    out, port = os.path.join(folder, "flows"), free_port(socket.SOCK_DGRAM)
    with open(os.path.join(folder, "collect.log"), "w") as log:
        collector = subprocess.Popen([flowlane, "collect", "--listen", f"127.0.0.1:{port}", "--out", out, "--node", "one"], stdin=subprocess.DEVNULL, stderr=log)
    try:
        deadline = time.monotonic() + 15
        while "listening" not in open(os.path.join(folder, "collect.log")).read():
            holds("the collector listens", time.monotonic() < deadline and collector.poll() is None)
            time.sleep(0.05)
        missing = sent = 0
        day = traffic.Day(int(time.time()) - 3600, 2000, hours=1)
        socks = {}
        for n, (_, exporter, message) in enumerate(day.messages()):
            sock = socks.get(exporter)
            if sock is None:
                sock = socks[exporter] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind((f"127.0.0.{len(socks) + 1}", 0))
            is_first = not int.from_bytes(message[8:12], "big")
            if n % 20 == 10 and not is_first:
                lost = exporter, day.sequence[exporter]
                missing += lost[1] - int.from_bytes(message[8:12], "big")
                continue
            sock.sendto(message, ("127.0.0.1", port))
            sent += 1
            time.sleep(0.001)
        # A message more of each, so that what was lost last shows.
        for exporter, sock in socks.items():
            record = day.flow(time.time(), 0)
            sock.sendto(day.message(time.time(), exporter, [record]), ("127.0.0.1", port))
            sent += 1
        sock.sendto(b"\0\x63 no version of NetFlow", ("127.0.0.1", port))
        time.sleep(1.5)
    finally:
        collector.send_signal(signal.SIGINT)
        collector.wait(20)
    path = os.path.join(folder, "losses.html")
    run(flowlane, "report", "--in", out, "--out", path)
    page.open(path)
    found = json.loads(page.js("return document.getElementById('data').textContent"))["losses"]
    same("datagrams that came", found["totals"]["datagrams"], sent + 1)
    counts = dict(page.js("return [...document.querySelectorAll('#losses tbody')[0].rows].map(r => [r.cells[0].textContent, Number(r.querySelector('data').value)])"))
    same("what was lost", counts, {"missing by sequence numbers": missing, "malformed datagrams": 1})
    holds("exporters that lost are named", len(found["exporters"]) >= 3, found["exporters"])
    holds("it is said at the top", "Yes" in page.js("return document.querySelector('.tile.bad').textContent"))
    page.js("document.getElementById('losses').scrollIntoView()")
    return f"{missing} records missing of {sent} datagrams"


def answers(flowlane, folder, day, browser):
    """The command line."""
    page = os.path.join(folder, "x.html")
    report = lambda *more, code=0: run(flowlane, "report", "--in", day, "--out", page, *more, code=code)  # noqa: E731
    holds("it says what it is", re.search(r"x\.html: 29\d\d\d flows, received 2026-11-24T.* to 2026-11-25T.*, the last 24 h of what is there", report().stderr))
    hour = json.loads(run(flowlane, "report", "--in", day, "--out", "-", "--json", "--from", "2026-11-24T12", "--to", "2026-11-24T12").stdout)
    top = next(csv.DictReader(io.StringIO(run(flowlane, "top", "proto", "--in", day, "-f", "csv", "time_received in 2026-11-24T12:00..2026-11-24T12:59").stdout)))
    same("an hour of it", hour["panels"][2]["views"][0]["by"]["bytes"]["rows"][0]["bytes"], int(top["bytes"]))
    # The command at the foot of the page asks for the same microseconds.
    report("--last", "3h", "proto tcp or proto udp")
    browser.open(page)
    command = browser.js("return document.querySelector('#made code').textContent").replace("flowlane", flowlane, 1)
    total = list(csv.DictReader(io.StringIO(subprocess.run(["sh", "-c", command + " --format csv"], capture_output=True, text=True, timeout=60).stdout)))[-1]
    same("the same by command", browser.js("return JSON.parse(document.getElementById('data').textContent).total.bytes"), int(total["bytes"]))
    holds("three hours are less", 0 < int(total["flows"]) < 10000, total)
    text = run(flowlane, "report", "--in", day, "--out", "-", "--title", "<b>&\"", "proto udp").stdout
    holds("a title is text", "<title>&lt;b&gt;&amp;&quot;</title>" in text and "<h1>&lt;b&gt;" in text)
    holds("nothing found is said", "holds for none of" in report("dst_port = 4").stderr)
    for wrong, hint in ((["--out", folder], "is a folder"), (["--from", "noon"], "accepted are times like"), (["proto tpc"], "expected a protocol"),
                        (["--from", "2026-11-25", "--to", "2026-11-24"], "--from is after --to"), (["--out", os.path.join(day, "flows.parquet")], "one of the files")):
        told = run(flowlane, "report", "--in", day, *wrong, code=2).stderr
        holds("an error helps", hint in told, (wrong, told))
    holds("a missing folder is named", "give --in a folder" in run(flowlane, "report", "--in", "/nowhere", code=1).stderr)
    holds("a silent collector is named", "no collector answers" in report("--ledger", str(free_port(socket.SOCK_STREAM)), code=1).stderr)
    return page


def pictures(page, flowlane, folder, into):
    """The page as the README shows it: a quiet day, of which nothing was lost."""
    folder = os.path.join(folder, "pictures")
    os.makedirs(folder)
    os.rename(os.path.join(os.path.dirname(folder), "day"), os.path.join(folder, "flows"))
    os.makedirs(os.path.join(folder, "flows", "ledger"))
    messages = sum(1 for _ in traffic.Day(BEGIN, 30000).messages())
    with open(os.path.join(folder, "flows", "ledger", "border-2026-11-25.ndjson"), "w") as f:
        f.write(json.dumps({"from": BEGIN * 10**6, "to": (BEGIN + 86460) * 10**6, "total": {"datagrams": messages}}) + "\n")
    subprocess.run([flowlane, "report", "--out", "day.html", "--title", "Border routers"], cwd=folder, check=True, capture_output=True, timeout=60)
    page.size(1200, 900)
    for scheme in ("light", "dark"):
        page.prefers(scheme)
        page.open(os.path.join(folder, "day.html"))
        page.js("const s = document.querySelector('#traffic select'); s.selectedIndex = [...s.options].findIndex(o => o.text === 'by application'); s.dispatchEvent(new Event('change'))")
        picture = base64.b64decode(page.call("/screenshot", None, "GET"))
        name = os.path.join(into, f"report-{scheme}.png")
        with open(name, "wb") as f:
            f.write(picture)
        print(f"  {name}: {len(picture)} bytes")
        holds("a picture is small", len(picture) < 200_000)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("flowlane")
    arguments.add_argument("--pictures", metavar="FOLDER")
    arguments = arguments.parse_args()
    flowlane = os.path.abspath(arguments.flowlane)
    with tempfile.TemporaryDirectory(prefix="flowlane-report-") as folder, browser(folder) as page:
        library_is_as_it_was_published()
        for name, day in (("day", traffic.Day(BEGIN, 30000)), ("hostile", traffic.Day(BEGIN, 500, applications=[HOSTILE, HOSTILE, SHELL]))):
            traffic.capture(os.path.join(folder, f"{name}.pcap"), day)
            run(flowlane, "decode", "--format", "parquet", "--out", f"{folder}/{name}/", f"{folder}/{name}.pcap")
        path, inside = os.path.join(folder, "day.html"), os.path.join(folder, "day")
        run(flowlane, "report", "--in", inside, "--out", path)
        page.size(1280, 900)
        page.prefers("light")
        page.open(path)
        print(f"  {charts_drew(page)} charts drew", flush=True)
        print(f"  {numbers_equal(page, flowlane, inside)} rows equal those of `flowlane top`", flush=True)
        lines_add_up(page)
        is_sound(page)
        command = works_by_keyboard(page)
        zooms_by_mouse(page)
        fits(page)
        is_quiet(page, path)
        has_both_colours(page, path)
        is_quiet(page, path)
        # The command that the page offers, as a shell reads it.
        offered = subprocess.run(["sh", "-c", command.replace("flowlane", flowlane, 1) + " --limit 1 --format csv"], capture_output=True, text=True, timeout=60)
        holds("the command that the page offers works", offered.returncode == 0 and len(offered.stdout.splitlines()) == 2, (command, offered.stderr))
        print("  offline, quiet, by keyboard and mouse, light and dark", flush=True)
        path = os.path.join(folder, "hostile.html")
        run(flowlane, "report", "--in", os.path.join(folder, "hostile"), "--out", path, "--title", HOSTILE)
        page.open(path)
        charts_drew(page)
        same("harm done", page.js("return [window.harm ?? 0, document.querySelectorAll('script').length, document.querySelectorAll('img').length]"), [0, 3, 0])
        same("the title", page.js("return document.title.replace(/\\s+/g, ' ')"), re.sub(r"\s+", " ", HOSTILE))
        page.js("document.getElementById('tables').click()")
        same("the name, as it is", page.js("return document.querySelector('#applications tbody th').textContent"), HOSTILE)
        page.js("document.querySelector('#applications tbody button').click()")
        same("no command that says something else", page.js("return document.querySelectorAll('#popover code').length"), 0)
        page.js("[...document.querySelectorAll('#applications tbody button')].find(b => b.textContent.startsWith('$')).click()")
        command = page.js("return document.querySelector('#popover code').textContent")
        offered = subprocess.run(["sh", "-c", command.replace("flowlane", flowlane, 1) + " --fields app_name --limit 1 --format ndjson"], capture_output=True, text=True, timeout=60)
        same("the command finds them", json.loads(offered.stdout or "{}"), {"app_name": SHELL})
        is_quiet(page, path)
        print("  hostile names do no harm", flush=True)

        path = answers(flowlane, folder, inside, page)
        page.log("performance")
        page.open(path)
        same("an empty page says why", page.js("return document.querySelector('.notice').textContent")[:40], "No flow: the filter holds for none of 29571"[:40])
        is_quiet(page, path)
        print(f"  {losses(flowlane, folder, page)}", flush=True)
        if arguments.pictures:
            pictures(page, flowlane, folder, os.path.abspath(arguments.pictures))


if __name__ == "__main__":
    main()
