//! The flags of `flowlane collect` from a file and from the environment.
//!
//! A key of the file is the long name of a flag, so that there is one list of settings, with one text for each. What
//! the command line says counts before the environment, and that before the file.

use super::{checks, read_text, say, sentence, usage};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command, FromArgMatches};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use toml::de::{DeTable, DeValue};

/// Arguments of `flowlane config`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane config > flowlane.toml               then take away the # before what is to change
  flowlane check-config flowlane.toml
  flowlane collect --config flowlane.toml
  FLOWLANE_LISTEN=9995 flowlane collect         every flag is an environment variable, too")]
pub struct ConfigArgs {}

/// Arguments of `flowlane check-config`.
#[derive(clap::Args)]
#[command(after_help = "Exit code 2 and one line for each key or value that is wrong, with its line in the file.")]
pub struct CheckArgs {
    /// The file
    file: PathBuf,
}

/// A setting of a file: a flag, its values, and the line it stands in.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    flag: String,
    // None for a flag that takes no value.
    values: Vec<Option<String>>,
    line: usize,
}

/// The command line of `flowlane collect`, with what the environment and the file say behind it.
///
/// # Errors
/// A file that cannot be read, and what is wrong in it, by its line.
pub fn expand(args: Vec<OsString>, cli: &Command) -> anyhow::Result<Vec<OsString>> {
    expand_with(args, cli, |name| std::env::var_os(name))
}

/// Variables of the environment that look like settings and are none.
pub fn unknown_variables(cli: &Command, names: impl Iterator<Item = OsString>) -> Vec<String> {
    // These two are of builds with debug assertions.
    let known: Vec<String> = flags(cli).filter_map(|arg| arg.get_long().map(variable)).collect();
    let is_known =
        |name: &str| matches!(name, "FLOWLANE_ABORT_AT" | "FLOWLANE_SLOW_AT") || known.iter().any(|k| k == name);
    names.filter_map(|n| n.into_string().ok()).filter(|n| n.starts_with("FLOWLANE_") && !is_known(n)).collect()
}

/// The variable of a flag.
fn variable(long: &str) -> String {
    format!("FLOWLANE_{}", long.to_uppercase().replace('-', "_"))
}

/// What each flag of a command line says, its file and environment behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, Vec<OsString>>);

impl Settings {
    /// The flags that say something else than in `before`.
    pub fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(|(flag, values)| before.0.get(*flag) != Some(*values)).map(|(flag, _)| flag.as_str())
    }
}

/// The arguments of `flowlane collect` as the program's command line, the environment and the file say now, and each as
/// it is written there.
///
/// # Errors
/// As [`expand`], and what the parser says to it.
pub fn collect_settings(cli: &Command) -> anyhow::Result<(super::collect::Args, Settings)> {
    settings_of(expand(std::env::args_os().collect(), cli)?, cli)
}

fn settings_of(args: Vec<OsString>, cli: &Command) -> anyhow::Result<(super::collect::Args, Settings)> {
    let matches = cli.clone().try_get_matches_from(args).map_err(|error| usage(sentence(&error)))?;
    let given = matches.subcommand_matches("collect").ok_or_else(|| usage("this is no `flowlane collect`"))?;
    let mut said = BTreeMap::new();
    for arg in flags(cli) {
        let id = arg.get_id().as_str();
        let values = if arg.get_action().takes_values() {
            given.get_raw(id).map(|values| values.map(OsStr::to_owned).collect()).unwrap_or_default()
        } else {
            vec![given.get_flag(id).to_string().into()]
        };
        said.insert(arg.get_long().unwrap_or_default().to_string(), values);
    }
    Ok((super::collect::Args::from_arg_matches(given)?, Settings(said)))
}

