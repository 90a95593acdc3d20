//! Reading `[[services]]`, and what must hold of them together.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ServiceConfig;
use super::kind::{Misread, OptionKind, kind_of};
use super::problem::{Origin, Problem};
use super::reading::Reading;
use crate::host::Host;

/// One service, and where each of its names was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    domain: Named,
    local: Option<Named>,
    hidden: bool,
}

/// A domain; its origin is `None` where the whole option has only one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    host: Host,
    origin: Option<Origin>,
}

/// Reads what the file says. `origin` tells where in the file a byte is.
pub(super) fn read_toml(
    value: &Spanned<DeValue<'_>>,
    origin: &dyn Fn(usize) -> Origin,
) -> Result<Vec<Entry>, Misread> {
    let at = value.span().start;
    let entries = match value.get_ref() {
        DeValue::Array(entries) => entries,
        other => return Err(misread(at, kind_of(other))),
    };
    entries
        .iter()
        .map(|entry| match entry.get_ref() {
            DeValue::Table(table) => section(entry.span().start, table, origin),
            other => Err(misread(
                entry.span().start,
                format!("has an entry that {}", kind_of(other)),
            )),
        })
        .collect()
}

fn section(
    at: usize,
    table: &DeTable<'_>,
    origin: &dyn Fn(usize) -> Origin,
) -> Result<Entry, Misread> {
    let known = ["domain", "local", "hidden"];
    if let Some(key) = table
        .keys()
        .find(|key| !known.contains(&key.get_ref().as_ref()))
    {
        let what = format!("has the unknown key `{}`", key.get_ref());
        return Err(misread(key.span().start, what));
    }
    let domain = name("domain", table, origin)?;
    let hidden = match table.get("hidden") {
        None => false,
        Some(value) => value.get_ref().as_bool().ok_or_else(|| {
            let what = format!("has `hidden`, which {}", kind_of(value.get_ref()));
            misread(value.span().start, what)
        })?,
    };
    Ok(Entry {
        domain: domain.ok_or_else(|| misread(at, "has an entry without a domain".to_owned()))?,
        local: name("local", table, origin)?,
        hidden,
    })
}

fn name(
    key: &str,
    table: &DeTable<'_>,
    origin: &dyn Fn(usize) -> Origin,
) -> Result<Option<Named>, Misread> {
    let Some(value) = table.get(key) else {
        return Ok(None);
    };
    let at = value.span().start;
    let text = value.get_ref().as_str().ok_or_else(|| {
        let what = format!("has `{key}`, which {}", kind_of(value.get_ref()));
        misread(at, what)
    })?;
    let host = Host::new(text).map_err(|error| misread(at, format!("has `{key}`, and {error}")))?;
    let origin = Some(origin(at));
    Ok(Some(Named { host, origin }))
}

fn misread(at: usize, what: String) -> Misread {
    let what = format!("{what}; allowed: {}", OptionKind::Services);
    Misread { at, what }
}

/// Reads one of the services of a flag or a variable, `domain=local:hidden`.
pub(super) fn read_text(text: &str) -> Option<Entry> {
    let (names, hidden) = match text.split_once(':') {
        Some((names, "hidden")) => (names, true),
        Some(_) => return None,
        None => (text, false),
    };
    let (domain, local) = match names.split_once('=') {
        Some((domain, local)) => (domain, Some(local)),
        None => (names, None),
    };
    let named = |name: &str| {
        let name = name.trim();
        let host = Host::new(name).ok().filter(|_| !name.contains('='))?;
        Some(Named { host, origin: None })
    };
    let local = match local {
        Some(local) => Some(named(local)?),
        None => None,
    };
    Some(Entry {
        domain: named(domain)?,
        local,
        hidden,
    })
}

/// The services, each with names that nobody else has. `hosts` are the global
/// and the local one, if they could be read.
pub(super) fn read(
    reading: &mut Reading,
    hosts: (Option<&Host>, Option<&Host>),
) -> Vec<ServiceConfig> {
    let entries: Vec<Entry> = reading.get("services").unwrap_or_default();
    let (global, local) = hosts;
    let mut taken: BTreeMap<Host, &str> = BTreeMap::new();
    taken.extend(global.map(|host| (host.clone(), "global_host")));
    taken.extend(local.map(|host| (host.clone(), "local_host")));
    for entry in &entries {
        claim(reading, &mut taken, "services.domain", &entry.domain);
        if let Some(global) = global
            && !global.is_above(entry.domain.host.as_str())
            && entry.domain.host != *global
        {
            let what = format!(
                "is `{}`; allowed: a domain under global_host, as muc.{global}",
                entry.domain.host
            );
            refuse(reading, "services.domain", &entry.domain, &what);
        }
    }
    for named in entries.iter().filter_map(|entry| entry.local.as_ref()) {
        claim(reading, &mut taken, "services.local", named);
    }
    let service = |entry: Entry| ServiceConfig {
        domain: entry.domain.host,
        local: entry.local.map(|named| named.host),
        hidden: entry.hidden,
    };
    entries.into_iter().map(service).collect()
}

/// Refuses a name that something else has already.
fn claim(
    reading: &mut Reading,
    taken: &mut BTreeMap<Host, &'static str>,
    key: &'static str,
    named: &Named,
) {
    let host = &named.host;
    match taken.get(host) {
        Some(other) => {
            let what = format!(
                "is `{host}`, which is {other} already; allowed: a name that nothing else has, and \
                 no `local` where the server calls the service by its domain"
            );
            refuse(reading, key, named, &what);
        }
        None => {
            let whose = match key {
                "services.domain" => "a service's domain",
                _ => "a service's local name",
            };
            taken.insert(host.clone(), whose);
        }
    }
}

fn refuse(reading: &mut Reading, key: &'static str, named: &Named, what: &str) {
    match &named.origin {
        Some(origin) => reading.report(Problem::new(origin.clone(), key, what)),
        None => reading.refuse("services", what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entry: &Entry) -> String {
        let local = entry.local.as_ref().map(|local| format!("={}", local.host));
        let hidden = if entry.hidden { ":hidden" } else { "" };
        format!("{}{}{hidden}", entry.domain.host, local.unwrap_or_default())
    }

    #[test]
    fn a_service_is_written_as_it_is_read() {
        for good in [
            "muc.a.test",
            "muc.a.test=rooms.b.test",
            "muc.a.test:hidden",
            "muc.a.test=rooms.b.test:hidden",
        ] {
            assert_eq!(read_text(good).as_ref().map(text).as_deref(), Some(good));
        }
        for bad in [
            "",
            "=rooms.b.test",
            "muc.a.test=",
            "muc.a.test:",
            "muc.a.test:visible",
            "muc.a.test=rooms.b.test=x",
            "room@muc.a.test",
        ] {
            assert_eq!(read_text(bad), None, "{bad}");
        }
    }
}
