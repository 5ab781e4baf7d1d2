use super::*;

fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, String> {
    let variable = |name: &str| {
        environment.iter().find(|(given, _)| *given == name).map(|(_, text)| (*text).into())
    };
    let arguments = arguments.iter().map(OsString::from);
    match Config::read(arguments, variable).map_err(|error| error.to_string())? {
        Invocation::Serve(config) => Ok(*config),
        Invocation::Help => Err("help".to_owned()),
    }
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_no_text_is_refused_and_not_shown() {
    use std::os::unix::ffi::OsStringExt;

    for name in ["CSMS_API_TOKEN", "CSMS_STORE", "CSMS_OPEN"] {
        let variable =
            |given: &str| (given == name).then(|| OsString::from_vec(b"secret-\xff".to_vec()));
        let error = Config::read([], variable).unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn flags_win_over_the_environment_which_wins_over_defaults() {
    let config = read(
        &["--call-timeout", "2s"],
        &[("CSMS_CALL_TIMEOUT", "9s"), ("CSMS_OFFLINE_AFTER", "0.5")],
    )
    .unwrap();
    assert_eq!((config.call_timeout.as_millis(), config.offline_after.as_millis()), (2_000, 500));
    assert_eq!(config.store.as_str(), "./csms-data");
    assert!(config.open);
}

#[test]
fn open_mode_is_only_for_loopback_and_anything_else_needs_a_token() {
    assert!(!read(&["--listen", "0.0.0.0:8180"], &[]).unwrap().open);
    assert!(read(&["--listen", "0.0.0.0:8180", "--open"], &[]).unwrap_err().contains("loopback"));
    assert!(!read(&["--closed"], &[]).unwrap().open);
    assert!(read(&["--closed", "--api-token", "short"], &[]).unwrap_err().contains("at least 16"));
    let closed = read(&["--listen", "[::]:1", "--api-token", "0123456789abcdef"], &[]).unwrap();
    assert!(!closed.open);
    assert!(!read(&["--api-token", "0123456789abcdef"], &[]).unwrap().open);
}

#[test]
fn the_help_says_what_closed_mode_does_not_do_and_where_a_token_is_seen() {
    for said in [
        "registered identity alone",
        "proxy",
        "TLS",
        "basic authentication",
        "CSMS_API_TOKEN",
        "ps]",
    ] {
        assert!(HELP.contains(said), "{said}");
    }
    assert!(HELP.lines().all(|line| line.len() <= 120));
    let named = VALUES.iter().chain(&SWITCHES).all(|name| HELP.contains(&format!("--{name}")));
    assert!(named, "each flag is named");
}

#[test]
fn read_models_live_beside_the_events_unless_said() {
    assert_eq!(
        read(&["--store", "data"], &[]).unwrap().read_models,
        ReadModelPlace::Directory("data/read-models".into())
    );
    for (store, expected) in [
        ("file:data", "data/read-models"),
        ("file:data?clock-behind=go-on&clock-doubtful=refuse", "data/read-models"),
        ("file:///data?clock-doubtful=refuse", "/data/read-models"),
        ("file://localhost/my%20data", "/my data/read-models"),
        ("./50%25", "./50%25/read-models"),
        ("./really?", "./really?/read-models"),
    ] {
        let config = read(&[], &[("CSMS_STORE", store)]).unwrap();
        assert_eq!(config.read_models, ReadModelPlace::Directory(expected.into()), "{store}");
        assert_eq!(config.store.as_str(), store, "the store is opened with its options");
    }
    assert_eq!(
        read(&["--read-models", "rows"], &[]).unwrap().read_models,
        ReadModelPlace::Directory("rows".into())
    );
    let url = "postgres://reader@localhost/csms";
    assert_eq!(
        read(&[], &[("CSMS_READ_MODELS", url)]).unwrap().read_models,
        ReadModelPlace::Postgres(Confidential::new(url))
    );
    assert!(read(&["--read-models", "mysql://localhost"], &[]).unwrap_err().contains("mysql"));
    for store in ["postgres://csms@localhost/csms?schema=events", "PostgreSQL://localhost/csms"] {
        let config = read(&["--store", store], &[]).unwrap();
        assert_eq!(
            config.read_models,
            ReadModelPlace::StoreDatabase(Confidential::new(store)),
            "in the database of the events"
        );
        assert_eq!(config.store.as_str(), store);
    }
}

#[test]
fn keys_live_beside_the_events_and_never_in_their_folder() {
    for (store, expected) in [
        ("data", "data-keys"),
        ("file:///var/data?clock-doubtful=refuse", "/var/data-keys"),
        (
            "postgres://csms@h/d?schema=events&sslmode=require",
            "postgres://csms@h/d?sslmode=require",
        ),
    ] {
        let config = read(&["--store", store], &[]).unwrap();
        assert_eq!(config.keys.reveal(), expected);
    }
    let elsewhere = read(&["--keys", "/secrets"], &[]).unwrap();
    assert_eq!(elsewhere.keys.reveal(), "/secrets");
}

#[test]
fn a_store_that_cannot_be_is_refused_before_read_models_are_looked_for_beside_it() {
    let refused = read(&["--store", "file://elsewhere/data"], &[]).unwrap_err();
    assert!(refused.contains("file://elsewhere/data") && refused.contains("host"), "{refused}");
}

#[test]
fn a_value_that_may_hold_a_password_is_not_repeated() {
    let url = "mysql://csms:geheim@localhost/csms";
    let switch = format!("--open={url}");
    for (given, said) in [
        (vec!["--read-models", url], "read-models is \"[hidden"),
        (vec!["--read-models", "mysql://localhost?password=geheim"], "read-models is \"[hidden"),
        (vec!["--store", url], "the store [hidden"),
        (vec!["--call-timeout", url], "call-timeout is \"[hidden"),
        (vec![url], "\"[hidden"),
        (vec![&switch], "\"[hidden"),
    ] {
        let refused = Config::read(given.iter().map(OsString::from), |_| None).unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(!format!("{refused} {refused:?}").contains("geheim"), "{refused:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_token_that_is_no_text_is_not_repeated() {
    use std::os::unix::ffi::OsStringExt;
    let token = OsString::from_vec(b"geheim\xff".to_vec());
    let refused = Config::read(["--api-token".into(), token], |_| None).unwrap_err();
    assert!(refused.to_string().contains("api-token"), "{refused}");
    assert!(!format!("{refused} {refused:?}").contains("geheim"), "{refused:?}");
}

#[tokio::test]
async fn no_secret_is_debugged() {
    let invocation = Config::read([], |name| {
        let value = match name {
            "CSMS_API_TOKEN" => "geheim-0123456789abcdef",
            "CSMS_READ_MODELS" => "postgres://csms:geheim@localhost/csms",
            "CSMS_STORE" => "postgres://csms:geheim@localhost/events",
            _ => return None,
        };
        Some(value.into())
    })
    .unwrap();
    let debugged = format!("{invocation:?} {invocation:#?}");
    assert!(debugged.contains("[hidden]") && debugged.contains("127.0.0.1"), "{debugged}");
    let Invocation::Serve(config) = invocation else { panic!("{debugged}") };
    let store = leftfold::prelude::Store::memory();
    let keys = leftfold::personal::Keys::memory(&store).await.unwrap();
    let people = crate::people::People::new(&store, keys, config.sessions).unwrap();
    let csms = crate::app::Csms::new(*config, store, people).unwrap();
    for said in [debugged, format!("{csms:?} {csms:#?}")] {
        assert!(!said.contains("geheim"), "{said}");
    }
}

#[test]
fn what_is_no_value_is_named() {
    assert!(read(&["--offline-after", "soon"], &[]).unwrap_err().contains("offline-after"));
    assert!(read(&["--offline-after", "0"], &[]).unwrap_err().contains("1ms to 24h"));
    assert!(read(&["--listen", "everywhere"], &[]).unwrap_err().contains("everywhere"));
    assert!(read(&["--frobnicate"], &[]).unwrap_err().contains("--help"));
    assert_eq!(read(&["-h"], &[]).unwrap_err(), "help");
}