fn expand_with(
    mut args: Vec<OsString>,
    cli: &Command,
    value_of: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Vec<OsString>> {
    if args.get(1).is_none_or(|command| command != "collect") {
        return Ok(args);
    }
    // What is wrong on the command line, and its --help, is for the parser to say.
    let Ok(matches) = cli.clone().try_get_matches_from(&args) else { return Ok(args) };
    let Some(given) = matches.subcommand_matches("collect") else { return Ok(args) };
    let said = |arg: &Arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let mut more = Vec::new();
    let (mut open, mut file) = (Vec::new(), given.get_one::<PathBuf>("config").cloned());
    for arg in flags(cli) {
        let Some(long) = arg.get_long().filter(|_| !said(arg)) else { continue };
        match value_of(&variable(long)).filter(|v| !v.is_empty()) {
            Some(value) if long == "config" => file = Some(value.into()),
            // A list stands in one variable, with commas.
            Some(value) => more.extend(from_variable(arg, long, &value)),
            None => open.push(long),
        }
    }
    if let Some(path) = file {
        let settings = read(&path, cli)?;
        for setting in settings.into_iter().filter(|s| open.contains(&s.flag.as_str())) {
            more.extend(setting.values.iter().map(|value| argument(&setting.flag, value.as_deref()).into()));
        }
    }
    args.extend(more);
    Ok(args)
}

fn from_variable(arg: &Arg, long: &str, value: &OsStr) -> Vec<OsString> {
    let whole = |value: &OsStr| {
        let mut argument = OsString::from(format!("--{long}="));
        argument.push(value);
        argument
    };
    if arg.get_action().takes_values() {
        return match value.to_str().filter(|_| matches!(arg.get_action(), ArgAction::Append)) {
            Some(list) => list.split(',').map(|one| whole(OsStr::new(one.trim()))).collect(),
            None => vec![whole(value)],
        };
    }
    let off = ["0", "false", "no", "off"].iter().any(|no| value.eq_ignore_ascii_case(no));
    if off { Vec::new() } else { vec![format!("--{long}").into()] }
}

fn argument(flag: &str, value: Option<&str>) -> String {
    value.map_or_else(|| format!("--{flag}"), |value| format!("--{flag}={value}"))
}

/// The flags that can be set.
fn flags(cli: &Command) -> impl Iterator<Item = &Arg> {
    let command = cli.get_subcommands().find(|c| c.get_name() == "collect");
    command.into_iter().flat_map(Command::get_arguments).filter(|a| !matches!(a.get_long(), None | Some("help")))
}

/// The settings of a file, each of which the parser takes.
fn read(path: &Path, cli: &Command) -> anyhow::Result<Vec<Setting>> {
    let text = super::read_text(path)?;
    let (settings, wrong) = check(&text, cli);
    match wrong.into_iter().next() {
        Some((line, what)) => Err(usage(format!("{}:{line}: {what}", path.display()))),
        None => Ok(settings),
    }
}

/// What a file sets, and what is wrong in it, by line.
fn check(text: &str, cli: &Command) -> (Vec<Setting>, Vec<(usize, String)>) {
    let line_of = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(span.start));
            return (Vec::new(), vec![(line, error.message().to_string())]);
        }
    };
    let (mut settings, mut wrong) = (Vec::new(), Vec::new());
    for (key, value) in &table {
        let line = line_of(key.span().start);
        let flag = key.get_ref().replace('_', "-");
        let Some(arg) = flags(cli).find(|a| a.get_long() == Some(flag.as_str()) && flag != "config") else {
            let known: Vec<&str> = flags(cli).filter_map(Arg::get_long).filter(|l| *l != "config").collect();
            wrong.push((line, format!("there is no setting {:?}; known are {}", key.get_ref(), known.join(", "))));
            continue;
        };
        let values = match values(arg, value.get_ref()) {
            Ok(values) => values,
            Err(what) => {
                wrong.push((line, format!("{flag} {what}")));
                continue;
            }
        };
        for value in &values {
            let line = ["flowlane".to_string(), "collect".to_string(), argument(&flag, value.as_deref())];
            if let Err(error) = cli.clone().try_get_matches_from(line) {
                // What one setting needs of another, or forbids it, is seen when all of them are there.
                if matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) {
                    continue;
                }
                wrong.push((line_of(key.span().start), sentence(&error)));
            }
        }
        settings.push(Setting { flag, values, line });
    }
    settings.sort_by_key(|s| s.line);
    wrong.sort();
    (settings, wrong)
}

