//! Pictures made of characters: bars and sparklines.

/// Whether the terminal's language has the characters for them.
pub fn has_blocks() -> bool {
    let value = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
    value.is_some_and(|v| v.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const WIDTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const ASCII: [char; 8] = ['.', ':', '-', '=', '+', '*', '%', '#'];

/// The values as characters from low to high, `width` at most: of neighbours that share one, the greatest is shown.
/// What is 0 is a space.
pub fn sparkline(values: &[f64], width: usize, blocks: bool) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let heights = if blocks { HEIGHTS } else { ASCII };
    let per = values.len().div_ceil(width.max(1)).max(1);
    let height = |value: f64| match (value / most * 8.0).ceil() {
        n if n >= 1.0 => heights.get(n as usize - 1).copied().unwrap_or(' '),
        _ => ' ',
    };
    values.chunks(per).map(|part| height(part.iter().copied().fold(0.0, f64::max))).collect()
}

/// A bar, `width` characters where the value is the greatest.
pub fn bar(value: f64, most: f64, width: usize, blocks: bool) -> String {
    if most <= 0.0 || value <= 0.0 {
        return String::new();
    }
    let eighths = ((value / most).min(1.0) * width as f64 * 8.0).round() as usize;
    if !blocks {
        return "#".repeat(eighths.div_ceil(8));
    }
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).and_then(|i| WIDTHS.get(i)));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures() {
        assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0], 10, true), " ▁▄█");
        assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0], 2, true), "▁█");
        assert_eq!(sparkline(&[1.0, 8.0], 9, false), ".#");
        assert_eq!(sparkline(&[0.0, 0.0], 9, true), "  ");
        assert_eq!(sparkline(&[], 0, true), "");
        assert_eq!(bar(5.0, 10.0, 3, true), "█▌");
        assert_eq!(bar(10.0, 10.0, 3, false), "###");
        assert_eq!((bar(0.0, 10.0, 3, true), bar(1.0, 0.0, 3, true)), (String::new(), String::new()));
    }
}
