//! The command line. Each command has one file; this one lists all commands.

mod certs;
mod check;
mod operate;
mod run;
mod snippet;

use clap::{ArgMatches, Command};
use strait::config::{Config, Inputs, Loaded, Problems, flags};

/// A command failed.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is not valid: exit code 2.
    Config(Problems),
    /// Anything else: exit code 1.
    Failed(anyhow::Error),
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

const OPTIONS_HELP: &str = "\
Every option can be set in the file, by an environment variable and by a flag; \
a flag is stronger than a variable, and a variable than the file. \
Flags alone suffice. Secrets have no flag, as flags show in the process list.";

/// All commands and flags. clap exits with 2 when they are misused.
pub fn command() -> Command {
    let configured = |name, about| {
        Command::new(name)
            .about(about)
            .after_help(OPTIONS_HELP)
            .next_line_help(true)
            .args(flags::args())
    };
    Command::new("strait")
        .version(env!("CARGO_PKG_VERSION"))
        .about("XMPP component that lets several datacenters share one domain")
        .after_help("Exit codes: 0 fine, 1 failed, 2 bad usage or configuration.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(configured("run", "Run the gateway until SIGTERM or SIGINT"))
        .subcommand(configured(
            "check",
            "Check the configuration, with the files that it names",
        ))
        .subcommand(
            configured(
                "snippet",
                "Print what the local XMPP server needs in its own configuration",
            )
            .args(snippet::args()),
        )
        .subcommand(configured(
            "reload",
            "Make the running gateway read its certificates and [[peers]] again",
        ))
        .subcommand(configured(
            "drain",
            "Make the running gateway hand over its stanzas and end",
        ))
        .subcommand(certs::command())
}

/// Runs the command that the command line selects.
pub fn main(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("run", matches)) => Ok(run::run(load(matches)?, inputs(matches))?),
        Some(("check", matches)) => Ok(check::check(&load(matches)?)?),
        Some(("reload", matches)) => Ok(operate::reload(&load(matches)?)?),
        Some(("drain", matches)) => Ok(operate::drain(&load(matches)?)?),
        Some(("snippet", matches)) => Ok(snippet::run(load(matches)?, matches)?),
        Some(("certs", matches)) => Ok(certs::run(matches)?),
        _ => Err(anyhow::anyhow!("no command given; see strait --help").into()),
    }
}

fn load(matches: &ArgMatches) -> Result<Loaded, Problems> {
    Config::load(&inputs(matches))
}

fn inputs(matches: &ArgMatches) -> Inputs {
    let (file, flags) = flags::given(matches);
    Inputs::of_process(file, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_secret_cannot_be_given_as_a_flag() {
        for flag in [
            "--component-secret",
            "--control-secret",
            "--control-mongooseim-password",
        ] {
            let error = command()
                .try_get_matches_from(["strait", "check", &format!("{flag}=hunter2")])
                .unwrap_err();
            assert_eq!(
                error.kind(),
                clap::error::ErrorKind::UnknownArgument,
                "{flag}"
            );
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
