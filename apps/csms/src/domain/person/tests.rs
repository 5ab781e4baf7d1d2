use std::time::Duration;

use leftfold::personal::{Keys, Personal};
use leftfold::prelude::{Store, Timestamp};
use leftfold::testing::given;

use super::user::SESSIONS_MAX;
use super::*;

fn at(seconds: u64) -> Timestamp {
    "2026-05-04T10:00:00Z".parse::<Timestamp>().unwrap().plus(Duration::from_secs(seconds))
}

fn key(number: usize) -> LoginKey {
    LoginKey(format!("{number:064x}"))
}

fn logged_in(number: usize, seconds: u64) -> UserAccountEvent {
    let until = at(seconds + 86_400);
    UserAccountEvent::LoggedIn { session: key(number), at: at(seconds), until }
}

struct Ada {
    added: UserAccountEvent,
    password: Personal<LoginHash>,
}

async fn ada() -> Ada {
    let keys = Keys::memory(&Store::memory()).await.unwrap();
    let subject = keys.subject("user-1").await.unwrap();
    let name = subject.seal_findable("user", &LoginName::new("Ada").unwrap()).await.unwrap();
    let password = subject.seal(&LoginHash("$argon2id$…".to_owned())).unwrap();
    let role = AccessRole::Operator;
    let added = UserAccountEvent::Added { name, role, password: password.clone() };
    Ada { added, password }
}

#[tokio::test]
async fn what_shuts_a_user_out_ends_all_sessions() {
    let Ada { added, password } = ada().await;
    let idle = Duration::from_secs(3_600);
    let ends = [
        UserAccountEvent::PasswordChanged { password },
        UserAccountEvent::Disabled,
        UserAccountEvent::LoggedOutEverywhere,
        UserAccountEvent::Forgotten,
        UserAccountEvent::LoggedOut { session: key(1) },
    ];
    let session = |events: Vec<UserAccountEvent>| {
        let given = given::<UserAccount>(events);
        given.state().session(&key(1), at(10), idle).map(|(_, role)| role)
    };
    assert_eq!(session(vec![added.clone(), logged_in(1, 0)]), Some(AccessRole::Operator));
    for end in ends {
        assert_eq!(session(vec![added.clone(), logged_in(1, 0), end.clone()]), None, "{end:?}");
    }
    let demoted = UserAccountEvent::RoleChanged { role: AccessRole::Viewer };
    let events = vec![added, logged_in(1, 0), demoted];
    assert_eq!(session(events), Some(AccessRole::Viewer), "rights are those of now");
}

#[tokio::test]
async fn a_session_ends_without_use_and_at_the_latest_after_its_time() {
    let Ada { added, .. } = ada().await;
    let idle = Duration::from_secs(3_600);
    let used = UserAccountEvent::SessionUsed { session: key(1), at: at(3_000) };
    let given = given::<UserAccount>([added, logged_in(1, 0), used]);
    let is_open = |seconds| given.state().session(&key(1), at(seconds), idle).is_some();
    assert!(is_open(6_599) && !is_open(6_600));
    let always = Duration::from_secs(1_000_000);
    assert!(given.state().session(&key(1), at(86_399), always).is_some());
    assert!(given.state().session(&key(1), at(86_400), always).is_none());
    assert!(given.state().session(&key(2), at(1), idle).is_none());
    let use_again = UserAccountCommand::UseSession { session: key(1), at: at(3_000) };
    given.when(use_again).then_nothing();
}

#[tokio::test]
async fn beyond_the_sessions_that_are_kept_the_one_unused_for_longest_ends() {
    let Ada { added, .. } = ada().await;
    let mut events = vec![added];
    events.extend((0..SESSIONS_MAX).map(|number| logged_in(number, number as u64)));
    events.push(UserAccountEvent::SessionUsed { session: key(0), at: at(500) });
    events.push(logged_in(99, 600));
    let given = given::<UserAccount>(events);
    let sessions = &given.state().sessions;
    assert_eq!(sessions.len(), SESSIONS_MAX);
    assert!(sessions.contains_key(&key(0)) && !sessions.contains_key(&key(1)));
}

