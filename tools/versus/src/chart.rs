//! Charts as SVG, light or dark as the reader's screen is: bars in groups, and lines, on linear or logarithmic axes.

use crate::table::number;
use std::fmt::Write;

/// Colours on white and on black, told apart by most eyes and in print, in the order of the series. Collectors have
/// theirs in every chart: [`colour`].
const COLOURS: [(&str, &str); 8] = [
    ("#2a78d6", "#3987e5"),
    ("#eb6834", "#d95926"),
    ("#c98a00", "#d9a21b"),
    ("#1a9c6d", "#199e70"),
    ("#7a4fd0", "#9085e9"),
    ("#c2447f", "#d55181"),
    ("#5f6b76", "#98a2ad"),
    ("#0f8ea8", "#2aa9c4"),
];
/// Whose colour is the one at the same place of [`COLOURS`].
const KNOWN: [&str; 6] = ["flowlane", "nfcapd", "nfcapd lz4", "nfacctd", "goflow2", "netflow"];
const WIDTH: f64 = 860.0;
/// Room for names at the left and for values at the right.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 70.0;
/// Below the title and the legend, above the axis and its name.
const TOP: f64 = 92.0;
const BOTTOM: f64 = 46.0;
const BAR: f64 = 16.0;
const GAP: f64 = 14.0;

/// Named values.
pub type Points<X> = Vec<(String, Vec<(X, f64)>)>;

/// An axis from one value to another.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, is_log: bool) -> Self {
        let finite = values.filter(|v| v.is_finite() && (!is_log || *v > 0.0));
        let high = finite.clone().fold(f64::MIN, f64::max);
        let low = finite.fold(f64::MAX, f64::min);
        if low > high {
            return Self { low: 0.0, high: 1.0, is_log: false };
        }
        match is_log {
            true => Self { low: 10f64.powf(low.log10().floor()), high: high * 1.3, is_log },
            false => Self { low: 0.0, high: if high > 0.0 { high * 1.05 } else { 1.0 }, is_log },
        }
    }

    /// Where a value stands, 0 to 1.
    fn at(self, value: f64) -> f64 {
        let share = match self.is_log {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        share.clamp(0.0, 1.0)
    }

    /// Values to write beside the axis.
    fn ticks(self) -> Vec<f64> {
        if self.is_log {
            let first = self.low.log10().round() as i32;
            let decades = (first..).map(|e| 10f64.powi(e)).take_while(|&v| v <= self.high);
            return decades.collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let unit = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * unit).into_iter().find(|s| *s >= rough).unwrap_or(unit);
        (0..).map(|n| self.low + f64::from(n) * step).take_while(|&v| v <= self.high).take(20).collect()
    }
}

/// Horizontal bars from zero: a group a name, a bar a series in it. Series all of whose bars are beyond eight times the first
/// one's would leave no room for the others: they are named below with what they come to.
pub fn bars(title: &str, unit: &str, groups: &Points<String>) -> String {
    let (shown, beyond) = within(groups);
    let mut series: Vec<&String> = Vec::new();
    for (name, _) in shown.iter().flat_map(|g| &g.1) {
        if !series.contains(&name) {
            series.push(name);
        }
    }
    let axis = Axis::over(shown.iter().flat_map(|g| g.1.iter().map(|b| b.1)), false);
    let rows: usize = shown.iter().map(|g| g.1.len()).sum();
    let notes = beyond.len() as f64 * 16.0;
    let bottom = TOP + rows as f64 * BAR + shown.len() as f64 * GAP;
    let mut svg = frame(title, bottom + BOTTOM + notes);
    legend(&mut svg, &series);
    grid(&mut svg, axis, unit, bottom);
    let mut y = TOP + GAP / 2.0;
    for (group, of) in &shown {
        let middle = y + of.len() as f64 * BAR / 2.0 + 4.0;
        text(&mut svg, (LEFT - 10.0, middle), "end", "name", group);
        for (name, value) in of {
            let long = (axis.at(*value) * (WIDTH - LEFT - RIGHT)).max(1.0);
            let _ = writeln!(
                svg,
                "<rect class=\"f{}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{long:.1}\" height=\"{:.1}\" rx=\"2\"/>",
                colour(name, &series),
                BAR - 3.0
            );
            text(&mut svg, (LEFT + long + 6.0, y + BAR - 5.5), "start", "value", &number(*value));
            y += BAR;
        }
        y += GAP;
    }
    for (at, note) in beyond.iter().enumerate() {
        text(&mut svg, (LEFT, bottom + BOTTOM + 16.0 * at as f64 - 2.0), "start", "muted", note);
    }
    svg + "</svg>\n"
}

