//! The authority that signs certificates of stations: from their requests it takes the public key,
//! and nothing else.
//!
//! Its files are read for each request, so they change without a restart.

use std::path::{Path, PathBuf};

use leftfold::prelude::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use crate::config::StationSettings;

/// Microseconds of a day.
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// Authority for certificates of stations, as the configuration has it.
#[derive(Clone, Debug)]
pub(crate) struct StationAuthority {
    /// Its certificate, with those that lead to its own authority, as a file of PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, as a file of PEM.
    pub(crate) key: PathBuf,
    /// Organisation that each request must name; `None` for any.
    pub(crate) organisation: Option<String>,
    /// Days for which a certificate is valid.
    pub(crate) days: usize,
}

/// Error of a request that is not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    /// The request cannot be read, or is not signed by its own key.
    #[error("the request cannot be read: {0}")]
    Unreadable(rcgen::Error),
    /// The request names another station.
    #[error("the common name in the request is not the identity of the station")]
    ForeignName,
    /// The request names another organisation.
    #[error("the organisation in the request is not the one of this system")]
    ForeignOrganisation,
    /// The authority cannot sign.
    #[error("the authority cannot sign: {detail}")]
    Authority {
        /// Reason, for people.
        detail: String,
    },
}

impl StationAuthority {
    /// Returns the authority that the operator has set; `None` if there is none.
    pub(super) fn of(settings: &StationSettings) -> Option<Self> {
        let (certificate, key) = settings.authority.clone()?;
        let (organisation, days) = (settings.organisation.clone(), settings.certificate_days);
        Some(Self { certificate, key, organisation, days })
    }

    /// Signs the request of a station for a certificate of its own; returns the certificate, and
    /// those of the authority, as PEM. Reads files.
    pub(crate) fn sign(
        &self,
        station: &str,
        request: &str,
        now: Timestamp,
    ) -> Result<String, SigningError> {
        let request =
            CertificateSigningRequestParams::from_pem(request).map_err(SigningError::Unreadable)?;
        let subject = &request.params.distinguished_name;
        let named = |kind: &DnType| subject.get(kind).and_then(text_of);
        if named(&DnType::CommonName).as_deref() != Some(station) {
            return Err(SigningError::ForeignName);
        }
        let organisation = named(&DnType::OrganizationName);
        if self.organisation.is_some() && self.organisation != organisation {
            return Err(SigningError::ForeignOrganisation);
        }
        let failed = |error: rcgen::Error| SigningError::Authority { detail: error.to_string() };
        let key = KeyPair::from_pem(&read(&self.key)?).map_err(failed)?;
        let chain = read(&self.certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&chain, key).map_err(failed)?;
        let params = params(station, organisation.as_deref(), now, self.days);
        let certificate = params.signed_by(&request.public_key, &issuer).map_err(failed)?;
        Ok(format!("{}{}", certificate.pem(), chain))
    }
}

fn read(path: &Path) -> Result<String, SigningError> {
    std::fs::read_to_string(path).map_err(|error| SigningError::Authority {
        detail: format!("{} cannot be read: {error}", path.display()),
    })
}

/// Returns what a certificate says. Whatever else the request asks for, such as to be an authority
/// itself, is left out.
fn params(
    station: &str,
    organisation: Option<&str>,
    now: Timestamp,
    days: usize,
) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, station);
    if let Some(organisation) = organisation {
        subject.push(DnType::OrganizationName, organisation);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(&serial()));
    // Clocks of stations are slow or fast by hours.
    let [begins, ends] = [-1, days as i64 + 1].map(|days| day(now, days));
    params.not_before = date_time_ymd(begins.0, begins.1, begins.2);
    params.not_after = date_time_ymd(ends.0, ends.1, ends.2);
    params
}

/// Returns a random number of 16 bytes, positive.
fn serial() -> [u8; 16] {
    let mut serial = *uuid::Uuid::new_v4().as_bytes();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

/// Returns year, month and day before or after a moment.
fn day(now: Timestamp, days: i64) -> (i32, u8, u8) {
    let moment = now.as_micros().saturating_add(days.saturating_mul(DAY_MICROS));
    let moment = jiff::Timestamp::from_microsecond(moment).unwrap_or(jiff::Timestamp::MAX);
    let date = moment.to_zoned(jiff::tz::TimeZone::UTC).date();
    (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}

fn text_of(value: &DnValue) -> Option<String> {
    match value {
        DnValue::Utf8String(text) => Some(text.clone()),
        DnValue::PrintableString(text) => Some(text.as_str().to_owned()),
        DnValue::Ia5String(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertifiedIssuer};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn authority(folder: &Path, organisation: Option<&str>) -> StationAuthority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        std::fs::write(&certificate, issuer.pem()).unwrap();
        std::fs::write(&key, issuer.key().serialize_pem()).unwrap();
        let organisation = organisation.map(str::to_owned);
        StationAuthority { certificate, key, organisation, days: 30 }
    }

    /// A request of a station that would like to be an authority itself.
    fn request(name: &str, organisation: Option<&str>) -> String {
        let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(organisation) = organisation {
            params.distinguished_name.push(DnType::OrganizationName, organisation);
        }
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn only_the_request_of_the_station_itself_is_signed_and_for_nothing_but_to_be_that_station() {
        let folder = std::env::temp_dir().join(format!("csms-authority-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        let any = authority(&folder, None);
        let chain = any.sign("CP-1", &request("CP-1", Some("Elsewhere")), now).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
        let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
        let (_, signed) = X509Certificate::from_der(&pem.contents).unwrap();
        assert_eq!(signed.subject().to_string(), "CN=CP-1, O=Elsewhere");
        assert!(!signed.is_ca() && signed.subject_alternative_name().unwrap().is_none());
        assert!(signed.extended_key_usage().unwrap().unwrap().value.client_auth);
        assert!(signed.validity().not_after.to_string().contains("2027"));

        let refused = |authority: &StationAuthority, request: &str| {
            authority.sign("CP-1", request, now).unwrap_err().to_string()
        };
        assert!(refused(&any, &request("CP-2", None)).contains("common name"));
        assert!(refused(&any, "nonsense").contains("read"));
        let strict = authority(&folder, Some("Ours"));
        assert!(refused(&strict, &request("CP-1", None)).contains("organisation"));
        assert!(refused(&strict, &request("CP-1", Some("Elsewhere"))).contains("organisation"));
        assert!(strict.sign("CP-1", &request("CP-1", Some("Ours")), now).is_ok());
        // A request that somebody has changed is not signed by its key any more.
        let mut changed = request("CP-1", Some("Ours")).replace("\r", "");
        let at = changed.len() / 2;
        let other = if &changed[at..=at] == "A" { "B" } else { "A" };
        changed.replace_range(at..=at, other);
        assert!(strict.sign("CP-1", &changed, now).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
