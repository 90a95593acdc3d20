//! The `strait` command: arguments, then one of its commands, then the exit code.

mod cli;

use std::process::ExitCode;

use crate::cli::Failure;

fn main() -> ExitCode {
    match cli::main(&cli::command().get_matches()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(problems)) => {
            eprintln!("{problems}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("strait: {error:#}");
            ExitCode::FAILURE
        }
    }
}
