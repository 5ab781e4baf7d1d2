//! Meter values (OCPP 1.6 sections 7.30, 7.31, 7.33 to 7.35, 7.43, 7.45 and 7.49).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ocpp::open_enum::open_enum;
use crate::ocpp::reading::{Fields, Notes, Presence, ViolationKind};

/// Readings taken at one moment. Every sampled value is kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MeterValue {
    /// Moment of the readings; `None` if it was missing or unreadable.
    pub(crate) timestamp: Option<Timestamp>,
    /// The readings.
    pub(crate) sampled_values: Vec<SampledValue>,
}

/// One reading. If a field is left out, the specification names a default, which the methods apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SampledValue {
    /// The value as text, usually a decimal number.
    pub(crate) value: String,
    /// JSON text of the value as it came; `None` if it is the one that we write for `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raw: Option<String>,
    /// Occasion of the reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<ReadingContext>,
    /// Format of the value: a number or signed binary data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<ValueFormat>,
    /// Measured quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) measurand: Option<Measurand>,
    /// Phase; `None` for all phases together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<Phase>,
    /// Place of the measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<Location>,
    /// Unit of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<UnitOfMeasure>,
}

open_enum! {
    /// Occasion of a reading. The specification's `Other` is [`ReadingContext::OtherContext`].
    ReadingContext {
        InterruptionBegin = "Interruption.Begin",
        InterruptionEnd = "Interruption.End",
        OtherContext = "Other",
        SampleClock = "Sample.Clock",
        SamplePeriodic = "Sample.Periodic",
        TransactionBegin = "Transaction.Begin",
        TransactionEnd = "Transaction.End",
        Trigger = "Trigger",
    }
}

open_enum! {
    /// Format of a value.
    ValueFormat {
        Raw = "Raw",
        SignedData = "SignedData",
    }
}

open_enum! {
    /// Measured quantity.
    Measurand {
        CurrentExport = "Current.Export",
        CurrentImport = "Current.Import",
        CurrentOffered = "Current.Offered",
        EnergyActiveExportInterval = "Energy.Active.Export.Interval",
        EnergyActiveExportRegister = "Energy.Active.Export.Register",
        EnergyActiveImportInterval = "Energy.Active.Import.Interval",
        EnergyActiveImportRegister = "Energy.Active.Import.Register",
        EnergyReactiveExportInterval = "Energy.Reactive.Export.Interval",
        EnergyReactiveExportRegister = "Energy.Reactive.Export.Register",
        EnergyReactiveImportInterval = "Energy.Reactive.Import.Interval",
        EnergyReactiveImportRegister = "Energy.Reactive.Import.Register",
        Frequency = "Frequency",
        PowerActiveExport = "Power.Active.Export",
        PowerActiveImport = "Power.Active.Import",
        PowerFactor = "Power.Factor",
        PowerOffered = "Power.Offered",
        PowerReactiveExport = "Power.Reactive.Export",
        PowerReactiveImport = "Power.Reactive.Import",
        Rpm = "RPM",
        SoC = "SoC",
        Temperature = "Temperature",
        Voltage = "Voltage",
    }
}

open_enum! {
    /// Phase of a measurement, or the two phases that it is between.
    Phase {
        L1 = "L1",
        L2 = "L2",
        L3 = "L3",
        N = "N",
        L1N = "L1-N",
        L2N = "L2-N",
        L3N = "L3-N",
        L1L2 = "L1-L2",
        L2L3 = "L2-L3",
        L3L1 = "L3-L1",
    }
}

open_enum! {
    /// Place of a measurement.
    Location {
        Body = "Body",
        Cable = "Cable",
        Ev = "EV",
        Inlet = "Inlet",
        Outlet = "Outlet",
    }
}

