//! The page: markup with places for the numbers, the style and the scripts.

use serde_json::Value;
use std::hash::{BuildHasher, RandomState};

const MARKUP: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const CHART: &str = include_str!("page/vendor/chart.umd.min.js");
const LICENCES: &str = include_str!("page/vendor/LICENSE.txt");
const SCRIPTS: [&str; 4] = [
    include_str!("page/text.js"),
    include_str!("page/charts.js"),
    include_str!("page/losses.js"),
    include_str!("page/main.js"),
];

/// Fills the places of the markup, once: what is filled in is not looked at again.
pub(super) fn html(title: &str, data: &Value) -> String {
    // Scripts and styles run only with a word that whoever sent the data could not know.
    let nonce = format!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2));
    let mut page = String::with_capacity(CHART.len() + (64 << 10));
    for (i, part) in MARKUP.split("{{").enumerate() {
        let Some((place, rest)) = part.split_once("}}").filter(|_| i > 0) else {
            page += part;
            continue;
        };
        match place {
            "nonce" => page += &nonce,
            "title" => page += &text(title),
            "style" => page += STYLE,
            "data" => page += &script_data(data),
            // The map of its sources is not here, and is not to be asked for.
            "chart" => page += CHART.split("//# sourceMappingURL").next().unwrap_or(CHART),
            "script" => SCRIPTS.iter().for_each(|s| page += s),
            "licences" => page += &text(LICENCES),
            _ => {}
        }
        page += rest;
    }
    page
}

/// Text between tags or in an attribute.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c => safe.push(c),
        }
    }
    safe
}

/// JSON inside a script element: nothing in it can end the element, or begin a comment.
fn script_data(data: &Value) -> String {
    let raw = data.to_string();
    let mut safe = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            // These stand in strings only, where an escape means the same.
            '<' => safe += "\\u003c",
            '>' => safe += "\\u003e",
            '&' => safe += "\\u0026",
            '\u{2028}' => safe += "\\u2028",
            '\u{2029}' => safe += "\\u2029",
            c => safe.push(c),
        }
    }
    safe
}
