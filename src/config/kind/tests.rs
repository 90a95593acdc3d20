use super::*;

#[test]
fn numbers_outside_their_range_are_refused() {
    let kind = number(Unit::Count, 1, 10);
    assert_eq!(kind.read_text("10"), Ok(json!(10)));
    for bad in ["0", "11", "-1", "1.5", "many", " 1"] {
        let what = kind.read_text(bad).unwrap_err();
        assert!(what.contains("a whole number from 1 to 10"), "{what}");
    }
}

#[test]
fn a_number_has_its_unit() {
    for (unit, text, time) in [
        (Unit::Millis, "1500", Duration::from_millis(1500)),
        (Unit::Seconds, "90", Duration::from_secs(90)),
        (Unit::Seconds, "1500ms", Duration::from_millis(1500)),
        (Unit::Millis, "2m", Duration::from_secs(120)),
        (Unit::Seconds, "1m 30s", Duration::from_secs(90)),
    ] {
        assert_eq!(
            number(unit, 1, YEAR).read_text(text),
            Ok(json!(time)),
            "{text}"
        );
    }
    for (text, size) in [
        ("1000", 1000),
        ("64MB", 64_000_000),
        ("64MiB", 64 << 20),
        ("1 GB", 1_000_000_000),
    ] {
        assert_eq!(
            number(Unit::Bytes, 1, 1 << 40).read_text(text),
            Ok(json!(size)),
            "{text}"
        );
    }
    for (unit, bad) in [
        (Unit::Seconds, "0s"),
        (Unit::Seconds, "500ms"),
        (Unit::Seconds, "2years"),
        (Unit::Seconds, "64MB"),
        (Unit::Seconds, "99999999999999999999s"),
        (Unit::Bytes, "10s"),
        (Unit::Bytes, "2TB"),
        (Unit::Count, "10s"),
    ] {
        let kind = match unit {
            Unit::Bytes => number(unit, 1, 1 << 40),
            _ => number(unit, 1, YEAR),
        };
        let what = kind.read_text(bad).unwrap_err();
        assert!(
            what.starts_with(&format!("is `{bad}`; allowed: a whole number")),
            "{what}"
        );
    }
}

#[test]
fn a_value_that_is_rarely_meant_is_warned_about() {
    let millis = number(Unit::Millis, 1, YEAR * 1000).usual(100, 600_000);
    let unusual = |millis_given| millis.unusual(&json!(Duration::from_millis(millis_given)));
    assert_eq!(unusual(100), None);
    assert_eq!(unusual(600_000), None);
    assert_eq!(
        unusual(3).as_deref(),
        Some(
            "is 3ms, far outside the usual 100ms to 10m; a plain number counts milliseconds, \
             others have a unit, as 3s"
        )
    );
    let bytes = number(Unit::Bytes, 1, 1 << 40).usual(1, 1 << 34);
    assert_eq!(bytes.unusual(&json!(1 << 20)), None);
    let what = bytes.unusual(&json!(1_u64 << 35)).unwrap_or_default();
    assert!(what.starts_with("is 32.0 GiB, far outside"), "{what}");
}

#[test]
fn endpoints_are_split_at_commas() {
    let read = |text| OptionKind::Endpoints.read_text(text);
    let two = json!([{ "host": "a.test", "port": 1 }, { "host": "::1", "port": 2 }]);
    assert_eq!(read("a.test:1, [::1]:2"), Ok(two));
    assert_eq!(read(""), Ok(json!([])));
    assert!(read("a.test:1,,b.test:1").is_err());
}

#[test]
fn a_service_in_one_word_has_its_names() {
    let named = |name: &str| json!({ "host": name });
    for (word, local, hidden) in [
        ("muc.a.test", None, false),
        ("muc.a.test=rooms.b.test", Some("rooms.b.test"), false),
        ("muc.a.test:hidden", None, true),
        ("muc.a.test=rooms.b.test:hidden", Some("rooms.b.test"), true),
    ] {
        let expected =
            json!({ "domain": named("muc.a.test"), "local": local.map(named), "hidden": hidden });
        assert_eq!(service_word(word), Some(expected), "{word}");
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
        assert_eq!(service_word(bad), None, "{bad}");
    }
}

#[test]
fn a_misspelt_level_is_no_module() {
    for good in ["info", "WARN", "off", "info,strait::link=debug"] {
        assert!(is_filter(good), "{good}");
    }
    for bad in ["", "infoo", "strait", "strait=loud", "=debug", "info,"] {
        assert!(!is_filter(bad), "{bad}");
    }
}

#[test]
fn ciphers_that_rustls_lacks_are_named() {
    let good = "TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES256-GCM-SHA384";
    assert!(OptionKind::Ciphers.read_text(good).is_ok());
    let what = OptionKind::Ciphers
        .read_text("TLS_AES_128_GCM_SHA256:DHE-RSA-AES256-SHA")
        .unwrap_err();
    assert!(
        what.starts_with("has `DHE-RSA-AES256-SHA`, which"),
        "{what}"
    );
    assert!(what.contains("ECDHE-ECDSA-CHACHA20-POLY1305"), "{what}");
}

#[test]
fn localhost_stands_for_its_address() {
    assert_eq!(address("localhost:9090"), "127.0.0.1:9090".parse().ok());
    assert_eq!(address("gateway.test:9090"), None);
}
