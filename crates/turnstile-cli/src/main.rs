#![doc = include_str!("../README.md")]

#[cfg(feature = "kafka")]
mod brokers;
mod cli;
mod events;
mod exit;
#[cfg(feature = "kafka")]
mod group;
#[cfg(feature = "lab")]
mod lab;
mod lock;
mod queue;
mod semaphore;
mod server;
#[cfg(feature = "top")]
mod top;
#[cfg(feature = "kafka")]
mod topic;
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
        Command::Lock(args) => lock::run(&args),
        Command::Semaphore(args) => semaphore::run(&args),
        Command::Who(args) => who::run(&args),
        Command::Queue(args) => queue::run(&args),
        Command::Exec(args) => lock::exec(&args),
        #[cfg(feature = "kafka")]
        Command::Group(args) => group::run(&args),
        #[cfg(feature = "top")]
        Command::Top(args) => top::run(args),
        #[cfg(feature = "kafka")]
        Command::Topic(args) => topic::run(&args),
        #[cfg(feature = "lab")]
        Command::Lab(args) => lab::run(&args),
        #[cfg(feature = "lab")]
        Command::LabWorker(args) => lab::work(args),
    }
}
