//! `flowlane decode`.

use super::collect::{rate, registry};
use super::names::NameArgs;
use super::output::{Out, file, standard};
use super::{kernel, on_terminal, say, usage};
use anyhow::Context;
use clap::ValueEnum;
use flowlane::collect::Summary;
use flowlane::columns::gather::Kernel;
use flowlane::columns::{Batch, Timestamp};
use flowlane::decode::{Config, Decoder};
use flowlane::elements::{Registry, v9_scope_name};
use flowlane::enrich::Enricher;
use flowlane::error::ErrorKind;
use flowlane::query::Filter;
use flowlane::rows::netflow_json::NetflowJson;
use flowlane::rows::records::RecordLines;
use flowlane::rows::{self, Session};
use flowlane::sink::table::protocol;
use flowlane::sink::{Format, Writer, options};
use flowlane::source::{Datagram, Source};
use flowlane::template::{Kind, VARIABLE};
use flowlane::wire;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Cursor, IsTerminal, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

/// Arguments of `flowlane decode`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane decode capture.pcap                      a table of flows
  flowlane decode capture.pcap --format ndjson      all columns, one flow a line
  flowlane decode *.pcap --out flows.parquet --format parquet
  flowlane decode capture.pcap --templates          what each exporter says its records are
  flowlane decode capture.pcap --options            the exporters' options records
  echo 000a0010 65a0... | flowlane decode -         hex text: a datagram a line, or apart by empty lines

Fields that have no column stand under their elements' names: in NDJSON and CSV in the object extras, in Parquet and Arrow in columns
x_..., as `flowlane export` has them in every format.
Exit code 1 where a file is cut or of another kind: what could be read is printed before.")]
pub struct Args {
    /// Captures (pcap, pcapng), IPFIX files (RFC 5655), any of them gzip'ed; - is standard input, which may be hex text
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    // A file's extension says it where the flag does not.
    /// What to write [default: what the extension of --out says, else table]
    #[arg(short, long, value_enum)]
    format: Option<DecodeFormat>,
    /// A file, a folder (for flows.<format> in it), or - for standard output. A file that is there is replaced, once the new
    /// one is whole
    #[arg(short, long, value_name = "PATH", default_value = "-")]
    out: Out,
    /// Take datagrams to this UDP port only; repeatable [default: any port]
    #[arg(short, long, value_name = "PORT", value_parser = port)]
    port: Vec<u16>,
    /// List the templates in place of flows
    #[arg(long, conflicts_with = "options")]
    templates: bool,
    /// Write the options records (what exporters say about themselves) in place of flows, as NDJSON
    #[arg(long)]
    options: bool,
    /// Sampling rate of exporters that do not tell theirs
    #[arg(long, value_name = "RATE", value_parser = rate, allow_hyphen_values = true)]
    sampling_rate: Option<f64>,
    #[command(flatten)]
    names: NameArgs,
    /// Instructions that records are read with, scalar, avx2 or neon [default: FLOWLANE_KERNEL, else the fastest here]
    #[arg(long, value_name = "NAME")]
    kernel: Option<Kernel>,
    /// Elements to add or override: lines of `pen,id,name,type`
    #[arg(long, value_name = "FILE")]
    elements: Option<PathBuf>,
    /// Print a summary on standard error
    #[arg(long)]
    summary: bool,
    /// As --summary, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DecodeFormat {
    /// Columns for people
    Table,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated, the same header always
    Csv,
    /// Parquet, the full schema
    Parquet,
    /// An Arrow IPC file, the full schema
    Arrow,
    /// Every record as it was sent, its fields in hex
    Records,
    /// The gzip file of Python's `netflow` package
    NetflowJson,
}

impl DecodeFormat {
    fn of_file(format: Format) -> Self {
        match format {
            Format::Arrow => Self::Arrow,
            Format::Ndjson => Self::Ndjson,
            Format::Csv => Self::Csv,
            _ => Self::Parquet,
        }
    }

