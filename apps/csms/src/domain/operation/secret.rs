//! Parts of operations that are secrets. They are in no event: whoever asked keeps them in memory
//! until the operation has been sent.

use super::bounded::BoundedText;
use super::request::{FileLocation, StationOperation};

/// Parts of the keys of settings whose values are secrets.
const SECRET_KEYS: [&str; 13] = [
    "apikey",
    "authorizationkey",
    "credential",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "presharedkey",
    "privatekey",
    "psk",
    "pwd",
    "secret",
    "token",
];
/// Shown in the place of a password.
const HIDDEN: &str = "***";

/// Tells whether the value of a setting is a secret.
#[must_use]
pub(crate) fn is_secret(key: &str) -> bool {
    let has = |key: &str| SECRET_KEYS.iter().any(|secret| key.contains(secret));
    let key = key.to_ascii_lowercase();
    let letters: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
    has(&letters) || has_pin(&key)
}

/// Tells whether a key names a PIN, such as `SimPin`; `WebSocketPingInterval` and `Mapping` do not.
fn has_pin(key: &str) -> bool {
    key.match_indices("pin").any(|(at, pin)| !key[at + pin.len()..].starts_with('g'))
}

/// Setting that holds the key by which a station shows who it is.
const KEY_SETTING: &str = "AuthorizationKey";

impl StationOperation {
    /// Returns the operation that has a station take a new key; `None` if it is too long.
    pub(crate) fn change_key(value: &str) -> Option<Self> {
        let (key, value) = (BoundedText::new(KEY_SETTING).ok()?, BoundedText::new(value).ok()?);
        Some(Self::ChangeSetting { key, value: Some(value) })
    }

    /// Returns the new key that the operation has a station take; `None` if it has none.
    pub(crate) fn carried_key(&self) -> Option<&str> {
        match self {
            Self::ChangeSetting { key, value: Some(value) }
                if key.as_str().eq_ignore_ascii_case(KEY_SETTING) =>
            {
                Some(value.as_str())
            }
            _ => None,
        }
    }

    /// Takes the secret out of the operation; `None` if it has none.
    pub(crate) fn take_secret(&mut self) -> Option<String> {
        match self {
            Self::ChangeSetting { key, value } if is_secret(key.as_str()) => {
                value.take().map(String::from)
            }
            Self::UploadDiagnostics { location, .. } | Self::UpdateFirmware { location, .. } => {
                hide_password(location)
            }
            Self::UploadLog { log, .. } => hide_password(&mut log.location),
            Self::UpdateSignedFirmware { firmware, .. } => hide_password(&mut firmware.location),
            _ => None,
        }
    }

    /// Returns the operation with its secret.
    #[must_use]
    pub(crate) fn with_secret(mut self, secret: &str) -> Self {
        let place = match &mut self {
            Self::ChangeSetting { value, .. } => {
                *value = BoundedText::new(secret).ok();
                return self;
            }
            Self::UploadDiagnostics { location, .. } | Self::UpdateFirmware { location, .. } => {
                location
            }
            Self::UploadLog { log, .. } => &mut log.location,
            Self::UpdateSignedFirmware { firmware, .. } => &mut firmware.location,
            _ => return self,
        };
        if let Ok(location) = FileLocation::new(secret) {
            *place = location;
        }
        self
    }
}

/// Hides the password in a URL; returns the URL with it, `None` if it has none.
fn hide_password(location: &mut FileLocation) -> Option<String> {
    let url = location.as_str();
    let from = url.find("://")? + 3;
    let authority = &url[from..][..url[from..].find(['/', '?', '#']).unwrap_or(url.len() - from)];
    let at = authority.rfind('@')?;
    let colon = authority[..at].find(':')?;
    let hidden = format!("{}:{HIDDEN}{}", &url[..from + colon], &url[from + at..]);
    let whole = url.to_owned();
    // A password may be shorter than what stands for it; then the end is cut, which shows less.
    *location = FileLocation::new(hidden.chars().take(512).collect::<String>()).ok()?;
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_leaves_the_operation_and_comes_back() {
        let cases = [
            r#"{"ChangeSetting":{"key":"AuthorizationKey","value":"00112233"}}"#,
            r#"{"UpdateFirmware":{"location":"ftp://u:00112233@h/f.bin","retrieve_at":"2026-01-01T00:00:00Z"}}"#,
            r#"{"UploadDiagnostics":{"location":"sftp://u:00112233@h"}}"#,
        ];
        for json in cases {
            let whole: StationOperation = serde_json::from_str(json).unwrap();
            let mut bare = whole.clone();
            let secret = bare.take_secret().unwrap();
            let shown = format!("{bare:?}{}", serde_json::to_string(&bare).unwrap());
            assert!(!shown.contains("00112233"), "{shown}");
            assert_eq!(bare.with_secret(&secret), whole);
        }
    }

    #[test]
    fn a_secret_is_known_by_its_key() {
        for key in [
            "AuthorizationKey",
            "WifiPSK",
            "ApnPasswd",
            "apn_pwd",
            "SimPin",
            "PIN",
            "pin-code",
            "OAuthToken",
            "Private-Key",
            "client_secret",
            "ApiKey",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["WebSocketPingInterval", "CostMapping", "HeartbeatInterval", "Key", ""] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let cases = [
            r#"{"ChangeSetting":{"key":"HeartbeatInterval","value":"60"}}"#,
            r#"{"UploadDiagnostics":{"location":"ftp://u@h/a:b@c"}}"#,
            r#"{"UploadDiagnostics":{"location":"nonsense"}}"#,
            r#"{"ClearCache":{}}"#,
        ];
        for json in cases {
            let mut operation: StationOperation = serde_json::from_str(json).unwrap();
            assert_eq!(operation.take_secret(), None, "{json}");
        }
    }
}