open_enum! {
    /// The unit of a value. Both spellings of degrees Celsius are the specification's own.
    UnitOfMeasure {
        Wh = "Wh",
        KiloWh = "kWh",
        Varh = "varh",
        KiloVarh = "kvarh",
        W = "W",
        KiloW = "kW",
        Va = "VA",
        KiloVa = "kVA",
        Var = "var",
        KiloVar = "kvar",
        A = "A",
        V = "V",
        K = "K",
        Celcius = "Celcius",
        Celsius = "Celsius",
        Fahrenheit = "Fahrenheit",
        Percent = "Percent",
        Hertz = "Hertz",
    }
}

impl SampledValue {
    /// Returns the value as the JSON text that came, byte for byte.
    pub(crate) fn raw_json(&self) -> String {
        // A text can be written as JSON, whatever is in it.
        self.raw.clone().unwrap_or_else(|| serde_json::Value::from(self.value.as_str()).to_string())
    }

    /// Tells whether the value is signed data.
    pub(crate) fn is_signed(&self) -> bool {
        self.format == Some(ValueFormat::SignedData)
    }
}

/// Reads a list of meter values. Elements that are no objects, and sampled values without a value,
/// are left out.
pub(super) fn read_meter_values(
    fields: &mut Fields<'_>,
    name: &str,
    presence: Presence,
    notes: &mut Notes,
) -> Vec<MeterValue> {
    let elements = fields.list(name, presence, notes);
    elements.into_iter().filter_map(|(path, raw)| read_meter_value(&path, raw, notes)).collect()
}

fn read_meter_value(path: &str, raw: &RawValue, notes: &mut Notes) -> Option<MeterValue> {
    let mut fields = object(path, raw, notes)?;
    let timestamp = fields.timestamp("timestamp", Presence::Required, notes);
    let samples = fields.list("sampledValue", Presence::Required, notes);
    fields.finish(notes);
    let sampled_values = samples
        .into_iter()
        .filter_map(|(path, raw)| read_sampled_value(&path, raw, notes))
        .collect();
    Some(MeterValue { timestamp, sampled_values })
}

fn read_sampled_value(path: &str, raw: &RawValue, notes: &mut Notes) -> Option<SampledValue> {
    let mut fields = object(path, raw, notes)?;
    let raw = fields.raw("value").map(str::to_owned);
    let value = fields.text("value", VALUE_CHARS_MAX, Presence::Required, notes)?;
    let mut sample = SampledValue {
        value,
        raw: None,
        context: fields.choice("context", Presence::Optional, notes),
        format: fields.choice("format", Presence::Optional, notes),
        measurand: fields.choice("measurand", Presence::Optional, notes),
        phase: fields.choice("phase", Presence::Optional, notes),
        location: fields.choice("location", Presence::Optional, notes),
        unit: fields.choice("unit", Presence::Optional, notes),
    };
    fields.finish(notes);
    let is_whole = raw.as_ref().is_none_or(|raw| raw.len() <= VALUE_JSON_BYTES_MAX);
    if !is_whole {
        notes.note(&format!("{path}.value"), ViolationKind::TooLong { chars_max: VALUE_CHARS_MAX });
    }
    sample.raw = raw.filter(|raw| is_whole && *raw != sample.raw_json());
    Some(sample)
}

/// The longest value kept, in characters: signed meter data is several kilobytes. The schema bounds
/// it nowhere. A longer one is cut, and a violation says so.
pub(crate) const VALUE_CHARS_MAX: usize = 128 * 1024;

/// The longest JSON text of a value that is kept byte for byte, in bytes; a violation tells of a
/// longer one.
const VALUE_JSON_BYTES_MAX: usize = VALUE_CHARS_MAX + 2;

fn object<'a>(path: &str, raw: &'a RawValue, notes: &mut Notes) -> Option<Fields<'a>> {
    let fields = Fields::of(raw.get(), format!("{path}."));
    if fields.is_none() {
        notes.note(path, ViolationKind::Unreadable);
    }
    fields
}
