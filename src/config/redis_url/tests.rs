use super::*;

#[test]
fn one_server_is_a_redis_url() {
    for url in [
        "redis://127.0.0.1:6379",
        "redis://127.0.0.1:6379/2",
        "rediss://gw:hunter2@redis.example.com",
        "redis://:hunter2%2F@[::1]:6379/",
    ] {
        let read = RedisUrl::parse(url).unwrap_or_else(|what| panic!("{url}: {what}"));
        assert!(matches!(read.site, Site::Server(_)), "{url}");
        assert_eq!(read.tls, url.starts_with("rediss"));
        assert_eq!(read.has_password(), url.contains("hunter2"), "{url}");
    }
}

#[test]
fn sentinels_name_a_master() {
    let url = "rediss+sentinel://gw:hunter2%21@a.test,[::1]:1/main/3?sentinel_password=hunter3";
    let read = RedisUrl::parse(url).unwrap();
    assert_eq!(
        read.to_string(),
        "master main of the Sentinels a.test:26379,::1:1"
    );
    assert!(read.tls && read.has_password());
    let Site::Sentinel {
        sentinels, access, ..
    } = read.site
    else {
        panic!("{read:?}")
    };
    assert_eq!(access.redis_settings().password(), Some("hunter2!"));
    assert_eq!(access.redis_settings().username(), Some("gw"));
    assert_eq!(access.redis_settings().db(), 3);
    for sentinel in sentinels {
        assert_eq!(sentinel.redis_settings().password(), Some("hunter3"));
        assert_eq!(sentinel.redis_settings().db(), 0);
    }
}

#[test]
fn a_cluster_has_servers_to_begin_with() {
    let read = RedisUrl::parse("redis+cluster://:hunter2@a.test:1,b.test").unwrap();
    assert_eq!(read.to_string(), "the cluster of a.test:1,b.test:6379");
    assert!(!read.tls && read.has_password());
    assert!(!format!("{read:?}").contains("hunter2"));
}

#[test]
fn other_urls_are_refused_without_showing_them() {
    for (url, why) in [
        ("http://:hunter2@redis.test", "does not begin"),
        ("redis.test:6379", "does not begin"),
        ("redis+unix://hunter2", "does not begin"),
        ("redis-sentinel://:hunter2@a.test/main", "does not begin"),
        ("redis://:hunter2@a.test:1,b.test:2", "several servers"),
        ("rediss://:hunter2@a.test#insecure", "redis.cacertfile"),
        ("redis://:hunter2/3@a.test", "percent-encoded"),
        ("redis://:hunter2@a.test/first", "percent-encoded"),
        ("redis+sentinel://:hunter2@a.test", "name of a master"),
        ("redis+sentinel://:hunter2@a.test/ma in", "name of a master"),
        ("redis+sentinel://:hunter2@a.test/main/x", "not a number"),
        ("redis+sentinel://a.test/m?pw=hunter2", "unknown parameter"),
        ("redis+sentinel://a.test/m?hunter2", "percent-encoded"),
        (
            "redis+sentinel://a.test/m?sentinel_username=hunter2",
            "without a sentinel_password",
        ),
        ("redis+cluster://:hunter2@a.test/1", "no databases"),
        ("redis+cluster://:hunter2@a.test/?x=1", "takes none"),
        ("redis+cluster://:hunter2@a.test,,b.test", "number 2"),
        ("redis+cluster://a.test,hunter2:x", "number 2"),
        ("redis+cluster://:hunter2/3@a.test", "no databases"),
    ] {
        let what = RedisUrl::parse(url)
            .err()
            .unwrap_or_else(|| panic!("{url} was taken"));
        assert!(what.contains(why), "{url}: {what}");
        assert!(!what.contains("hunter2"), "{what}");
    }
}

#[test]
fn dynomite_takes_a_plain_url_only() {
    for (url, why) in [
        ("redis://a.test/1", "SELECT"),
        ("redis://:hunter2@a.test", "AUTH"),
        ("redis://gw@a.test", "AUTH"),
        ("redis://a.test?protocol=resp3", "HELLO"),
        ("redis+cluster://a.test", "one server"),
        ("redis+sentinel://a.test/main", "one server"),
    ] {
        let read = RedisUrl::parse(url).unwrap_or_else(|what| panic!("{url}: {what}"));
        let what = read.refused_by_dynomite().unwrap_or_default();
        assert!(what.contains(why), "{url}: {what}");
    }
    let plain = RedisUrl::parse("redis://a.test:8102/0").unwrap();
    assert_eq!(plain.refused_by_dynomite(), None);
}
