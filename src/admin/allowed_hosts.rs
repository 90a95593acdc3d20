//! The `Host` of requests (RFC 9110 §7.2).
//!
//! A web page can resolve a name of its own to the admin server's address (DNS
//! rebinding); the browser of a visitor then lets the page read the answers. Such a
//! request has the page's name as its `Host`, never an IP address.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::host::Host;

const REFUSAL: &str = "The request is for a name that this server does not answer to. Use its IP \
                       address or localhost, or add the name to admin.allowed_hosts.\n";

/// Refuses requests for other names. A request without a name is no browser's.
pub(super) async fn check(
    State(allowed): State<Arc<[Host]>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers().get_all(header::HOST).into_iter();
    let mut named = headers.map(|host| Authority::try_from(host.as_bytes()).ok());
    let is_allowed = |host: Option<&Authority>| host.is_some_and(|it| answers_to(it, &allowed));
    if named.all(|host| is_allowed(host.as_ref()))
        && request
            .uri()
            .authority()
            .is_none_or(|it| is_allowed(Some(it)))
    {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, REFUSAL).into_response()
}

fn answers_to(named: &Authority, allowed: &[Host]) -> bool {
    let name = named.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || Host::new(name).is_ok_and(|name| name.as_str() == "localhost" || allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_allowed_names_are_answered() {
        let allowed = [Host::new("gw1.dc1.test").unwrap()];
        for (named, is_allowed) in [
            ("127.0.0.1:9090", true),
            ("[::1]:9090", true),
            ("10.0.0.7", true),
            ("localhost:9090", true),
            ("LocalHost", true),
            ("GW1.dc1.test:9090", true),
            ("gw2.dc1.test", false),
            ("localhost.rebinding.example", false),
            ("127.0.0.1.rebinding.example", false),
            ("rebinding.example:9090", false),
        ] {
            let named = named.parse().unwrap();
            assert_eq!(answers_to(&named, &allowed), is_allowed, "{named}");
        }
    }
}
