//! Look-ups of a JID in the session table.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jid::Jid;
use serde_json::{Value, json};

use super::Source;
use crate::store::{Store, StoreError, within};

/// The longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(3);

/// `GET /api/lookup/JID`: the hosts that claim the JID (since when, in ms since
/// the Unix epoch, if that is known; the newest first) and the host that did
/// last.
pub(super) async fn show(State(source): State<Source>, Path(jid): Path<String>) -> Response {
    let jid = match Jid::new(&jid) {
        Ok(jid) => jid,
        Err(error) => {
            let text = format!("`{jid}` is not a JID: {error}\n");
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    match within(PATIENCE, look_up(&*source.store, &jid)).await {
        Ok(found) => Json(found).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn look_up(store: &dyn Store, jid: &Jid) -> Result<Value, StoreError> {
    let found = store.read(jid.as_str()).await?;
    let claims = if jid.is_full() {
        found.full
    } else {
        found.bare
    };
    let claims = claims.into_iter();
    let claims = claims.map(|claim| json!({ "host": claim.host.as_str(), "since": claim.since }));
    Ok(json!({
        "jid": jid.as_str(),
        "claims": claims.collect::<Vec<_>>(),
        "home": found.home.as_ref().map(|home| home.as_str()),
    }))
}
