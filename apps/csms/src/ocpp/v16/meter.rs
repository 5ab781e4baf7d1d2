//! Meter values (OCPP 1.6 sections 7.30, 7.31, 7.33 to 7.35, 7.43, 7.45 and 7.49).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ocpp::open_enum::open_enum;
use crate::ocpp::reading::{Fields, Notes, Presence, TEXT_CHARS_MAX, ViolationKind};

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
    /// Tells whether this is a reading of the register of imported active energy; a value without
    /// measurand is one.
    pub(crate) fn is_energy_active_import_register(&self) -> bool {
        matches!(self.measurand, None | Some(Measurand::EnergyActiveImportRegister))
    }

    /// Returns the value in Wh; `None` if it is not in Wh or kWh, not a plain number, or beyond any
    /// meter (10^15 Wh).
    fn wh(&self) -> Option<f64> {
        if !matches!(self.format, None | Some(ValueFormat::Raw)) {
            return None;
        }
        let factor = match self.unit {
            None | Some(UnitOfMeasure::Wh) => 1.0,
            Some(UnitOfMeasure::KiloWh) => 1_000.0,
            Some(_) => return None,
        };
        let wh = decimal(&self.value)? * factor;
        (wh.abs() <= 1e15).then_some(wh)
    }
}

impl MeterValue {
    /// Returns the register of imported active energy (`Energy.Active.Import.Register`) in Wh,
    /// rounded to the nearest.
    ///
    /// The value for all phases together counts; if there is none, the sum of the phases. A value
    /// at the outlet, the point that serves the driver, is preferred to others. Of several such
    /// values the first counts. `None` if there is no such value.
    pub(crate) fn energy_active_import_register_wh(&self) -> Option<i64> {
        let at_outlet =
            |sample: &SampledValue| matches!(sample.location, None | Some(Location::Outlet));
        // Within ±3 * 10^15, so that the conversion is exact.
        let wh = self
            .register_wh(at_outlet)
            .or_else(|| self.register_wh(|sample| !at_outlet(sample)))?;
        Some(wh.round() as i64)
    }

    fn register_wh(&self, counts: impl Fn(&SampledValue) -> bool) -> Option<f64> {
        let readings = || {
            let samples = self
                .sampled_values
                .iter()
                .filter(|s| s.is_energy_active_import_register() && counts(s));
            samples.filter_map(|sample| Some((sample.phase.as_ref(), sample.wh()?)))
        };
        let on =
            |phase: Option<&Phase>| readings().find(|(found, _)| *found == phase).map(|(_, wh)| wh);
        let sum = |phases: [Phase; 3]| {
            phases.iter().filter_map(|phase| on(Some(phase))).reduce(|a, b| a + b)
        };
        on(None)
            .or_else(|| sum([Phase::L1, Phase::L2, Phase::L3]))
            .or_else(|| sum([Phase::L1N, Phase::L2N, Phase::L3N]))
    }
}

/// The latest reading of the register of imported active energy among several, with its moment, in
/// Wh. Values without a readable moment do not count.
pub(crate) fn energy_active_import_register_wh(values: &[MeterValue]) -> Option<(Timestamp, i64)> {
    values
        .iter()
        .filter_map(|value| Some((value.timestamp?, value.energy_active_import_register_wh()?)))
        .max_by_key(|(timestamp, _)| *timestamp)
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
    // The schema bounds the value's length nowhere; signed data is long. It is cut only beyond a
    // frame's own bound.
    let value = fields.text("value", SIGNED_DATA_CHARS_MAX, Presence::Required, notes)?;
    let sample = SampledValue {
        value,
        context: fields.choice("context", Presence::Optional, notes),
        format: fields.choice("format", Presence::Optional, notes),
        measurand: fields.choice("measurand", Presence::Optional, notes),
        phase: fields.choice("phase", Presence::Optional, notes),
        location: fields.choice("location", Presence::Optional, notes),
        unit: fields.choice("unit", Presence::Optional, notes),
    };
    fields.finish(notes);
    Some(sample)
}

/// The longest value kept, in characters: signed meter data is several kilobytes.
const SIGNED_DATA_CHARS_MAX: usize = 32 * TEXT_CHARS_MAX;

fn object<'a>(path: &str, raw: &'a RawValue, notes: &mut Notes) -> Option<Fields<'a>> {
    let fields = Fields::of(raw.get(), format!("{path}."));
    if fields.is_none() {
        notes.note(path, ViolationKind::Unreadable);
    }
    fields
}

/// Reads a decimal number, also with a comma. The infinities and NaN, which Rust reads too, are
/// `None`.
fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let number: f64 = match text.parse() {
        Ok(number) => number,
        Err(_) => text.replacen(',', ".", 1).parse().ok()?,
    };
    number.is_finite().then_some(number)
}
