//! The file of users: TOML, for people to read and write.
//!
//! ```toml
//! [users.shop]
//! password = "$argon2id$v=19$m=19456,t=2,p=1$…"
//! role = "runtime"                     # in every store
//!
//! [users.till]
//! tokens = ["blake3:4f1c…"]            # several, so that one can take the place of another
//!
//! [users.till.stores.orders]           # in this store, and in no other
//! role = "append"
//! append.streams = ["order-"]          # only in streams whose names begin so
//! append.tags = ["shop:7"]             # and only with one of these tags
//!
//! [users.till.limits]
//! calls_per_second = 100
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leftfold_callers::{hash_password, is_password_hash};
use serde::Deserialize;
use uuid::Uuid;

use super::rights::{EventScope, StoreGrant, UserRights, UserRole};
use super::{NewUser, User, UserTable, UsersError};
use crate::guard::UserLimits;
use crate::stores::is_store_name;

/// Bytes of a file of users.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Beginning of the hash of a token, which names its function.
const TOKEN_HASH: &str = "blake3:";
/// Beginning of each token that is drawn here, by which leaked ones are found.
const TOKEN: &str = "leftfold_";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    users: BTreeMap<UserName, UserText>,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct UserName(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserText {
    password: Option<PasswordHash>,
    #[serde(default)]
    tokens: Vec<TokenHash>,
    role: Option<UserRole>,
    #[serde(default)]
    append: EventScope,
    #[serde(default)]
    read: EventScope,
    #[serde(default)]
    stores: BTreeMap<StoreKey, GrantText>,
    #[serde(default)]
    limits: UserLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantText {
    role: UserRole,
    #[serde(default)]
    append: EventScope,
    #[serde(default)]
    read: EventScope,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct PasswordHash(String);

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct TokenHash(blake3::Hash);

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct StoreKey(String);

impl TryFrom<String> for UserName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_user_name(&text) { Ok(Self(text)) } else { Err(USER_NAME) }
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_password_hash(&text) {
            Ok(Self(text))
        } else {
            Err("a password is an argon2 hash: `leftfold user`")
        }
    }
}

impl TryFrom<String> for TokenHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hash = text.strip_prefix(TOKEN_HASH).and_then(|hex| blake3::Hash::from_hex(hex).ok());
        hash.map(Self).ok_or("a token is written as its hash, blake3: and 64 digits")
    }
}

impl TryFrom<String> for StoreKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_store_name(&text) { Ok(Self(text)) } else { Err("no store can have this name") }
    }
}

const USER_NAME: &str = "a user has a name without spaces, ':', '#', '/' and '@'";

fn is_user_name(name: &str) -> bool {
    let is_forbidden =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '#' | '/' | '@');
    !name.is_empty() && name.len() <= 255 && !name.contains(is_forbidden)
}

