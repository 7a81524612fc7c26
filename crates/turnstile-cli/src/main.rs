#![doc = include_str!("../README.md")]

mod cli;
mod events;
mod exit;
mod lab;
mod lock;
mod server;
mod who;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout, everything else to stderr; if nobody reads either, there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::Lock(args) => lock::run(args),
        Command::Who(args) => who::run(&args),
        Command::Exec(args) => lock::exec(&args),
        Command::Lab(args) => lab::run(&args),
        Command::LabWorker(args) => lab::work(args),
    }
}
