//! The configuration of a station: as the station reports it, beside what was asked of it and what
//! it answered.

use std::collections::BTreeMap;

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::request::{OperationAnswered, OperationResult, ReportedSetting, SettingKey};
use crate::domain::request::StationAnswer;

/// Settings of a station that are kept at most.
pub(crate) const SETTINGS_MAX: usize = 500;

/// Configuration of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// Settings by their keys.
    pub(crate) by_key: BTreeMap<String, Setting>,
    /// Moment when all settings were read last; `None` if they never were.
    pub(crate) read_at: Option<Timestamp>,
    /// True if a change takes effect after a restart.
    pub(crate) restart_required: bool,
}

/// Setting of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Setting {
    /// Setting as it was reported last; `None` if it never was.
    pub(crate) reported: Option<ReportedSetting>,
    /// Moment of that report.
    pub(crate) reported_at: Option<Timestamp>,
    /// True if the station said last that it does not know the key.
    pub(crate) is_unknown: bool,
    /// Change that was asked for last.
    pub(crate) asked: Option<AskedSetting>,
}

/// Change of a setting that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskedSetting {
    /// Value that was asked for; `None` if it is a secret.
    pub(crate) value: Option<String>,
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// Answer of the station.
    pub(crate) answer: StationAnswer,
    /// True if the change takes effect after a restart.
    pub(crate) restart_required: bool,
}

impl Settings {
    /// Takes in the answer to a change.
    pub(super) fn changed(&mut self, key: &str, value: Option<&str>, answered: &OperationAnswered) {
        let restart_required = matches!(answered.result, Some(OperationResult::RestartRequired {}));
        self.restart_required |= restart_required;
        if let Some(setting) = self.setting(key) {
            let (value, at) = (value.map(str::to_owned), answered.at);
            let answer = answered.answer.clone();
            setting.asked = Some(AskedSetting { value, at, answer, restart_required });
        }
    }

    /// Takes in the answer to the question for settings, for all of them if no keys were named.
    pub(super) fn read(&mut self, keys: &[SettingKey], answered: &OperationAnswered) {
        let (settings, unknown) = match &answered.result {
            Some(OperationResult::Settings { settings, unknown }) => (settings, unknown),
            Some(OperationResult::SettingsUnchanged {}) => {
                self.read_at = Some(answered.at);
                let reported = |setting: &&mut Setting| setting.reported.is_some();
                for setting in self.by_key.values_mut().filter(reported) {
                    setting.reported_at = Some(answered.at);
                }
                return;
            }
            _ => return,
        };
        if keys.is_empty() {
            self.read_at = Some(answered.at);
            self.by_key.values_mut().for_each(|setting| setting.reported = None);
        }
        for reported in settings {
            if let Some(setting) = self.setting(&reported.key) {
                setting.reported = Some(reported.clone());
                setting.reported_at = Some(answered.at);
                setting.is_unknown = false;
            }
        }
        for key in unknown {
            if let Some(setting) = self.by_key.get_mut(key) {
                (setting.reported, setting.is_unknown) = (None, true);
            }
        }
        self.by_key.retain(|_, setting| {
            setting.reported.is_some() || setting.asked.is_some() || setting.is_unknown
        });
    }

    /// Tells whether the settings that the station reports are exactly these.
    pub(super) fn are(&self, settings: &[ReportedSetting]) -> bool {
        let known = self.by_key.values().filter(|setting| setting.reported.is_some()).count();
        known == settings.len()
            && settings.iter().all(|reported| {
                self.by_key
                    .get(&reported.key)
                    .is_some_and(|known| known.reported.as_ref() == Some(reported))
            })
    }

    /// Tells whether the station has reported this value since a moment.
    pub(super) fn reports_since(&self, key: &str, value: &str, since: Timestamp) -> bool {
        let Some(setting) = self.by_key.get(key) else { return false };
        let reported = setting.reported.as_ref().and_then(|reported| reported.value.as_deref());
        setting.reported_at.is_some_and(|at| at > since) && reported == Some(value)
    }

    /// Returns the value that the station reported for a key, as a number.
    #[must_use]
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.trim().parse().ok()
    }

    /// Returns the value that the station reported for a key.
    #[must_use]
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.by_key.get(key)?.reported.as_ref()?.value.as_deref()
    }

    /// Tells whether the station reported that a setting cannot be changed.
    #[must_use]
    pub(crate) fn is_readonly(&self, key: &str) -> bool {
        let reported = self.by_key.get(key).and_then(|setting| setting.reported.as_ref());
        reported.is_some_and(|reported| reported.readonly)
    }

    fn setting(&mut self, key: &str) -> Option<&mut Setting> {
        if self.by_key.len() >= SETTINGS_MAX && !self.by_key.contains_key(key) {
            return None;
        }
        Some(self.by_key.entry(key.to_owned()).or_default())
    }
}