/// Groups without the series that are too far from the first, and a line about each of those.
fn within(groups: &Points<String>) -> (Points<String>, Vec<String>) {
    let mut ratios: Points<String> = Vec::new();
    for (_, of) in groups {
        let Some(first) = of.first() else { continue };
        for (name, value) in of {
            let point = (name.clone(), value / first.1);
            match ratios.iter_mut().find(|r| r.0 == *name) {
                Some(known) => known.1.push(point),
                None => ratios.push((name.clone(), vec![point])),
            }
        }
    }
    ratios.retain(|(_, of)| of.iter().all(|r| r.1 > 8.0));
    let shown = groups.iter().map(|(group, of)| {
        let near = of.iter().filter(|(name, _)| ratios.iter().all(|r| r.0 != *name));
        (group.clone(), near.cloned().collect())
    });
    let note = |(name, of): &(String, Vec<(String, f64)>)| {
        let low = of.iter().map(|r| r.1).fold(f64::MAX, f64::min);
        let high = of.iter().map(|r| r.1).fold(0.0, f64::max);
        match of.len() {
            1 => format!("Not drawn: {name}, {} times the first", number(low)),
            _ => format!("Not drawn: {name}, {} to {} times the first", number(low), number(high)),
        }
    };
    (shown.collect(), ratios.iter().map(note).collect())
}