    fn of_sink(self) -> Format {
        match self {
            Self::Table => Format::Table,
            Self::Ndjson => Format::Ndjson,
            Self::Csv => Format::Csv,
            Self::Parquet => Format::Parquet,
            Self::Arrow => Format::Arrow,
            Self::Records => Format::Records,
            Self::NetflowJson => Format::NetflowJson,
        }
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a UDP port is a number up to 65535, like 2055".to_string())
}

/// Files of at least so many bytes show their progress.
const PROGRESS: u64 = 32 << 20;

pub fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    if args.files.is_empty() {
        if io::stdin().is_terminal() {
            return Err(usage(
                "which file? give FILE..., or - for standard input; `flowlane decode --help` has examples",
            ));
        }
        args.files.push("-".into());
    }
    if args.files.iter().filter(|f| f.as_os_str() == "-").count() > 1 {
        return Err(usage("standard input can be read once only"));
    }
    if (args.options || args.templates) && !matches!(args.format, None | Some(DecodeFormat::Ndjson)) {
        let what = if args.options { "--options writes NDJSON" } else { "--templates writes text" };
        return Err(usage(format!("{what}, and takes no --format")));
    }
    if args.templates && args.format.is_some() {
        return Err(usage("--templates writes text, and takes no --format"));
    }
    let asked = args.format.or_else(|| args.out.format().map(DecodeFormat::of_file)).unwrap_or(DecodeFormat::Table);
    args.format = Some(asked);
    let format = if args.options || args.templates { Format::Records } else { asked.of_sink() };
    if let Some(input) = args.files.iter().find(|input| args.out.is(input)) {
        return Err(usage(format!("--out {} is an input, which it would replace", input.display())));
    }
    let binary = matches!(format, Format::Parquet | Format::Arrow | Format::NetflowJson);
    if args.out == Out::Standard && binary && io::stdout().is_terminal() {
        return Err(usage("a terminal shows no such file; give --out FILE, or --format ndjson"));
    }
    if args.names.filter().is_some() && (format.is_of_messages() || args.options || args.templates) {
        return Err(usage("--where chooses rows: give --format table, ndjson, csv, parquet or arrow"));
    }
    let registry = registry(args.elements.as_ref())?;
    let run = Run::new(&args, format, registry)?;
    let cut =
        run.all(&args).map_err(|error| match error.chain().next().and_then(|e| e.downcast_ref::<io::Error>()) {
            // What no context was given to is the output's; a reader that has seen enough is no error.
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => error.context(format!("cannot write {}", args.out)),
            _ => error,
        })?;
    Ok(if cut { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One run over files.
struct Run {
    config: Config,
    decoder: Decoder,
    enricher: Enricher,
    filter: Option<Filter>,
    writer: Writer,
    messages: Option<Messages>,
    /// Whether rows are what is asked for.
    flows: bool,
    options: bool,
    templates: BTreeMap<String, String>,
    summary: Summary,
    line: Vec<u8>,
    // The file that is read.
    name: String,
    // Datagrams in which something is wrong, and what is wrong with the first of them.
    wrong: u64,
    first_wrong: Vec<String>,
}

/// Datagrams of which it is said what is wrong.
const WRONG: usize = 20;

/// Outputs that are made from messages.
enum Messages {
    Records(Box<RecordLines>),
    NetflowJson(Box<NetflowJson>),
}

impl Run {
    fn new(args: &Args, format: Format, registry: Arc<Registry>) -> anyhow::Result<Self> {
        let place = match &args.out {
            Out::Standard => None,
            Out::File(path) => Some(path.clone()),
            Out::Folder(path) => {
                std::fs::create_dir_all(path)
                    .with_context(|| format!("cannot make the folder {}; give --out another", path.display()))?;
                Some(path.join("flows").with_extension(format.extension()))
            }
        };
        let writer = match &place {
            None => Writer::to_stream(format, standard()),
            Some(path) => file(format, path)?,
        };
        let files = args.names.files()?;
        let config = Config {
            registry: registry.clone(),
            sampling_rate: args.sampling_rate,
            rules: files.tables().exporters.rules(),
            kernel: kernel(args.kernel)?,
            // Rows are handed over when there are many, never by age: the order is the wire's.
            batch_rows: 1 << 16,
            batch_age_us: i64::MAX / 4,
            ..Config::default()
        };
        let messages = match args.format {
            _ if args.options || args.templates => None,
            Some(DecodeFormat::Records) => {
                Some(Messages::Records(Box::new(RecordLines::new(Session::with_registry(registry)))))
            }
            Some(DecodeFormat::NetflowJson) => Some(Messages::NetflowJson(Box::default())),
            _ => None,
        };
        Ok(Self {
            decoder: Decoder::new(config.clone()),
            config,
            enricher: Enricher::new(files.tables().clone(), args.names.fill_as()),
            filter: args.names.filter().cloned(),
            writer,
            messages,
            flows: !args.options && !args.templates && !format.is_of_messages(),
            options: args.options,
            templates: BTreeMap::new(),
            summary: Summary::default(),
            line: Vec::new(),
            name: String::new(),
            wrong: 0,
            first_wrong: Vec::new(),
        })
    }

    /// Decodes a file; the inner error says why and where the file ended too early.
    fn file(&mut self, path: &Path, args: &Args) -> anyhow::Result<Result<(), String>> {
        let standard = path.as_os_str() == "-";
        let name = if standard { "standard input".to_string() } else { path.display().to_string() };
        self.name.clone_from(&name);
        let mut bar = None;
        let source = if standard {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
            if bytes.trim_ascii().is_empty() {
                return Ok(Err(format!("{name} is empty; give hex text, a capture, or a FILE")));
            }
            match hex_datagrams(&bytes) {
                Some(datagrams) => return self.hex(&name, datagrams),
                // Captures and messages all have zero bytes at their start; text has none.
                None if std::str::from_utf8(&bytes).is_ok_and(|t| !t.contains('\0')) => {
                    return Ok(Err(format!("{name}: text, but not hex digits at byte 0; give hex text or a capture")));
                }
                None => Source::new(Cursor::new(bytes)),
            }
        } else {
            let file = match File::open(path) {
                Ok(file) => file,
                Err(error) => return Ok(Err(format!("cannot read {name}: {error}"))),
            };
            let size = file.metadata().map_or(0, |m| m.len());
            if size >= PROGRESS && on_terminal() && !(args.out == Out::Standard && io::stdout().is_terminal()) {
                let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
                let shown = ProgressBar::new(size).with_message(name.clone());
                shown.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar = Some(shown);
            }
            Source::new(file)
        };
        let mut source = match source {
            Ok(source) => source,
            Err(error) => return Ok(Err(format!("{name}: {error}"))),
        };
        let mut first = true;
        let mut seen = 0u64;
        let end = loop {
            match source.next() {
                Some(Ok(datagram)) => {
                    if std::mem::take(&mut first) && datagram.exporter.ip().is_unspecified() {
                        // A file of messages is a session of its own.
                        self.next_session()?;
                    }
                    let wanted = args.port.is_empty()
                        || args.port.contains(&datagram.destination.port())
                        || datagram.exporter.ip().is_unspecified();
                    if wanted {
                        self.datagram(&datagram)?;
                    }
                }
                Some(Err(error)) => break Err(format!("{name}: {error}")),
                None => break Ok(()),
            }
            seen += 1;
            if let Some(bar) = bar.as_ref().filter(|_| seen.is_multiple_of(4096)) {
                bar.set_position(source.bytes_read());
            }
        };
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        self.write_pending()?;
        self.summary.fragments_lost += source.stats().fragments_lost;
        Ok(end)
    }

    /// Decodes what is hex; what is not is told of after that.
    fn hex(&mut self, name: &str, datagrams: Vec<Result<Vec<u8>, String>>) -> anyhow::Result<Result<(), String>> {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let now = Timestamp::from(SystemTime::now()).0;
        let mut wrong = Vec::new();
        for (datagram, frame) in datagrams.iter().zip(1..) {
            match datagram {
                Ok(bytes) => {
                    let (exporter, destination) = (nowhere, nowhere);
                    self.datagram(&Datagram { frame, bytes, exporter, destination, received_us: now })?;
                }
                Err(error) => wrong.push(error.as_str()),
            }
        }
        self.write_pending()?;
        Ok(match wrong.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("{name}: {one}")),
            [first, rest @ ..] => Err(format!("{name}: {first}; and {} more", rest.len())),
        })
    }

    fn datagram(&mut self, datagram: &Datagram<'_>) -> anyhow::Result<()> {
        let Datagram { frame, bytes, exporter, received_us, .. } = *datagram;
        let outcome = self.decoder.decode(bytes, exporter, Timestamp(received_us));
        // A set that waits for its template is not wrong.
        if let Some(error) = outcome.error.filter(|e| e.kind != ErrorKind::UnknownTemplate) {
            self.wrong += 1;
            if self.first_wrong.len() < WRONG {
                let from = exporter.ip();
                self.first_wrong.push(format!("{} datagram {frame} from {from}: {error}", self.name));
            }
        }
        self.line.clear();
        let line = &mut self.line;
        match &mut self.messages {
            Some(Messages::Records(records)) => {
                // What is wrong is counted by the decoder.
                records.message(frame, exporter, received_us, bytes, &mut Text(&mut self.writer))?;
            }
            Some(Messages::NetflowJson(lines)) => {
                let (mut result, writer) = (Ok(()), &mut self.writer);
                let _ = lines.lines(bytes, exporter, received_us, |text| {
                    if result.is_ok() {
                        result = writer.write_text(text.as_bytes());
                    }
                });
                result?;
            }
            None => {}
        }
        if let Some(records) = self.decoder.next_options() {
            self.enricher.learn(&records);
            if self.options {
                for record in records.iter() {
                    options::ndjson(line, &record, &self.config.registry);
                }
            }
            self.decoder.recycle_options(records);
        }
        if !line.is_empty() {
            self.writer.write_text(line)?;
        }
        if self.decoder.has_full_batch() {
            self.write_pending()?;
        }
        Ok(())
    }

    /// Writes the rows that were decoded since the last call, in the order of the wire.
    fn write_pending(&mut self) -> anyhow::Result<()> {
        let mut batches: Vec<Arc<Batch>> = self.decoder.flush().into_iter().map(Arc::new).collect();
        if self.flows && !batches.is_empty() {
            batches.iter_mut().try_for_each(|batch| self.prepare(batch))?;
            self.writer.write_ordered(&batches)?;
        }
        for batch in batches {
            if let Some(batch) = Arc::into_inner(batch) {
                self.decoder.recycle(batch);
            }
        }
        Ok(())
    }

    /// Adds what tables know, and leaves out the rows that are not asked for.
    fn prepare(&mut self, batch: &mut Arc<Batch>) -> anyhow::Result<()> {
        if let Some(batch) = Arc::get_mut(batch) {
            self.enricher.join(batch);
        }
        let Some(filter) = &self.filter else { return Ok(()) };
        let selected = filter.select(batch)?;
        for (rows, unknown) in batch.runs().iter().map(|run| selected.left_out(run)) {
            self.summary.rows_filtered += rows;
            self.summary.rows_unknown += unknown;
        }
        if let Some(batch) = Arc::get_mut(batch) {
            batch.retain(&selected.holds);
        }
        Ok(())
    }

    /// Begins anew: no template of what came before is known.
    fn next_session(&mut self) -> anyhow::Result<()> {
        self.write_pending()?;
        self.sum_up();
        self.decoder = Decoder::new(self.config.clone());
        if let Some(Messages::Records(records)) = &mut self.messages {
            **records = RecordLines::new(Session::with_registry(self.config.registry.clone()));
        }
        Ok(())
    }

    fn sum_up(&mut self) {
        let rows = self.writer.rows();
        self.summary.merge(Summary::of(&self.decoder));
        self.summary.rows_written = rows;
        let templates = templates(&self.decoder, &self.config.registry);
        self.templates.extend(templates);
    }

    /// All files; whether one of them was cut or of another kind.
    fn all(mut self, args: &Args) -> anyhow::Result<bool> {
        let mut cut = false;
        for path in &args.files {
            if let Err(error) = self.file(path, args)? {
                // What could be read goes out before the line that says where it ended.
                self.write_pending()?;
                self.writer.flush()?;
                say(&format!("flowlane: {error}"));
                cut = true;
            }
        }
        self.end(args)?;
        Ok(cut)
    }

    fn end(mut self, args: &Args) -> anyhow::Result<()> {
        self.sum_up();
        if args.templates {
            let text: String = self.templates.into_values().collect();
            self.writer.write_text(text.as_bytes())?;
        }
        self.writer.finish()?;
        let s = &self.summary.stats;
        if args.json {
            let _ = writeln!(io::stderr(), "{}", self.summary.json());
        } else if args.summary {
            for line in &self.first_wrong {
                say(line);
            }
            if self.wrong > WRONG as u64 {
                say(&format!("and {} more datagrams in which something is wrong", self.wrong - WRONG as u64));
            }
            let _ = write!(io::stderr(), "{}", self.summary);
        } else if s.datagrams_malformed + s.sets_malformed + self.summary.sets_still_held > 0 {
            let first = self.first_wrong.first().map(|f| format!("; first {f}")).unwrap_or_default();
            say(&format!(
                "flowlane: not decoded: {} datagrams without a NetFlow header, {} malformed sets, {} sets without \
                 template{first} (--summary tells more)",
                s.datagrams_malformed, s.sets_malformed, self.summary.sets_still_held
            ));
        }
        if !args.json && !args.summary && self.summary.fragments_lost > 0 {
            let n = self.summary.fragments_lost;
            say(&format!("flowlane: fragments of {n} IP packets are missing: what they carried is not decoded"));
        }
        Ok(())
    }
}

/// The datagrams of hex text, or `None` for bytes that are no text.
///
/// A line is a datagram, unless empty lines stand between datagrams, or the first line is not a whole message: then
/// all lines up to the next empty one are a datagram.
fn hex_datagrams(bytes: &[u8]) -> Option<Vec<Result<Vec<u8>, String>>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let hex = |c: char| c.is_ascii_hexdigit() || c.is_whitespace() || matches!(c, 'x' | 'X' | ':' | ',');
    if text.is_empty() || !text.chars().take(64).all(hex) {
        return None;
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let apart = lines.iter().any(|l| l.is_empty());
    let whole = lines.first().and_then(|l| rows::decode_hex(l).ok()).is_some_and(|b| {
        wire::Message::parse(&b).is_ok_and(|m| m.damage().is_none()) && (lines.len() == 1 || !b.is_empty())
    });
    let parts: Vec<(usize, String)> = if apart || !whole {
        let mut parts = vec![(1, String::new())];
        for (i, line) in lines.iter().enumerate() {
            match parts.last_mut() {
                Some((_, part)) if !line.is_empty() => {
                    part.push_str(line);
                    part.push('\n');
                }
                _ => parts.push((i + 2, String::new())),
            }
        }
        parts.retain(|p| !p.1.is_empty());
        parts
    } else {
        lines.iter().enumerate().map(|(i, l)| (i + 1, (*l).to_string())).collect()
    };
    let decode = |(line, part): &(usize, String)| {
        rows::decode_hex(part).map_err(|e| format!("the hex text that begins in line {line}: {e}"))
    };
    Some(parts.iter().map(decode).collect())
}

/// What the templates of all exporters say, a block each.
fn templates(decoder: &Decoder, registry: &Registry) -> Vec<(String, String)> {
    let blocks = decoder.templates().map(|(ip, version, domain, template)| {
        let kind = if template.kind == Kind::Data { "template" } else { "options template" };
        let length = template.record_len().map_or("varying length".to_string(), |n| format!("{n} bytes a record"));
        let mut text = format!(
            "{ip} {} domain {domain} {kind} {}: {} fields, {length}\n",
            protocol(version),
            template.id,
            template.fields.len()
        );
        for (i, field) in template.fields.iter().enumerate() {
            let scope = i < usize::from(template.scope_count);
            let name = match v9_scope_name(field.id).filter(|_| version == 9 && scope) {
                Some(name) => name.to_string(),
                None => registry.key(version, field.pen, field.id),
            };
            let pen = if field.pen == 0 { String::new() } else { format!("{}/", field.pen) };
            let len = if field.len == VARIABLE { "varying".to_string() } else { field.len.to_string() };
            let scope = if scope { "  scope" } else { "" };
            let _ = writeln!(text, "  {:>12}  {len:>7}  {name}{scope}", format!("{pen}{}", field.id));
        }
        (format!("{ip:>39} {version:>2} {domain:>10} {:>5} {text}", template.id), text)
    });
    blocks.collect()
}

/// Text on its way to the writer.
struct Text<'a>(&'a mut Writer);

impl io::Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_text(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::hex_datagrams;

    #[test]
    fn hex_text_by_line_and_by_paragraph() {
        let v5 = format!("00050001{}", "00".repeat(20 + 48));
        let parts = |text: &str| hex_datagrams(text.as_bytes()).expect("text").iter().filter(|d| d.is_ok()).count();
        assert_eq!(parts(&v5), 1);
        assert_eq!(parts(&format!("{v5}\n{v5}\n")), 2);
        let (a, b) = v5.split_at(60);
        assert_eq!(parts(&format!("{a}\n{b}\n")), 1);
        assert_eq!(parts(&format!("{a}\n{b}\n\n{v5}\n")), 2);
        assert!(hex_datagrams(b"\xd4\xc3\xb2\xa1").is_none());
        assert!(hex_datagrams(b"hello").is_none());
        assert!(hex_datagrams(b"0005000").expect("text").iter().all(Result::is_err));
    }
}
