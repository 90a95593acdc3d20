use super::*;
use crate::config::Secret;

fn config(url: &str) -> config::Redis {
    config::Redis {
        url: Secret::new(url.to_owned()),
        compat: config::Compat::Redis,
        tls: config::RedisTls::default(),
        expire_after: Duration::from_millis(1500),
        refresh_after: Duration::from_secs(1),
    }
}

fn store(url: &str) -> Result<RedisStore, StoreError> {
    RedisStore::new(
        Host::new("dc1.test").unwrap(),
        "gw1".to_owned(),
        &config(url),
        &config::Cache::default(),
        Arc::new(Metrics::new()),
    )
}

#[test]
fn expiry_is_written_in_whole_seconds() {
    assert_eq!(store("redis://127.0.0.1:1").unwrap().lifetime(), 2);
}

#[tokio::test]
async fn errors_name_the_server_and_never_the_password() {
    let error = store("redis://gateway:hunter2@127.0.0.1:1/0")
        .unwrap()
        .ping()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("127.0.0.1:1"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");

    let error = store("http://gateway:hunter2@redis.test")
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("redis://"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_claim_that_says_no_time_comes_last() {
    let text = |text: &str| Value::BulkString(text.into());
    let ours = ["dc1.test", "1000", "dc2.test", "2000", "not a host", "3000"].map(text);
    let read = |plain: &str| {
        let answers = [Value::Array(ours.to_vec()), text(plain)];
        read_claims(&mut answers.into_iter(), 1)
    };
    let claims = read("dc3.test");
    let hosts: Vec<_> = claims.iter().map(|claim| claim.host.as_str()).collect();
    assert_eq!(hosts, ["dc2.test", "dc1.test", "dc3.test"]);
    assert_eq!(claims[2].since, None);
    assert_eq!(read("dc2.test").len(), 2);
}
