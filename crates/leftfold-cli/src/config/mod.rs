//! Settings of a server: from arguments, from the environment, and from a file, in that order.

// `settings` has them all, by their keys; `file` reads them from TOML, with the line of each fault.

mod file;
mod settings;

pub(crate) use file::ConfigFile;
pub(crate) use settings::{NamedStore, ServeSettings, SettingValue, listen_address};

/// Beginning of the names of variables.
const VARIABLE: &str = "LEFTFOLD_";

/// Returns the settings of the environment: `limits.connections` is `LEFTFOLD_LIMITS_CONNECTIONS`.
///
/// # Errors
/// The name of the variable that cannot be used, and the reason.
pub(crate) fn of_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<ServeSettings, String> {
    let mut settings = ServeSettings::default();
    for key in settings::KEYS {
        let name = format!("{VARIABLE}{}", key.to_uppercase().replace('.', "_"));
        if let Some(text) = variable(&name) {
            let set = settings.set(key, settings::SettingValue::Words(&text));
            set.map_err(|reason| format!("{name}: {reason}"))?;
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_variable_and_a_fault_names_it() {
        let of = |name: &'static str, text: &'static str| {
            of_environment(|asked| (asked == name).then(|| text.to_owned()))
        };
        let settings = of("LEFTFOLD_LIMITS_USER_CALLS_PER_SECOND", "7").unwrap();
        assert_eq!(settings.user_limits.calls_per_second, Some(7));
        let settings = of("LEFTFOLD_STORES", "./data stock=memory:").unwrap();
        assert_eq!(
            settings.stores.iter().map(|store| &*store.name).collect::<Vec<_>>(),
            ["default", "stock"]
        );
        let settings = of("LEFTFOLD_LISTEN", "127.0.0.1:1 [::1]:2").unwrap();
        assert_eq!(settings.listen.len(), 2);
        let fault = of("LEFTFOLD_INSECURE", "perhaps").unwrap_err();
        assert!(fault.starts_with("LEFTFOLD_INSECURE: "), "{fault}");
    }
}
