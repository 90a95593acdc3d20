//! `[[services]]`

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kind::OptionKind;
use super::option::{OptionSpec, Section};
use super::problem::{Origin, Problem};
use super::reading::Reading;
use crate::host::Host;

pub(super) const SECTION: Section = Section {
    doc: "",
    options: &[OptionSpec {
        key: "services",
        doc: "Services under the shared domain that this datacenter has, \
              domain=local,domain=local; a service with another name on the local server \
              has a local name, and :hidden leaves it out of disco.\n",
        ..OptionKind::Services.described("none", EXAMPLE)
    }],
};

/// The example in the reference file.
const EXAMPLE: &str = "\
# A service under the shared domain that this datacenter has and all others reach
# too, one section each. As a flag or a variable:
# domain,domain=local,domain=local:hidden.
#[[services]]
# Its address for everybody, below global_host.
#domain = \"muc.example.com\"
# Its name on the local server, if that is another one. Rooms should have one: only
# then is everybody in them, local users too, under the shared domain.
#local = \"conference.dc1.example.com\"
# Whether disco#items leaves it out, see disco.users_can_see_hidden_services.
#hidden = false
";

/// An entry of `[[services]]`, not yet checked against the others.
#[derive(Deserialize)]
struct ServiceNames {
    domain: Named,
    local: Option<Named>,
    hidden: bool,
}

/// A domain, and its line if it was set in the file.
#[derive(Deserialize)]
struct Named {
    host: Host,
    line: Option<usize>,
}

/// `[[services]]`: a component or service of this datacenter that all other datacenters reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// `domain`: its address for everybody, `muc.example.com`.
    pub domain: Host,
    /// `local`: its name on the local server, `conference.dc1.example.com`;
    /// `None` if `domain` is also its name on the local server.
    pub local: Option<Host>,
    /// `hidden`: whether disco omits it for users who may not see it.
    pub hidden: bool,
}

impl ServiceConfig {
    /// Checks all services; no two may share a name.
    pub(super) fn checked(
        reading: &mut Reading,
        global: Option<&Host>,
        local: Option<&Host>,
    ) -> Vec<Self> {
        let services: Vec<ServiceNames> = reading.get("services").unwrap_or_default();
        let mut taken: BTreeMap<Host, &str> = BTreeMap::new();
        taken.extend(global.map(|host| (host.clone(), "global_host")));
        taken.extend(local.map(|host| (host.clone(), "local_host")));
        for ServiceNames { domain, .. } in &services {
            let host = &domain.host;
            claim(reading, &mut taken, "services.domain", domain);
            if let Some(global) = global
                && !global.is_above(host.as_str())
                && host != global
            {
                let what =
                    format!("is `{host}`; allowed: a domain under global_host, as muc.{global}");
                refuse(reading, "services.domain", domain, &what);
            }
        }
        for local in services.iter().filter_map(|service| service.local.as_ref()) {
            claim(reading, &mut taken, "services.local", local);
        }
        let service = |names: ServiceNames| Self {
            domain: names.domain.host,
            local: names.local.map(|named| named.host),
            hidden: names.hidden,
        };
        services.into_iter().map(service).collect()
    }
}

/// Refuses a name that is already in use.
fn claim(
    reading: &mut Reading,
    taken: &mut BTreeMap<Host, &'static str>,
    key: &str,
    named: &Named,
) {
    let host = &named.host;
    if let Some(other) = taken.get(host) {
        let what = format!(
            "is `{host}`, which is {other} already; allowed: a name that nothing else has, and \
             no `local` where the server calls the service by its domain"
        );
        refuse(reading, key, named, &what);
        return;
    }
    let owner = match key {
        "services.domain" => "a service's domain",
        _ => "a service's local name",
    };
    taken.insert(host.clone(), owner);
}

fn refuse(reading: &mut Reading, key: &str, named: &Named, what: &str) {
    match (reading.origin("services"), named.line) {
        (Origin::File { path, .. }, Some(line)) => {
            let origin = Origin::File { path, line };
            reading.problems.push(Problem::new(origin, key, what));
        }
        _ => reading.refuse("services", what),
    }
}
