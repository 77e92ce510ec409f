//! `minisr-ceiling`: what the machine and the transport allow, measured without a broker.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use minisr_benches::ceiling::{self, NodeOptions, Options, Runtime};

/// Moves the bytes of a replicated produce through the same hops as minisr, and does nothing else.
///
/// Producer, leader and followers are processes of their own. Results of minisr are quoted as a ratio to this.
#[derive(Parser)]
#[command(name = "minisr-ceiling", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Leader or follower: started by the program itself
    #[command(hide = true)]
    Node(NodeOptions),
}

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
        eprintln!("minisr-ceiling: {sentence} (--help shows the flags)");
        std::process::exit(1);
    });
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minisr-ceiling: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> anyhow::Result<()> {
    let mut builder = match cli.options.runtime {
        Runtime::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    if let Some(Role::Node(node)) = &cli.role {
        return runtime.block_on(ceiling::run_node(&cli.options, node));
    }
    let program = std::env::current_exe()?;
    let report = runtime.block_on(ceiling::run(&cli.options, &program))?;
    match cli.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => println!("{report}"),
    }
    Ok(())
}
