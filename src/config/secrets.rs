//! The component's secret and the session table's URL: what must not show.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use redis::IntoConnectionInfo;

use super::Secret;
use super::problem::Origin;
use super::reading::Reading;

const SECRET: &str = "component.secret";
const SECRET_FILE: &str = "component.secret_file";

/// What `component.toml` in the sources says, so everybody knows it.
const PLACEHOLDER: &str = "change-me";

/// From exactly one of `component.secret` and `component.secret_file`; one
/// from a stronger layer replaces the other one from a weaker.
pub(super) fn component(reading: &mut Reading) -> Option<Secret> {
    let secret: Option<Secret> = reading.get(SECRET);
    let file: Option<PathBuf> = reading.get(SECRET_FILE);
    let (origin, file_origin) = (reading.origin(SECRET), reading.origin(SECRET_FILE));
    match (secret, file) {
        (Some(_), Some(_)) if origin.same_layer(&file_origin) => {
            let what = format!("both {} and this are set; remove one", origin.name(SECRET));
            reading.refuse(SECRET_FILE, what);
            None
        }
        (secret, Some(file)) if secret.is_none() || origin < file_origin => {
            let what = first_line(&file);
            warn_if_readable_by_all(reading, SECRET_FILE, &file);
            what.map_err(|what| reading.refuse(SECRET_FILE, what)).ok()
        }
        (Some(secret), _) => {
            if secret.reveal() == PLACEHOLDER {
                let what = "is still the placeholder; take one that nobody can guess";
                reading.warn(SECRET, what);
            } else if let Origin::File { path, .. } = &origin {
                warn_if_readable_by_all(reading, SECRET, path);
            }
            Some(secret)
        }
        (None, _) => {
            if !reading.is_misread(SECRET) && !reading.is_misread(SECRET_FILE) {
                let what = "is mandatory and not set; set it in the file or by STRAIT_COMPONENT_SECRET, or name a \
                            file that holds it by component.secret_file, --component-secret-file or \
                            STRAIT_COMPONENT_SECRET_FILE";
                reading.refuse(SECRET, what);
            }
            None
        }
    }
}

fn first_line(file: &Path) -> Result<Secret, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    match text.lines().next().map(str::trim) {
        None | Some("") => Err(format!(
            "{shown} is empty; its first line must be the secret"
        )),
        Some(line) => Ok(Secret::new(line.to_owned())),
    }
}

/// Warns about a file with a secret that every user of the machine may read.
pub(super) fn warn_if_readable_by_all(reading: &mut Reading, key: &str, file: &Path) {
    let mode = std::fs::metadata(file).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o004 != 0) {
        let shown = file.display();
        let what = format!("{shown} can be read by every user of this machine; chmod o-r {shown}");
        reading.warn(key, what);
    }
}

/// `redis.url`, if it is one and was not given with a password on the command
/// line. No message quotes any part of it.
pub(super) fn redis_url(reading: &mut Reading) -> Option<Secret> {
    const KEY: &str = "redis.url";
    let Some(url) = reading.get::<Secret>(KEY) else {
        super::sections::require(reading, KEY, "the session table is kept there");
        return None;
    };
    let by_flag = reading.origin(KEY) == Origin::Flag;
    redis_url_fault(url.reveal(), by_flag).map_or(Some(url), |what| {
        reading.refuse(KEY, what);
        None
    })
}

fn redis_url_fault(url: &str, by_flag: bool) -> Option<String> {
    let allowed = super::kind::Kind::Url;
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let hosts = url.rsplit_once('@').map_or(url, |(_, hosts)| hosts);
    if scheme.contains("cluster") || scheme.contains("sentinel") || hosts.contains(',') {
        let what = "Redis Cluster and Sentinel are not built yet in this version; name one server";
        return Some(format!("{what}; allowed: {allowed}"));
    }
    if !matches!(scheme, "redis" | "rediss") {
        return Some(format!(
            "does not begin with redis:// or rediss://; allowed: {allowed}"
        ));
    }
    let Ok(info) = url.into_connection_info() else {
        let what = "is not a URL that Redis clients know; special characters in a password must be percent-encoded";
        return Some(format!("{what}; allowed: {allowed}"));
    };
    (by_flag && info.redis_settings().password().is_some()).then(|| {
        "has a password, which would show in the process list; set it by STRAIT_REDIS_URL or in the file".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_a_redis_url() {
        for url in [
            "redis://127.0.0.1:6379",
            "redis://127.0.0.1:6379/2",
            "rediss://gw:hunter2@redis.example.com",
            "redis://:hunter2%2F@[::1]:6379/",
        ] {
            assert_eq!(redis_url_fault(url, false), None, "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_without_showing_them() {
        for (url, why) in [
            ("http://:hunter2@redis.test", "does not begin"),
            ("redis.test:6379", "does not begin"),
            ("redis+cluster://:hunter2@a.test,b.test", "not built yet"),
            ("redis-sentinel://:hunter2@a.test/main", "not built yet"),
            ("redis://:hunter2@a.test:1,b.test:2", "not built yet"),
            ("redis://:hunter2/3@a.test", "percent-encoded"),
            ("redis://:hunter2@a.test/first", "percent-encoded"),
        ] {
            let what = redis_url_fault(url, false).unwrap_or_else(|| panic!("{url} was taken"));
            assert!(what.contains(why), "{url}: {what}");
            assert!(!what.contains("hunter2"), "{what}");
        }
    }

    #[test]
    fn a_password_is_not_for_the_process_list() {
        let what = redis_url_fault("redis://:hunter2@a.test", true).unwrap();
        assert!(
            what.contains("STRAIT_REDIS_URL") && !what.contains("hunter2"),
            "{what}"
        );
        assert_eq!(redis_url_fault("redis://a.test", true), None);
    }
}
