//! `minisr-cluster`: a local cluster that stays when the terminal goes, and the means to hurt it.

mod cli;
mod status;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minisr-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}
