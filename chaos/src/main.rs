//! `minisr-chaos`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use minisr_chaos::cli::{Cli, Command, DurabilityArgs, RunArgs};
use minisr_chaos::{durability, run};

/// Interrupted by Ctrl-C or SIGTERM: an error of no interest.
const INTERRUPTED: u8 = 1;

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            let _ = error.print();
            // Exit code 2 is an anomaly; clap would use it for a wrong flag.
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("minisr-chaos: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        tokio::select! {
            code = carry_out(&command) => code,
            () = interrupted() => {
                eprintln!("minisr-chaos: interrupted; ending the brokers");
                INTERRUPTED
            }
        }
    });
    // Tasks hold the cluster; with them it goes, and its processes.
    drop(runtime);
    ExitCode::from(code)
}

async fn carry_out(command: &Command) -> u8 {
    match command {
        Command::Run(args) => carry_out_run(args).await,
        Command::Durability(args) => carry_out_durability(args).await,
    }
}

async fn carry_out_durability(args: &DurabilityArgs) -> u8 {
    match durability::run(args).await {
        Ok(verdict) => {
            let text = if args.json {
                serde_json::to_string_pretty(&verdict).unwrap_or_else(|error| error.to_string())
            } else {
                verdict.table()
            };
            let _ = writeln!(std::io::stdout(), "{text}");
            verdict.exit_code()
        }
        Err(error) => {
            eprintln!("minisr-chaos: {error:#}");
            1
        }
    }
}

async fn carry_out_run(args: &RunArgs) -> u8 {
    match run::run(args).await {
        Ok(verdict) => {
            let text = if args.json {
                serde_json::to_string_pretty(&verdict).unwrap_or_else(|error| error.to_string())
            } else {
                verdict.table()
            };
            let _ = writeln!(std::io::stdout(), "{text}");
            if let Some(evidence) = &verdict.evidence {
                eprintln!("evidence: {evidence} (history.jsonl, events.csv, cluster/)");
            }
            verdict.conclusion.exit_code()
        }
        Err(error) => {
            eprintln!("minisr-chaos: {error:#}");
            1
        }
    }
}

async fn interrupted() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(_) => return std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
