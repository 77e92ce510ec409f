//! `minisr-loadgen`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use minisr_loadgen::cli::{Cli, Command, Experiment};
use minisr_loadgen::experiment::{isr_shuttle, reassign};
use minisr_loadgen::settings::Settings;
use minisr_loadgen::{ballast, compare, peers, reach, report, sweep};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            let _ = error.print();
            std::process::exit(0);
        }
        // What is wrong stands in the first paragraph; the rest repeats the usage.
        let text = error.to_string();
        let paragraph = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        let sentence = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        eprintln!("minisr-loadgen: {sentence} (--help shows the flags)");
        std::process::exit(1);
    });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("minisr-loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    let arguments = match cli.command {
        None => cli.sweep,
        Some(Command::Sweep(arguments)) => *arguments,
        Some(Command::Peers(arguments)) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(peers::run(&arguments));
        }
        Some(Command::Experiment { which: Experiment::IsrShuttle(arguments) }) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(isr_shuttle::run(&arguments));
        }
        Some(Command::Experiment { which: Experiment::Reassign(arguments) }) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(reassign::run(&arguments));
        }
        Some(Command::Report { directory }) => {
            let run = report::files::find_run(&directory)?;
            match report::shuttle::is_one(&run) {
                true => report::shuttle::write_page(&run)?,
                false => report::html::write(&run)?,
            }
            println!("{}", run.join("report.html").display());
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Compare { a, b, json }) => {
            compare::run(&a, &b, json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Reach(arguments)) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(reach::run(arguments));
        }
        Some(Command::Ballast { mib, within_s }) => {
            ballast::hold(mib, Duration::from_secs(within_s))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let settings = Settings::resolve(&arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(sweep::run(settings, arguments.json))
}