/// What is wrong with settings that are right one by one: what they lack or forbid each other, and what this host has not
/// that they name.
fn check_together(settings: &[&Setting], cli: &Command) -> Vec<(usize, String)> {
    let first = settings.first().map_or(1, |setting| setting.line);
    let line_of = |flag: &str| settings.iter().find(|s| s.flag == flag).map_or(first, |s| s.line);
    let given = settings.iter().flat_map(|s| s.values.iter().map(|value| argument(&s.flag, value.as_deref())));
    let line = ["flowlane".to_string(), "collect".to_string()].into_iter().chain(given);
    let args = cli.clone().try_get_matches_from(line).and_then(|matches| {
        let given = matches.subcommand_matches("collect").cloned().unwrap_or_default();
        super::collect::Args::from_arg_matches(&given)
    });
    match args {
        Ok(args) => checks::all(&args).into_iter().map(|wrong| (line_of(wrong.flag), wrong.what)).collect(),
        Err(error) => vec![(first, sentence(&error))],
    }
}

/// The values of a flag; or what it takes.
fn values(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<Option<String>>, String> {
    if !arg.get_action().takes_values() {
        return match value {
            DeValue::Boolean(true) => Ok(vec![None]),
            DeValue::Boolean(false) => Ok(Vec::new()),
            _ => Err("is true or false".to_string()),
        };
    }
    match value {
        DeValue::Array(list) if matches!(arg.get_action(), ArgAction::Append) => {
            list.iter().map(|one| scalar(one.get_ref()).map(Some)).collect()
        }
        DeValue::Array(_) => Err("takes one value, no list".to_string()),
        one => Ok(vec![Some(scalar(one)?)]),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(_) => Err("takes a value, not true or false".to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Err("takes text or a number".to_string()),
    }
}

/// A file of every setting, its text above it, none of them set.
fn template(cli: &Command) -> String {
    let mut text = String::from(
        "# Settings of `flowlane collect --config FILE`; `flowlane check-config FILE` looks for mistakes.\n\
         # A flag on the command line counts before its environment variable (FLOWLANE_LISTEN), and that before this file.\n",
    );
    for arg in flags(cli).filter(|a| a.get_long() != Some("config")) {
        let long = arg.get_long().unwrap_or_default();
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let help = help.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        text += "\n";
        wrap(&mut text, &help);
        let names: Vec<String> = arg.get_possible_values().iter().map(|v| v.get_name().to_string()).collect();
        if arg.get_action().takes_values() && !names.is_empty() {
            text += &format!("# One of {}\n", names.join(", "));
        }
        let quoted = |value: &str| match value.parse::<u64>() {
            Ok(_) => value.to_string(),
            Err(_) => format!("{value:?}"),
        };
        let default = arg.get_default_values().first().and_then(|v| v.to_str());
        let value = match (arg.get_action(), default) {
            (action, _) if !action.takes_values() => "true".to_string(),
            (ArgAction::Append, value) => format!("[{}]", value.map(quoted).unwrap_or_default()),
            (_, Some(value)) => quoted(value),
            (_, None) => {
                let name = arg.get_value_names().and_then(|n| n.first()).map(ToString::to_string);
                format!("\"{}\"", name.unwrap_or_default())
            }
        };
        text += &format!("# {long} = {value}\n");
    }
    text
}

/// Comment lines of at most 110 characters.
fn wrap(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 110 {
            *out += &line;
            *out += "\n";
            line = String::from("#");
        }
        line += " ";
        line += word;
    }
    *out += &line;
    *out += "\n";
}

pub fn print(_: &ConfigArgs, cli: &Command) -> anyhow::Result<ExitCode> {
    io::stdout().lock().write_all(template(cli).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub fn run_check(args: &CheckArgs, cli: &Command) -> anyhow::Result<ExitCode> {
    let text = read_text(&args.file)?;
    let (settings, mut wrong) = check(&text, cli);
    let right: Vec<&Setting> = settings.iter().filter(|s| !wrong.iter().any(|w| w.0 == s.line)).collect();
    wrong.extend(check_together(&right, cli));
    wrong.sort();
    for (line, what) in &wrong {
        say(&format!("{}:{line}: {what}", args.file.display()));
    }
    if !wrong.is_empty() {
        return Ok(ExitCode::from(2));
    }
    let n = settings.len();
    writeln!(io::stdout(), "{}: {n} setting{}, all right", args.file.display(), if n == 1 { "" } else { "s" })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn cli() -> Command {
        super::super::Cli::command()
    }

    fn expanded(args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let args = ["flowlane", "collect"].iter().chain(args).map(OsString::from).collect();
        let variable = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.into());
        let all = expand_with(args, &cli(), variable).expect("right");
        all.into_iter().skip(2).map(|a| a.into_string().expect("text")).collect()
    }

    #[test]
    fn the_command_line_counts_before_the_environment_and_that_before_the_file() {
        let path = std::env::temp_dir().join(format!("flowlane-config-{}.toml", std::process::id()));
        std::fs::write(&path, "listen = [9995, \"[::1]:2055\"]\nqueue = 7\nrotate = \"1m\"\njson = true\n")
            .expect("a file");
        let file = path.to_str().expect("text");
        let all = expanded(&["--queue", "9", "--config", file], &[("FLOWLANE_ROTATE", "2m")]);
        assert_eq!(
            all,
            ["--queue", "9", "--config", file, "--rotate=2m", "--listen=9995", "--listen=[::1]:2055", "--json"]
        );
        let named = expanded(&[], &[("FLOWLANE_CONFIG", file), ("FLOWLANE_LISTEN", "1, 2"), ("FLOWLANE_JSON", "0")]);
        assert_eq!(named, ["--listen=1", "--listen=2", "--queue=7", "--rotate=1m"]);
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn variables_that_no_flag_has_are_named() {
        let names = ["FLOWLANE_LISTN", "FLOWLANE_MAX_EXPORTERS", "FLOWLANE_KERNEL", "PATH", "FLOWLANE"];
        assert_eq!(unknown_variables(&cli(), names.into_iter().map(OsString::from)), ["FLOWLANE_LISTN"]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let lines = |text: &str| -> Vec<usize> { check(text, &cli()).1.into_iter().map(|w| w.0).collect() };
        assert_eq!(lines("# fine\nqueue = 4\n\nlisten = [2055]\n"), [0; 0]);
        assert_eq!(
            lines("max-exporters = 0\n\nnonsense = 1\nlisten = \"nowhere\"\njson = 3\nrotate = [1]\n"),
            [1, 3, 4, 5, 6]
        );
        assert_eq!(lines("queue = 1\nqueue = \n"), [2]);
        assert_eq!(lines("config = \"x\"\n"), [1]);
        let (_, wrong) = check("quue = 1", &cli());
        assert!(wrong[0].1.contains("quue") && wrong[0].1.contains("queue"), "{wrong:?}");
    }

    #[test]
    fn the_file_that_is_printed_is_right_when_it_is_uncommented() {
        let text = template(&cli());
        assert_eq!(check(&text, &cli()), (Vec::new(), Vec::new()));
        // Settings with a default.
        let open: String = text
            .lines()
            .filter_map(|l| l.strip_prefix("# "))
            .filter(|l| {
                l.split_once(" = ").is_some_and(|(k, v)| !k.contains(' ') && v.chars().all(|c| !c.is_uppercase()))
            })
            .map(|l| format!("{l}\n"))
            .collect();
        let (settings, wrong) = check(&open, &cli());
        assert_eq!(wrong, []);
        assert!(settings.len() > 5 && settings.iter().any(|s| s.flag == "listen"));
    }

    #[test]
    fn what_the_parser_refuses_is_one_sentence() {
        let args = ["flowlane", "collect", "--queue", "much"].map(OsString::from).to_vec();
        let error = settings_of(args, &cli()).err().expect("no size").to_string();
        assert!(error.starts_with("invalid value 'much' for '--queue <SIZE>'"), "{error}");
        assert!(!error.contains("For more information"), "{error}");
    }
}