#[tokio::test]
async fn nobody_and_a_forgotten_user_do_nothing_and_a_disabled_one_does_not_log_in() {
    let Ada { added, .. } = ada().await;
    let log_in = || UserAccountCommand::LogIn { session: key(1), at: at(0), until: at(9) };
    given::<UserAccount>([]).when(log_in()).then_refused(UserAccountRefusal::Unknown);
    let disabled = [added.clone(), UserAccountEvent::Disabled];
    given::<UserAccount>(disabled).when(log_in()).then_refused(UserAccountRefusal::Disabled);
    let forgotten = || [added.clone(), UserAccountEvent::Forgotten];
    given::<UserAccount>(forgotten()).when(log_in()).then_refused(UserAccountRefusal::Forgotten);
    given::<UserAccount>(forgotten()).when(UserAccountCommand::Forget).then_nothing();
}

#[tokio::test]
async fn a_name_belongs_to_one_user_until_that_user_is_forgotten() {
    let store = Store::memory();
    let keys = Keys::memory(&store).await.unwrap();
    let add = async |id: &str, name: &str| {
        let subject = keys.subject(&format!("user-{id}")).await.unwrap();
        let name = LoginName::new(name).unwrap();
        let name = subject.seal_findable("user", &name).await.unwrap();
        let password = subject.seal(&LoginHash(String::new())).unwrap();
        let id = id.to_owned();
        let adding = AddUser { id, name, role: AccessRole::Viewer, password };
        store.decide(&adding).await.map(|_| ()).map_err(|error| error.into_refusal().unwrap())
    };
    assert_eq!(add("1", "Ada").await, Ok(()));
    assert_eq!(add("2", " ADA ").await, Err(NameTaken));
    assert_eq!(add("3", "Bob").await, Ok(()));
    keys.forget("user-2").await.unwrap();
    keys.forget("user-1").await.unwrap();
    assert_eq!(add("4", "ada").await, Ok(()));
}

#[test]
fn a_token_admits_its_secret_alone_until_it_expires_or_is_revoked() {
    let (hash, other) = (blake3::hash(b"secret"), blake3::hash(b"guess"));
    let created = ApiTokenEvent::Created {
        name: "billing".to_owned(),
        role: AccessRole::Viewer,
        hash: hash.to_hex().to_string(),
        expires_at: at(100),
    };
    let token = given::<ApiToken>([created.clone()]);
    assert_eq!(token.state().admits(&hash, at(99)), Some(AccessRole::Viewer));
    assert_eq!(token.state().admits(&hash, at(100)), None);
    assert_eq!(token.state().admits(&other, at(0)), None);
    token.when(ApiTokenCommand::Revoke).then([ApiTokenEvent::Revoked]);
    let revoked = given::<ApiToken>([created, ApiTokenEvent::Revoked]);
    assert_eq!(revoked.state().admits(&hash, at(0)), None);
    revoked.when(ApiTokenCommand::Revoke).then_nothing();
    given::<ApiToken>([]).when(ApiTokenCommand::Revoke).then_refused(ApiTokenRefusal::Unknown);
}

#[test]
fn a_name_is_a_text_of_some_characters() {
    assert_eq!(LoginName::new(" Ada Lovelace ").unwrap().as_str(), "ada lovelace");
    for none in ["", "  ", "a\nb", &"x".repeat(101)] {
        assert_eq!(LoginName::new(none), None, "{none:?}");
    }
    assert!(AccessRole::Viewer < AccessRole::Operator && AccessRole::Operator < AccessRole::Admin);
    for role in AccessRole::ALL {
        assert_eq!(AccessRole::of_name(role.name()), Some(role));
        assert_eq!(serde_json::to_value(role).unwrap(), role.name());
    }
}
