//! `minisr-cluster`: a local cluster that stays when the terminal goes, and the means to hurt it.

mod cli;
mod elect;
mod reassign;
mod status;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // All programs of the project exit with 1 on a wrong flag; clap would use 2.
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match cli::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minisr-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}
