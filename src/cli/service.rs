//! What a collector does as a service: settings read again, another user's rights, sockets of a service manager.

use super::collect::Args;
use super::config::{Settings, collect_settings};
use super::{Cli, usage};
use anyhow::{Context, bail};
use clap::CommandFactory;
use flowlane::collect::{Admission, Inherited, Running, Tls, TlsFiles};
use listenfd::ListenFd;
use nix::unistd::{Gid, Uid, User, setgid, setgroups, setuid};
use std::path::PathBuf;
use std::sync::Arc;

/// Flags that are read again on SIGHUP; the files of TLS even where their names are the same.
const RELOADED: [&str; 5] = ["allow", "exporter-rate", "tls-cert", "tls-key", "tls-client-ca"];

/// Reads the settings again, when asked to.
pub struct Reloading {
    began: Settings,
    tls: Option<Tls>,
}

impl Reloading {
    /// Notes what the collector began with.
    pub fn new(tls: Option<Tls>) -> anyhow::Result<Self> {
        Ok(Self { began: collect_settings(&Cli::command())?.1, tls })
    }

    /// Has what can change while it runs be as the file and the environment say now; gives a line on what is so now, and on
    /// what needs a restart.
    ///
    /// # Errors
    /// Settings that are wrong: then all stays as it was.
    pub fn reload(&self, running: &Running) -> anyhow::Result<String> {
        let (args, settings) = collect_settings(&Cli::command())?;
        if let Some(tls) = &self.tls {
            let files = tls_files(&args).context("TLS needs --tls-cert and --tls-key; restart to end it")?;
            tls.reload(&files)?;
        }
        let allowed = match args.allow.len() {
            0 => "everybody may send".to_string(),
            n => format!("{n} prefixes may send"),
        };
        let rate = args.exporter_rate.map_or("no rate is set".to_string(), |n| format!("{n} datagrams/s an exporter"));
        running.admit(Admission { allow: args.allow, rate: args.exporter_rate });
        let certificates = if self.tls.is_some() { ", certificates read" } else { "" };
        let mut line = format!("settings read again: {allowed}, {rate}{certificates}");
        let later: Vec<&str> = settings.changed(&self.began).filter(|flag| !RELOADED.contains(flag)).collect();
        if !later.is_empty() {
            line += &format!("; changed, and needs a restart: {}", later.join(", "));
        }
        Ok(line)
    }
}

/// Where the certificates are, if TLS is asked for.
pub fn tls_files(args: &Args) -> Option<TlsFiles> {
    let (certificate, key): (&PathBuf, &PathBuf) = (args.tls_cert.as_ref()?, args.tls_key.as_ref()?);
    let client_authorities = args.tls_client_ca.clone();
    Some(TlsFiles { certificate: certificate.clone(), key: key.clone(), client_authorities })
}

/// The user of a name or number, who is not root.
///
/// # Errors
/// No such user, or root.
pub fn look_up(name: &str) -> anyhow::Result<User> {
    let known = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    let Some(user) = known.with_context(|| format!("cannot look up the user {name}"))? else {
        return Err(usage(format!("there is no user {name} on this host")));
    };
    if user.uid.is_root() {
        return Err(usage("--user root gives up nothing"));
    }
    Ok(user)
}

/// Gives up root's rights for those of a user, for good: every thread's, and every file that is opened from now on.
///
/// # Errors
/// No right to become it.
pub fn become_user(user: &User) -> anyhow::Result<()> {
    if !Uid::effective().is_root() {
        if Uid::effective() == user.uid {
            return Ok(());
        }
        bail!("only root can become {}; leave --user away, or start as root", user.name);
    }
    let groups = |step| format!("cannot give up root's rights ({step})");
    setgroups(&[user.gid]).with_context(|| groups("setgroups"))?;
    setgid(user.gid).with_context(|| groups("setgid"))?;
    setuid(user.uid).with_context(|| groups("setuid"))?;
    // The proof that there is no way back.
    if setuid(Uid::from_raw(0)).is_ok() || Gid::effective() != user.gid {
        bail!("{}", groups("they came back"));
    }
    Ok(())
}

/// The sockets that a service manager handed over (systemd's socket activation), by their kind.
///
/// # Errors
/// A descriptor that is neither a UDP socket nor one that listens for TCP.
pub fn inherited() -> anyhow::Result<Inherited> {
    let mut handed = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for index in 0..handed.len() {
        if let Ok(Some(socket)) = handed.take_udp_socket(index) {
            inherited.udp.push(Arc::new(socket));
        } else {
            let socket =
                handed.take_tcp_listener(index).context("a socket that was handed over is neither UDP nor TCP")?;
            inherited.tcp.extend(socket.map(Arc::new));
        }
    }
    Ok(inherited)
}