/// Reads the bytes of the file.
pub(super) fn bytes_of(path: &Path) -> Result<Vec<u8>, UsersError> {
    let failed = |detail: String| UsersError::File { path: path.to_owned(), detail };
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(format!("it has {size} bytes, and may have {FILE_BYTES_MAX}")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

/// Reads the users of a file.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<UserTable, UsersError> {
    let path = || path.to_owned();
    let at = |offset: usize| bytes[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
    let text = std::str::from_utf8(bytes).map_err(|error| UsersError::Line {
        path: path(),
        line: at(error.valid_up_to()),
        detail: "the text is not UTF-8".to_owned(),
    })?;
    let file: FileText = toml::from_str(text).map_err(|error| UsersError::Line {
        path: path(),
        line: error.span().map_or(1, |span| at(span.start.min(bytes.len()))),
        detail: without_values(error.message()),
    })?;
    let (mut users, mut tokens) = (HashMap::new(), HashMap::new());
    for (UserName(name), text) in file.users {
        let user = user_of(text).map_err(|detail| fault(path(), &name, detail))?;
        for token in &user.tokens {
            if tokens.insert(*token.as_bytes(), name.clone()).is_some() {
                return Err(fault(path(), &name, "another user has one of the tokens"));
            }
        }
        users.insert(name, Arc::new(user));
    }
    Ok(UserTable { users, tokens })
}

fn fault(path: PathBuf, name: &str, detail: &'static str) -> UsersError {
    UsersError::User { path, name: name.to_owned(), detail }
}

fn user_of(text: UserText) -> Result<User, &'static str> {
    if text.password.is_none() && text.tokens.is_empty() {
        return Err("there is neither a password nor a token");
    }
    if text.role.is_none() && !(text.append.is_whole() && text.read.is_whole()) {
        return Err("append and read belong to a role, and there is none beside them");
    }
    let grant = |role, append, read| {
        StoreGrant::new(role, append, read)
            .ok_or("append and read cannot narrow the roles runtime and admin, leave them out")
    };
    let elsewhere = text.role.map(|role| grant(role, text.append, text.read)).transpose()?;
    let stores = text.stores.into_iter().map(|(StoreKey(name), text)| {
        let GrantText { role, append, read } = text;
        Ok((name, grant(role, append, read)?))
    });
    let stores = stores.collect::<Result<BTreeMap<_, _>, &'static str>>()?;
    if elsewhere.is_none() && stores.is_empty() {
        return Err("there is no role, neither for all stores nor for one");
    }
    Ok(User {
        rights: UserRights { elsewhere, stores },
        limits: text.limits,
        password: text.password.map(|hash| hash.0.into()),
        tokens: text.tokens.into_iter().map(|hash| hash.0).collect(),
    })
}

/// Leaves the values out of a message of the parser, and keys that nobody knows: each may be a
/// secret in the wrong place.
fn without_values(message: &str) -> String {
    let cut = |opens: &str, closes: &str| {
        let (before, rest) = message.split_once(opens)?;
        let after = rest.rsplit_once(closes).map_or("", |(_, after)| after);
        Some((before.to_owned(), after.to_owned()))
    };
    if !message.starts_with("unknown ")
        && let Some((before, after)) = cut("string \"", "\"")
    {
        return format!("{before}text{after}");
    }
    // The names that are expected stand behind the one that is there.
    match cut(" `", "`, expected") {
        Some((before, after)) if message.contains("`, expected") => {
            format!("{before}, expected{after}")
        }
        _ => message.to_owned(),
    }
}

/// Makes the entry of a user with a password.
pub(super) fn with_password(name: &str, role: &str, password: &str) -> Result<String, UsersError> {
    entry(name, role, &format!("password = \"{}\"", hash_password(password.as_bytes())?))
}

/// Makes the entry of a user with a token, which is drawn.
pub(super) fn with_token(name: &str, role: &str) -> Result<NewUser, UsersError> {
    let [first, second] = [(); 2].map(|()| Uuid::new_v4().simple());
    let token = format!("{TOKEN}{first}{second}");
    let hash = blake3::hash(token.as_bytes());
    let entry = entry(name, role, &format!("tokens = [\"{TOKEN_HASH}{hash}\"]"))?;
    Ok(NewUser { entry, token })
}

fn entry(name: &str, role: &str, secret: &str) -> Result<String, UsersError> {
    let role = UserRole::named(role).filter(|_| is_user_name(name)).ok_or(UsersError::Name)?;
    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let key = if is_bare {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    };
    Ok(format!("[users.{key}]\n{secret}\nrole = \"{role}\"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_the_file_reaches_a_message() {
        let path = Path::new("users");
        for text in [
            "[users.ada]\ntokens = \"hunter2\"",
            "[users.ada]\npassword = \"hunter2\"\nrole = \"read\"",
            "[users.ada]\nappend = \"hunter2 \\\" hunter2\"",
            "[users.ada]\ntokens = [\"hunter2\"]",
            "[users.ada]\npassword = hunter2",
            "users = \"hunter2\"",
            "[users.ada]\nrole = \"hunter2\"",
            "[users.ada]\nrole = \"string \\\"x\\\" `, expected hunter2\"",
            "[users.ada]\nhunter2 = \"read\"",
            "[users.ada]\n\"`, expected hunter2\" = \"read\"",
            "[users.ada]\npassword = 7",
            "[users.ada]\nlimits.calls_per_second = \"hunter2\"",
        ] {
            let error = parse(path, text.as_bytes()).map(drop).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
