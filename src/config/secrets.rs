//! The components' secrets: what must not show.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Secret;
use super::problem::Origin;
use super::reading::Reading;

/// What `component.toml` in the sources says, so everybody knows it.
const PLACEHOLDERS: [&str; 2] = ["change-me", "change-me-too"];

/// The two options of which one gives a secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    secret: &'static str,
    file: &'static str,
    /// How to set them from outside of the file.
    ways: &'static str,
}

/// Of the component.
pub(super) const COMPONENT: Keys = Keys {
    secret: "component.secret",
    file: "component.secret_file",
    ways: "set it in the file or by STRAIT_COMPONENT_SECRET, or name a file that holds it by \
           component.secret_file, --component-secret-file or STRAIT_COMPONENT_SECRET_FILE",
};

/// Of the control component.
pub(super) const CONTROL: Keys = Keys {
    secret: "control.secret",
    file: "control.secret_file",
    ways: "set it in the file or by STRAIT_CONTROL_SECRET, or name a file that holds it by \
           control.secret_file, --control-secret-file or STRAIT_CONTROL_SECRET_FILE",
};

/// From exactly one of the two options; one from a stronger layer replaces
/// the other one from a weaker.
pub(super) fn read(reading: &mut Reading, keys: Keys) -> Option<Secret> {
    let secret: Option<Secret> = reading.get(keys.secret);
    let file: Option<PathBuf> = reading.get(keys.file);
    let (origin, file_origin) = (reading.origin(keys.secret), reading.origin(keys.file));
    match (secret, file) {
        (Some(_), Some(_)) if origin.same_layer(&file_origin) => {
            let what = format!(
                "both {} and this are set; remove one",
                origin.name(keys.secret)
            );
            reading.refuse(keys.file, what);
            None
        }
        (secret, Some(file)) if secret.is_none() || origin < file_origin => {
            let what = first_line(&file);
            warn_if_readable_by_all(reading, keys.file, &file);
            what.map_err(|what| reading.refuse(keys.file, what)).ok()
        }
        (Some(secret), _) => {
            if PLACEHOLDERS.contains(&secret.reveal()) {
                let what = "is still the placeholder; take one that nobody can guess";
                reading.warn(keys.secret, what);
            } else if let Origin::File { path, .. } = &origin {
                warn_if_readable_by_all(reading, keys.secret, path);
            }
            Some(secret)
        }
        (None, _) => {
            if !reading.is_misread(keys.secret) && !reading.is_misread(keys.file) {
                let what = format!("is mandatory and not set; {}", keys.ways);
                reading.refuse(keys.secret, what);
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
