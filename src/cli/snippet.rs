//! `strait snippet`: the configuration that the local server needs for this
//! gateway, ready to be pasted into the server's own.
//!
//! The tests start their servers with this output.

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches};
use strait::config::Loaded;
use strait::host::Host;
use strait::servers::{self, SnippetRequest};

/// The command's own arguments, besides the options of every configured command.
pub fn args() -> [Arg; 4] {
    let servers = servers::ALL.iter().map(|server| server.word());
    [
        Arg::new("for")
            .value_name("SERVER")
            .value_parser(servers.collect::<Vec<_>>())
            .required(true)
            .help("Which XMPP server it is for"),
        Arg::new("with-secrets")
            .long("with-secrets")
            .action(ArgAction::SetTrue)
            .help("Print the secrets too, instead of words in their place"),
        Arg::new("remote-service")
            .long("remote-service")
            .value_name("DOMAIN")
            .action(ArgAction::Append)
            .value_parser(|text: &str| Host::new(text).map_err(|error| error.to_string()))
            .help("A service of another datacenter that this server's users are to reach; can be repeated"),
        Arg::new("standby")
            .long("standby")
            .action(ArgAction::SetTrue)
            .help("For two gateways, of which the second takes over when the first is gone"),
    ]
}

/// Prints the snippet.
///
/// # Errors
/// The server does not support a requested feature.
pub fn run(loaded: Loaded, matches: &ArgMatches) -> anyhow::Result<()> {
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let remote = matches.get_many::<Host>("remote-service");
    let request = SnippetRequest {
        config: loaded.config,
        remote_services: remote.into_iter().flatten().cloned().collect(),
        standby: matches.get_flag("standby"),
        with_secrets: matches.get_flag("with-secrets"),
    };
    let word = matches.get_one::<String>("for").context("no server")?;
    let server = servers::ALL.iter().find(|server| server.word() == word);
    let server = server.context("no such server")?;
    let text = server.snippet(&request).map_err(anyhow::Error::msg)?;
    print!("{text}");
    Ok(())
}
