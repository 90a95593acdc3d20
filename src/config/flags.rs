//! The flags of all options.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, value_parser};

use super::option::{Fallback, OptionSpec};
use super::root::options;

/// Returns `--config` and a flag for every option, for a command that needs the configuration.
pub fn args() -> impl Iterator<Item = Arg> {
    let config = Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(
            "The configuration file [default: ./component.toml, else /etc/strait/component.toml, \
             if there is one] [env: STRAIT_CONFIG]",
        );
    std::iter::once(config).chain(options().filter_map(arg))
}

/// Returns the file and the options that the command line sets.
#[must_use]
pub fn given(matches: &ArgMatches) -> (Option<PathBuf>, BTreeMap<&'static str, String>) {
    let options = options().filter_map(|option| {
        let text = matches.get_one::<String>(&option.flag()?)?;
        Some((option.key, text.clone()))
    });
    (matches.get_one("config").cloned(), options.collect())
}

fn arg(option: &'static OptionSpec) -> Option<Arg> {
    let flag = option.flag()?;
    let heading = match option.section() {
        "" if option.kind.has_entries() => format!("[[{}]]", option.key),
        "" => "Top level".to_owned(),
        section => format!("[{section}]"),
    };
    let arg = Arg::new(flag.clone())
        .long(flag)
        .value_name(option.kind.placeholder())
        .allow_negative_numbers(true)
        .help_heading(heading)
        .hide(option.never.is_some())
        .help(help(option));
    Some(arg)
}

/// Names the variable in the text: clap itself does not know the variables, so it cannot print
/// their values.
fn help(option: &OptionSpec) -> String {
    let default = match option.default {
        Fallback::Required(_) => "mandatory".to_owned(),
        Fallback::Value(text) | Fallback::Described(text, _) => format!("default: {text}"),
    };
    format!(
        "{} [{default}] [env: {}]",
        option.summary(),
        option.variable()
    )
}
