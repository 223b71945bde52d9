//! Tables and charts in a document, made anew from raw data: what stands between two comments is the tool's.
//!
//! ```text
//! <!-- versus report: cpu benches/cost.jsonl -->        the table `cpu` of that raw data, and where it is from
//! <!-- versus report: chart cpu benches/cost.jsonl -->  the chart, as benches/charts/cpu.svg
//! <!-- end -->
//! ```

use crate::raw;
use crate::report::Report;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- versus report: ";
const END: &str = "<!-- end -->";

/// A document with its marked places filled in, and the charts that it shows.
pub struct Filled {
    /// Files and what is to be in them, the document first.
    files: Vec<(PathBuf, String)>,
}

impl Filled {
    /// Of a document; raw data is named from where the document is.
    ///
    /// # Errors
    /// A file that cannot be read, a table or chart that there is none of, a place without an end.
    pub fn of(document: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
        let base = document.parent().unwrap_or(Path::new("."));
        let (mut filled, mut charts) = (String::new(), Vec::new());
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            filled += line;
            filled.push('\n');
            let Some(asked) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(" -->")) else { continue };
            let place = || format!("{}, line {}: {asked}", document.display(), at + 1);
            if !lines.by_ref().any(|(_, line)| line == END) {
                bail!("{}: no line {END} behind it", place());
            }
            filled += &one(asked, base, &mut charts).with_context(place)?;
            filled += END;
            filled.push('\n');
        }
        let mut files = vec![(document.to_owned(), filled)];
        files.extend(charts);
        Ok(Self { files })
    }

    /// Names of the files that are not as they should be.
    pub fn stale(&self) -> Vec<String> {
        let is_stale = |(path, text): &&(PathBuf, String)| std::fs::read_to_string(path).ok().as_ref() != Some(text);
        self.files.iter().filter(is_stale).map(|(path, _)| path.display().to_string()).collect()
    }

    /// Writes what is not as it should be.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self) -> anyhow::Result<()> {
        for (path, text) in &self.files {
            let put = || {
                std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
                std::fs::write(path, text)
            };
            put().with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// What one marked place holds.
fn one(asked: &str, base: &Path, charts: &mut Vec<(PathBuf, String)>) -> anyhow::Result<String> {
    let mut words: Vec<&str> = asked.split_whitespace().collect();
    let is_chart = words.first() == Some(&"chart");
    if is_chart {
        words.remove(0);
    }
    let (Some((name, files)), true) = (words.split_first(), words.len() > 1) else {
        bail!("a table or `chart` and a chart, then files");
    };
    let mut entries = Vec::new();
    for file in files {
        entries.extend(raw::read(&base.join(file))?);
    }
    let report = Report::new(entries);
    if !is_chart {
        let table = report.table(name).with_context(|| format!("there is no table {name} of this raw data"))?;
        return Ok(format!("\n{}\n{}\n", table.markdown(), report.origin(files)));
    }
    let chart = report.chart(name).with_context(|| format!("there is no chart {name} of this raw data"))?;
    let folder = Path::new(files[0]).parent().unwrap_or(Path::new("")).join("charts");
    let file = folder.join(format!("{name}.svg"));
    charts.push((base.join(&file), chart.svg));
    Ok(format!("\n![{}]({})\n\n", chart.title, file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Scratch;

    const RAW: &str = r#"{"kind":"machine","processor":"p","cores":2,"kernel":"k","commit":"c","time":86400,"command":"versus rate","peers":{},"missing":{}}
{"kind":"loss_free","workload":"v5","peer":"flowlane","sender":"plain","round":1,"datagrams_per_second":1000.0,"flows_per_second":30000.0,"is_sender_limit":false,"trials":3}
"#;

    #[test]
    fn what_stands_between_the_marks_is_made_anew_and_nothing_else() {
        let scratch = Scratch::new(&std::env::temp_dir(), "document").unwrap();
        let path = scratch.path().join("page.md");
        let put = |text: &str| std::fs::write(&path, text).unwrap();
        std::fs::write(scratch.path().join("run.jsonl"), RAW).unwrap();
        put("# Title\n<!-- versus report: rate run.jsonl -->\nold\n<!-- end -->\nmine\n\
             <!-- versus report: chart rate run.jsonl -->\n<!-- end -->\n");
        let filled = Filled::of(&path).unwrap();
        assert_eq!(filled.stale().len(), 2);
        filled.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Title\n<!-- versus report: rate run.jsonl -->\n\n| workload |"), "{text}");
        assert!(text.contains("`versus rate`, commit c, 1970-01-02: [raw data](run.jsonl)"), "{text}");
        assert!(text.contains("<!-- end -->\nmine\n") && text.contains("](charts/rate.svg)") && !text.contains("old"));
        assert!(scratch.path().join("charts/rate.svg").exists());
        assert!(Filled::of(&path).unwrap().stale().is_empty());
        for wrong in
            ["rate run.jsonl", "cost run.jsonl -->\n<!-- end", "rate -->\n<!-- end", "rate none.jsonl -->\n<!-- end"]
        {
            put(&format!("<!-- versus report: {wrong} -->\n"));
            assert!(Filled::of(&path).is_err(), "{wrong}");
        }
    }
}
