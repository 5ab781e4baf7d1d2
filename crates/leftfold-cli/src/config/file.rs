//! The file of settings: TOML, read to its end whatever is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::settings::{ServeSettings, SettingValue};

/// Settings of a file, and all faults that it has.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) settings: ServeSettings,
    pub(crate) faults: Vec<ConfigFault>,
    /// Lines of the settings, by key.
    lines: BTreeMap<String, usize>,
}

/// Fault of a line. Its text has no value of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConfigFault {
    /// Number of the line, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// The reason why it cannot be read at all.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the settings in {path:?} cannot be read: {error}"))?;
        Ok(Self { path: path.to_owned(), ..Self::of(&text) })
    }

    fn of(text: &str) -> Self {
        let mut file = Self::default();
        let line =
            |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(1, |span| line(span.start));
            file.faults.push(ConfigFault { line: at, text: error.message().to_owned() });
        }
        file.take(table.get_ref(), "", &line);
        file.faults.sort();
        file
    }

    fn take(&mut self, table: &DeTable<'_>, above: &str, line: &dyn Fn(usize) -> usize) {
        for (name, value) in table {
            let key = format!("{above}{}", name.get_ref());
            let at = line(name.span().start);
            if let DeValue::Table(below) = value.get_ref() {
                self.take(below, &format!("{key}."), line);
                continue;
            }
            self.lines.insert(key.clone(), at);
            if let Err(reason) = set(&mut self.settings, &key, value) {
                self.faults.push(ConfigFault { line: at, text: format!("{key}: {reason}") });
            }
        }
    }

    /// Returns all faults, also those of what the file names: users and certificates.
    pub(crate) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = self.faults.clone();
        let mut fault = |key: &str, reason: &str| {
            let line = self.lines.get(key).copied().unwrap_or(1);
            faults.push(ConfigFault { line, text: format!("{key}: {reason}") });
        };
        match self.settings.options() {
            Err((key, reason)) => fault(key, &reason),
            Ok(options) => {
                let names = self.settings.stores.iter().map(|store| &*store.name);
                if let Err(error) = options.check(names) {
                    fault("listen", &error.to_string());
                }
            }
        }
        faults.sort();
        faults
    }
}

fn set(
    settings: &mut ServeSettings,
    key: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), String> {
    match value.get_ref() {
        DeValue::String(text) => settings.set(key, SettingValue::Text(text)),
        DeValue::Boolean(truth) => settings.set(key, SettingValue::Truth(*truth)),
        DeValue::Integer(number) => {
            let read = u64::from_str_radix(number.as_str(), number.radix());
            let number = read.map_err(|_| "the number is negative or too large".to_owned())?;
            settings.set(key, SettingValue::Number(number))
        }
        DeValue::Array(values) => {
            let text = |value: &'_ Spanned<DeValue<'_>>| match value.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            };
            let texts: Option<Vec<String>> = values.iter().map(text).collect();
            let texts = texts.ok_or_else(|| "the list has something else than texts".to_owned())?;
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            settings.set(key, SettingValue::Texts(&texts))
        }
        _ => Err("write a text, a number, true, false or a list of texts".to_owned()),
    }
}

impl fmt::Display for ConfigFile {
    /// Its faults, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.faults.iter().map(|fault| fault.at(&self.path));
        f.write_str(&lines.by_ref().collect::<Vec<_>>().join("\n"))
    }
}

impl ConfigFault {
    /// Returns the fault with its place, as compilers write it.
    pub(crate) fn at(&self, path: &Path) -> String {
        format!("{}:{}: {}", path.display(), self.line, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_found_each_with_its_line_and_no_value() {
        let text = "stores.orders = \"./orders\"\nlisten = [\"here hunter2\"]\ninsecure = 1\n\
                    [limits]\nconnections = -1\nconections = 1\n[tls]\ncert = \"\"\n\
                    [stores]\n\"a/b\" = \"hunter2\"\n";
        let text = text.replace("[stores]\n\"a/b\"", "[limits.stores.x]\nspeed = 1\n[other]\ny");
        let file = ConfigFile::of(&text);
        let lines: Vec<_> = file.faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [2, 3, 5, 6, 8, 10, 12], "{:?}", file.faults);
        assert!(!format!("{:?}", file.faults).contains("hunter2"));
        assert_eq!(file.settings.stores[0].name, "orders");
    }

    #[test]
    fn what_is_no_toml_and_what_contradicts_itself_has_a_line_too() {
        let broken = ConfigFile::of("listen = \"127.0.0.1:1\"\nusers = \n[tls\ncert = \"a\"\n");
        assert!(broken.faults.iter().any(|fault| fault.line == 2), "{:?}", broken.faults);
        let of = |text: &str| ConfigFile::of(text).check();
        assert_eq!(of("stores.a = \"memory:\"\n"), []);
        let lines = |text: &str| of(text).into_iter().map(|fault| fault.line).collect::<Vec<_>>();
        assert_eq!(lines("stores.a = \"memory:\"\n\nlisten = \"0.0.0.0:1\"\n"), [3]);
        assert_eq!(lines("stores.a = \"memory:\"\nusers = \"none.toml\"\n"), [2]);
        assert_eq!(lines("stores.a = \"memory:\"\n[tls]\nkey = \"a.key\"\n"), [3]);
    }
}
