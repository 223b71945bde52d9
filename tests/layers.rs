//! Imports go downward only: a module names modules of its own layer and of those below it.

use std::path::{Path, PathBuf};

/// The layer of each top-level module, as the table in `lib.rs` has it.
const LAYERS: &[(&str, u8)] = &[
    ("error", 0),
    ("wire", 0),
    ("elements", 0),
    ("columns", 1),
    ("template", 1),
    ("value", 1),
    ("source", 1),
    ("net", 1),
    ("plan", 2),
    ("sink", 2),
    ("keep", 3),
    ("enrich", 3),
    ("rows", 3),
    ("decode", 3),
    ("query", 4),
    ("collect", 4),
    ("cli", 4),
];

/// What a module may not see although it is below: sinks see batches alone.
const NEVER: &[(&str, &str)] = &[
    ("sink", "wire"),
    ("keep", "wire"),
    ("enrich", "wire"),
    ("query", "wire"),
    ("query", "collect"),
    ("net", "wire"),
    ("net", "template"),
];

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|l| l.0 == module).map(|l| l.1)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a line names after `crate::`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or(""))
}

#[test]
fn imports_go_downward() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in files {
        let inside = path.strip_prefix(&src).expect("in src");
        let module = inside.iter().next().and_then(|m| Path::new(m).file_stem()?.to_str()).unwrap_or_default();
        // Tests may take what they need to make their input.
        let Some(own) = layer(module).filter(|_| inside.file_stem().is_some_and(|s| s != "tests")) else { continue };
        let text = std::fs::read_to_string(&path).expect("text");
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("mod tests {") {
                break;
            }
            for other in named(line) {
                seen += 1;
                let upward = layer(other).is_some_and(|l| l > own);
                if upward || NEVER.contains(&(module, other)) {
                    wrong.push(format!("src/{}:{}: {module} may not use {other}", inside.display(), number + 1));
                }
            }
        }
    }
    assert!(seen > 60, "only {seen} imports found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in src.read_dir().expect("src").flatten() {
        let path = entry.path();
        let module = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        assert!(matches!(&*module, "lib" | "main") || layer(&module).is_some(), "{module} has no layer");
    }
}