/// Lines over two axes, with a mark at each point.
pub fn lines(title: &str, units: (&str, &str), lines: &Points<f64>, is_log: (bool, bool)) -> String {
    let (height, bottom) = (440.0, 440.0 - BOTTOM);
    let points = || lines.iter().flat_map(|l| l.1.iter());
    let (x, y) = (Axis::over(points().map(|p| p.0), is_log.0), Axis::over(points().map(|p| p.1), is_log.1));
    let mut svg = frame(title, height);
    let names: Vec<&String> = lines.iter().map(|l| &l.0).collect();
    legend(&mut svg, &names);
    grid(&mut svg, x, units.0, bottom);
    let (wide, high) = (WIDTH - LEFT - RIGHT, bottom - TOP);
    let down = |value: f64| TOP + (1.0 - y.at(value)) * high;
    for value in y.ticks() {
        let at = down(value);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/>", WIDTH - RIGHT);
        text(&mut svg, (LEFT - 8.0, at + 4.0), "end", "muted", &tick(value));
    }
    text(&mut svg, (LEFT, TOP - 8.0), "end", "muted", units.1);
    for (name, points) in lines {
        let colour = colour(name, &names);
        let place = |p: &(f64, f64)| (LEFT + x.at(p.0) * wide, down(p.1));
        let path: Vec<String> = points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(svg, "<polyline class=\"l{colour}\" points=\"{}\"/>", path.join(" "));
        // More than these are a line by themselves.
        for (x, y) in points.iter().filter(|_| points.len() <= 40).map(place) {
            let _ = writeln!(svg, "<circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        }
    }
    svg + "</svg>\n"
}

/// A series' colour, by its place: a collector has its own, whoever else is there, and so has what begins with its name alone.
fn colour(name: &str, series: &[&String]) -> usize {
    let known = |name: &str| KNOWN.iter().position(|k| *k == name);
    if series.iter().all(|s| known(s).is_some()) {
        return known(name).unwrap_or(0);
    }
    series.iter().position(|s| *s == name).unwrap_or(0) % COLOURS.len()
}

fn frame(title: &str, height: f64) -> String {
    let title = escape(title);
    let mut style = String::from(
        ".back{fill:#fff}.head{fill:#1b1f24}.name,.value{fill:#32383f}.muted{fill:#656d76}.grid{stroke:#e4e7eb;fill:none}\
         polyline{fill:none;stroke-width:2;stroke-linejoin:round}",
    );
    let mut dark = String::from(
        ".back{fill:#14171c}.head{fill:#eef1f4}.name,.value{fill:#d3d8de}.muted{fill:#98a2ad}.grid{stroke:#2b3138}",
    );
    for (n, (on_white, on_black)) in COLOURS.iter().enumerate() {
        let _ = write!(style, ".f{n}{{fill:{on_white}}}.l{n}{{stroke:{on_white}}}");
        let _ = write!(dark, ".f{n}{{fill:{on_black}}}.l{n}{{stroke:{on_black}}}");
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"12\" role=\"img\">\n<title>{title}</title>\n\
         <style>{style}@media(prefers-color-scheme:dark){{{dark}}}</style>\n\
         <rect class=\"back\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n",
    );
    let _ = writeln!(svg, "<text class=\"head\" x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"600\">{title}</text>");
    svg
}

/// What colour is whose; nothing where there is one series alone, which the title names.
fn legend(svg: &mut String, series: &[&String]) {
    if series.len() < 2 {
        return;
    }
    let (mut x, mut y) = (16.0, 40.0);
    for name in series {
        let long = 34.0 + 6.4 * name.chars().count() as f64;
        if x + long > WIDTH && x > 16.0 {
            (x, y) = (16.0, y + 16.0);
        }
        let colour = colour(name, series);
        let _ =
            writeln!(svg, "<rect class=\"f{colour}\" x=\"{x:.0}\" y=\"{y:.0}\" width=\"10\" height=\"10\" rx=\"2\"/>");
        text(svg, (x + 15.0, y + 9.5), "start", "name", name);
        x += long;
    }
}

/// The lines across, with what they stand for below.
fn grid(svg: &mut String, axis: Axis, unit: &str, bottom: f64) {
    for value in axis.ticks() {
        let x = LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/>");
        text(svg, (x, bottom + 16.0), "middle", "muted", &tick(value));
    }
    text(svg, (WIDTH - RIGHT, bottom + 34.0), "end", "muted", unit);
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, what: &str) {
    let what = escape(what);
    let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>");
}

/// A number beside an axis: round as it is, without digits that say nothing.
fn tick(value: f64) -> String {
    let text = number(value);
    let (digits, unit) = text.split_once(' ').map_or((text.as_str(), ""), |(digits, unit)| (digits, unit));
    let short = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    [short, unit].join(" ").trim_end().to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, bars: &[(&str, f64)]) -> (String, Vec<(String, f64)>) {
        (name.to_owned(), bars.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect())
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let axis = Axis::over([3.0, 47.0].into_iter(), false);
        assert_eq!(axis.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0]);
        let axis = Axis::over([0.3, 4700.0].into_iter(), true);
        assert_eq!(axis.ticks(), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        assert!(axis.at(0.0) == 0.0 && axis.at(4700.0) > 0.9);
        assert_eq!(Axis::over(std::iter::empty(), true).ticks().len(), 6);
    }

    #[test]
    fn numbers_beside_an_axis_are_short() {
        assert_eq!([0.0, 0.5, 20.0, 500.0, 150_000.0, 2.5e6].map(tick), ["0", "0.5", "20", "500", "150 k", "2.5 M"]);
    }

    #[test]
    fn a_longer_bar_is_a_greater_value() {
        let svg = bars("t", "ns", &vec![group("v5 & more", &[("a", 1.0), ("b", 2.0)])]);
        let widths: Vec<f64> = svg
            .lines()
            .filter(|l| l.contains("height=\"13.0\""))
            .filter_map(|l| l.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
        assert!(svg.contains("v5 &amp; more") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn what_is_far_beyond_the_first_is_said_and_not_drawn() {
        let (shown, beyond) = within(&vec![
            group("v5", &[("flowlane", 100.0), ("nfcapd", 120.0), ("netflow", 40_000.0)]),
            group("v9", &[("flowlane", 100.0), ("nfcapd", 900.0), ("netflow", 50_000.0)]),
        ]);
        assert_eq!(shown.iter().map(|g| g.1.len()).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(beyond, ["Not drawn: netflow, 400 to 500 times the first"]);
    }

    #[test]
    fn a_collector_has_one_colour_in_every_chart() {
        let [a, b, c] = ["flowlane", "goflow2", "v5"].map(str::to_owned);
        assert_eq!(colour("goflow2", &[&a, &b]), 4);
        assert_eq!(colour("goflow2", &[&a, &b, &c]), 1);
    }

    #[test]
    fn lines_go_through_their_points() {
        let points = vec![("x".to_owned(), vec![(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)])];
        let svg = lines("t", ("n", "us"), &points, (true, true));
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (1, 3));
    }
}
