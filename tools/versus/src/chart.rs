//! Charts as SVG: bars in groups, and lines, on linear or logarithmic axes.

use std::fmt::Write;

/// Colours that are told apart in print and by most eyes, in the order of the series.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c510a", "#666666"];
const WIDTH: f64 = 860.0;
/// Room for the names at the left, and for the axis below.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 80.0;
const BOTTOM: f64 = 44.0;

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

/// Horizontal bars: a group a name, a bar a series in it.
pub fn bars(title: &str, unit: &str, groups: &Points<String>, is_log: bool) -> String {
    let mut series: Vec<&String> = Vec::new();
    for (name, _) in groups.iter().flat_map(|g| &g.1) {
        if !series.contains(&name) {
            series.push(name);
        }
    }
    let values = || groups.iter().flat_map(|g| g.1.iter().map(|b| b.1));
    // A bar's length is its value, unless the values are too far apart for that.
    let far = values().fold(0.0, f64::max) > 30.0 * values().fold(f64::MAX, f64::min);
    let axis = Axis::over(values(), is_log && far);
    let (bar, gap) = (14.0, 12.0);
    let rows: usize = groups.iter().map(|g| g.1.len()).sum();
    let height = TOP + rows as f64 * bar + groups.len() as f64 * gap + BOTTOM;
    let mut svg = frame(title, height);
    legend(&mut svg, &series);
    let width = WIDTH - LEFT - RIGHT;
    grid(&mut svg, axis, unit, height);
    let mut y = TOP;
    for (group, of) in groups {
        let middle = y + of.len() as f64 * bar / 2.0 + 4.0;
        text(&mut svg, LEFT - 8.0, middle, "end", group);
        for (name, value) in of {
            let long = (axis.at(*value) * width).max(1.0);
            let colour = COLOURS[series.iter().position(|s| *s == name).unwrap_or(0) % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{long:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                bar - 2.0
            );
            text(&mut svg, LEFT + long + 4.0, y + bar - 4.0, "start", &crate::table::number(*value));
            y += bar;
        }
        y += gap;
    }
    svg + "</svg>\n"
}

/// Lines over two axes.
pub fn lines(title: &str, units: (&str, &str), lines: &Points<f64>, is_log: (bool, bool)) -> String {
    let height = 420.0;
    let points = || lines.iter().flat_map(|l| l.1.iter());
    let (x, y) = (Axis::over(points().map(|p| p.0), is_log.0), Axis::over(points().map(|p| p.1), is_log.1));
    let mut svg = frame(title, height);
    legend(&mut svg, &lines.iter().map(|l| &l.0).collect::<Vec<_>>());
    grid(&mut svg, x, units.0, height);
    let (wide, high) = (WIDTH - LEFT - RIGHT, height - TOP - BOTTOM);
    let down = |value: f64| TOP + (1.0 - y.at(value)) * high;
    for tick in y.ticks() {
        let at = down(tick);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#ddd\"/>", WIDTH - RIGHT);
        text(&mut svg, LEFT - 8.0, at + 4.0, "end", &crate::table::number(tick));
    }
    text(&mut svg, 8.0, TOP - 8.0, "start", units.1);
    for (at, (_, points)) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let path: Vec<String> =
            points.iter().map(|p| format!("{:.1},{:.1}", LEFT + x.at(p.0) * wide, down(p.1))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
    }
    svg + "</svg>\n"
}

fn frame(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\" role=\"img\">\n<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        title = escape(title)
    );
    let _ = writeln!(svg, "<text x=\"8\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>", escape(title));
    svg
}

fn legend(svg: &mut String, series: &[&String]) {
    let (mut x, mut y) = (LEFT, 32.0);
    for (at, name) in series.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let long = 34.0 + 6.2 * name.chars().count() as f64;
        if x + long > WIDTH && x > LEFT {
            (x, y) = (LEFT, y + 16.0);
        }
        let _ = writeln!(svg, "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
        text(svg, x + 14.0, y + 9.0, "start", name);
        x += long;
    }
}

/// The lines across, with what they stand for below.
fn grid(svg: &mut String, axis: Axis, unit: &str, height: f64) {
    let bottom = height - BOTTOM;
    for tick in axis.ticks() {
        let x = LEFT + axis.at(tick) * (WIDTH - LEFT - RIGHT);
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom:.1}\" stroke=\"#ddd\"/>");
        text(svg, x, bottom + 14.0, "middle", &crate::table::number(tick));
    }
    text(svg, WIDTH - RIGHT, bottom + 32.0, "end", unit);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(what));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_longer_bar_is_a_greater_value() {
        let groups = vec![("v5 & more".to_owned(), vec![("a".to_owned(), 1.0), ("b".to_owned(), 2.0)])];
        let svg = bars("t", "ns", &groups, false);
        let widths: Vec<f64> = svg
            .lines()
            .filter(|l| l.contains("height=\"12.0\""))
            .filter_map(|l| l.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
        assert!(svg.contains("v5 &amp; more") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn lines_go_through_their_points() {
        let points = vec![("x".to_owned(), vec![(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)])];
        let svg = lines("t", ("n", "us"), &points, (true, true));
        assert_eq!(svg.matches("<polyline").count(), 1);
    }
}
