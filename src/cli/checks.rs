//! What is wrong with settings of `flowlane collect` that the parser takes one by one: what they lack or forbid each
//! other, and what they name that this host has not. `collect` refuses in the same words that `check-config` says.

use super::addresses::Listen;
use super::collect::{Args, CollectFormat, MirrorSource, registry};
use super::output::Out;
use super::{kernel, service};
use flowlane::collect::Tls;
use flowlane::net;
use flowlane::sink::Format;

/// A flag, and what is wrong with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub flag: &'static str,
    pub what: String,
}

/// What is wrong by the settings alone.
pub fn settings(args: &Args) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut say = |flag, what: &str| wrong.push(Wrong { flag, what: what.to_string() });
    let asked = args.asked();
    let datagrams = args.listen.iter().filter(|l| **l != Listen::Nowhere).count();
    let has_connections = !(args.tcp.is_empty() && args.tls.is_empty());
    if datagrams < args.listen.len() && args.listen.len() > 1 {
        say("listen", "--listen none goes with no other --listen");
    } else if datagrams == 0 && !has_connections {
        say("listen", "--listen none leaves nothing to receive; give --tcp or --tls");
    }
    if args.spread.len() > net::SPREAD {
        say("spread", &format!("--spread takes {} exporters at most", net::SPREAD));
    }
    let listen: Vec<_> = args.listen.iter().filter_map(Listen::address).collect();
    for (flag, list) in [("listen", &listen), ("tcp", &args.tcp), ("tls", &args.tls), ("mirror", &args.mirror)] {
        if let Some(twice) = list.iter().enumerate().find(|(i, a)| list.iter().take(*i).any(|b| b == *a)) {
            say(flag, &format!("--{flag} {} is given twice", twice.1));
        }
    }
    match (args.tls.is_empty(), &args.tls_cert, &args.tls_key) {
        (false, None, None) => say("tls", "--tls needs --tls-cert and --tls-key, its certificate and private key"),
        (false, None, _) => say("tls", "--tls needs --tls-cert, its certificate"),
        (false, _, None) => say("tls", "--tls needs --tls-key, the private key of its certificate"),
        (false, ..) => {}
        (true, ..) => {
            let files =
                [("tls-cert", &args.tls_cert), ("tls-key", &args.tls_key), ("tls-client-ca", &args.tls_client_ca)];
            for (flag, _) in files.iter().filter(|f| f.1.is_some()) {
                say(flag, &format!("--{flag} is for --tls, which says where to listen and is not given"));
            }
        }
    }
    if args.mirror.is_empty() && args.mirror_source == MirrorSource::Keep {
        say("mirror-source", "--mirror-source is for --mirror, which says where to and is not given");
    }
    if asked == CollectFormat::NetflowJson && has_connections {
        say("format", "netflow-json has lines of datagrams alone; --tcp and --tls need another --format");
    }
    if args.names.filter().is_some() && matches!(asked, CollectFormat::NetflowJson | CollectFormat::None) {
        say("where", "--where chooses rows, which --format netflow-json and none do not write");
    }
    let instead = match (asked.of_sink(), &args.out) {
        (Some(Format::Parquet), Out::Folder(_)) => None,
        (Some(Format::Parquet), _) => Some("of a folder only; leave it out, or give --out a folder"),
        (_, Out::Folder(_)) => Some("only; leave it out, or choose --format parquet"),
        _ => Some("of a folder only; leave it out, or give --out a folder and choose --format parquet"),
    };
    if let Some(instead) = instead {
        let all = [
            ("keep", args.keep.is_some()),
            ("keep-bytes", args.keep_bytes.is_some()),
            ("keep-free", args.keep_free.is_some()),
        ];
        for (flag, _) in all.into_iter().filter(|f| f.1) {
            say(flag, &format!("--{flag} removes Parquet files {instead}"));
        }
    }
    wrong
}

/// The same, and what this host has not: files, users, instructions.
pub fn all(args: &Args) -> Vec<Wrong> {
    let mut wrong = settings(args);
    let mut say = |flag, what: String| wrong.push(Wrong { flag, what });
    if let Err(error) = args.user.as_deref().map(service::look_up).transpose() {
        say("user", format!("{error:#}"));
    }
    if let Err(error) = kernel(args.kernel) {
        say("kernel", format!("{error:#}"));
    }
    if let Err(error) = registry(args.elements.as_ref()) {
        say("elements", format!("{error:#}"));
    }
    for (flag, what) in args.names.wrong_files() {
        say(flag, what);
    }
    if let Some(Err(error)) = service::tls_files(args).map(|files| Tls::read(&files)) {
        let file = error.path();
        let flags = [("tls-key", &args.tls_key), ("tls-client-ca", &args.tls_client_ca)];
        let of_file = flags.iter().find(|f| file.is_some() && f.1.as_deref() == file);
        say(of_file.map_or("tls-cert", |f| f.0), error.to_string());
    }
    wrong
}
