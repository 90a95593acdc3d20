//! The component's secret: what must not show.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
