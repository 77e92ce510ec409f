//! `minisr-broker`: arguments and log output; everything else is in [`minisr_broker::broker`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use minisr_broker::broker;
use minisr_broker::config::{HostPort, Settings, peer_address};
use minisr_broker::open_files;
use minisr_logic::BrokerId;
use tracing_subscriber::EnvFilter;

/// A broker of a minisr cluster.
///
/// Prints one line, `ready id=… quic=… tcp=…`, once it is registered and may serve; logs go to standard error.
/// SIGTERM stops it in order, a second one at once.
#[derive(Debug, Parser)]
#[command(name = "minisr-broker", version)]
struct Arguments {
    /// Settings file with lines name=value
    #[arg(long, value_name = "FILE", required_unless_present = "settings")]
    config: Option<PathBuf>,
    /// A setting that wins over the file; may be given more than once
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    set: Vec<(String, String)>,
    /// Where to dial a peer's data listener instead of its advertised address; may be given more than once
    #[arg(long, value_name = "ID=HOST:PORT", value_parser = id_and_address)]
    peer_address: Vec<(BrokerId, HostPort)>,
    /// Where to dial a peer's CONTROLLER listener instead of where the settings or its registration say; may be given
    /// more than once
    #[arg(long, value_name = "ID=HOST:PORT", value_parser = id_and_address)]
    controller_address: Vec<(BrokerId, HostPort)>,
    /// Let brokers replicate over plaintext TCP (needs inter.broker.transport=tcp): whoever reaches the PLAINTEXT
    /// listener is then believed to be the replica it says it is. For measurements on one machine
    #[arg(long)]
    insecure_peers: bool,
    /// Print every setting with its default, range and meaning, and exit
    #[arg(long)]
    settings: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

fn id_and_address(text: &str) -> Result<(BrokerId, HostPort), String> {
    peer_address(text).ok_or_else(|| "expected ID=HOST:PORT".to_owned())
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // clap's own code for a usage error is 2, which here means that a check found something.
            return if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
        }
    };
    if arguments.settings {
        print!("{}", Settings::describe());
        return ExitCode::SUCCESS;
    }
    abort_on_panic();
    let filter = log_filter(std::env::var("RUST_LOG").ok());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let mut settings = match Settings::load(arguments.config.as_deref(), &arguments.set, arguments.insecure_peers) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error),
    };
    for note in &settings.notes {
        tracing::warn!("{note}");
    }
    if let Err(error) = open_files::raise_limit() {
        tracing::warn!(%error, "the limit on open files cannot be read");
    }
    if settings.insecure_peers {
        tracing::warn!(
            "--insecure-peers: replication is plaintext, and whoever reaches the PLAINTEXT listener is believed to be \
             the replica it says it is"
        );
    }
    settings.peer_addresses = arguments.peer_address.into_iter().collect();
    settings.controller_addresses = arguments.controller_address.into_iter().collect();
    match broker::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

/// `RUST_LOG`, or everything from `info` on. openraft repeats itself ten times a second about a peer that is down, so
/// it is heard only when it is asked for by name; what matters of it is logged by the controller.
fn log_filter(wanted: Option<String>) -> EnvFilter {
    let mut directives = wanted.filter(|it| !it.is_empty()).unwrap_or_else(|| "info".to_owned());
    if !directives.contains("openraft") {
        directives += ",openraft=error,openraft::replication=off,openraft::core=off";
    }
    EnvFilter::try_new(&directives).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("minisr-broker: {error}");
    ExitCode::from(1)
}

/// A broken invariant in one thread must not leave the others serving.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
