//! Streams that keep the messages of a subject: found, or created.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamByNameErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use leftfold_core::runtime::projection::with_causes;

use crate::NatsError;
use crate::servers::NatsConnection;

/// Streams that are created for subjects that none captures, one for each: of the subject
/// `fleet.vacations` it is named `fleet_vacations`. One that is there already is taken as it is.
///
/// A stream that is full takes no more messages; the outbox waits until there is room again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Time for which messages are kept.
    pub keep: Keep,
    /// Number of nodes that have each message, 1 to 5: what one node acknowledged alone is lost
    /// with its disk. The default is 1.
    pub replicas: usize,
    /// Bytes of one stream. `None`, the default, leaves it to the limits of the account.
    pub bytes_max: Option<u64>,
    /// Time for which the server leaves out a message whose id it has seen. Inboxes know ids for
    /// ever; this spares them repetitions. The default is 2 minutes.
    pub repeats_within: Duration,
}

/// Time for which a stream keeps messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As long as this, for any number of applications. A receiver that is away longer misses
    /// messages for good.
    For(Duration),
    /// Until the receiver of one application has taken it. There can be no second application.
    UntilTaken,
}

impl Default for StreamOptions {
    /// Messages are kept for 30 days, on one node.
    fn default() -> Self {
        Self {
            keep: Keep::For(Duration::from_secs(30 * 24 * 3_600)),
            replicas: 1,
            bytes_max: None,
            repeats_within: Duration::from_secs(120),
        }
    }
}

impl StreamOptions {
    fn stream(&self, name: &str, subject: &str) -> Config {
        let (retention, max_age) = match self.keep {
            Keep::For(time) => (RetentionPolicy::Limits, time),
            Keep::UntilTaken => (RetentionPolicy::WorkQueue, Duration::ZERO),
        };
        let duplicate_window = match max_age {
            Duration::ZERO => self.repeats_within,
            // The server refuses a window that is longer than messages are kept.
            age => self.repeats_within.min(age),
        };
        Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            retention,
            max_age,
            duplicate_window,
            max_bytes: self.bytes_max.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            max_message_size: -1,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: self.replicas,
            ..Config::default()
        }
    }
}

/// Returns the name of the stream that captures a subject; `None` if there is none.
pub(crate) async fn stream_of(
    connection: &NatsConnection,
    subject: &str,
) -> Result<Option<String>, NatsError> {
    match connection.jetstream.stream_by_subject(subject).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            GetStreamByNameErrorKind::NotFound => Ok(None),
            GetStreamByNameErrorKind::InvalidSubject => {
                Err(NatsError::Subject { subject: subject.to_owned() })
            }
            _ => Err(NatsError::NoJetStream { detail: with_causes(&error).to_string() }),
        },
    }
}

/// Returns the name of the stream that captures a subject, which is created if there is none and
/// options say how.
pub(crate) async fn stream_for(
    connection: &NatsConnection,
    subject: &str,
    options: Option<&StreamOptions>,
) -> Result<String, NatsError> {
    if let Some(stream) = stream_of(connection, subject).await? {
        return Ok(stream);
    }
    let Some(options) = options else {
        return Err(NatsError::NoStream { subject: subject.to_owned() });
    };
    let name = stream_name(subject);
    let created = connection.jetstream.create_stream(options.stream(&name, subject)).await;
    let Err(error) = created else {
        tracing::info!(stream = name, subject, "a stream of NATS was created");
        return Ok(name);
    };
    // Another process may have created it meanwhile, by other options.
    if let CreateStreamErrorKind::JetStream(said) = error.kind()
        && matches!(
            said.error_code(),
            ErrorCode::STREAM_NAME_EXIST | ErrorCode::STREAM_SUBJECT_OVERLAP
        )
        && let Some(stream) = stream_of(connection, subject).await?
    {
        return Ok(stream);
    }
    let detail = with_causes(&error).to_string();
    Err(NatsError::Stream { stream: name, subject: subject.to_owned(), detail })
}

/// Names the stream of a subject: wildcards have no place in names.
fn stream_name(subject: &str) -> String {
    let plain = |part| match part {
        '.' => '_',
        '*' | '>' => '+',
        other => other,
    };
    subject.chars().map(plain).collect()
}

/// Tells whether a message may be published on a subject.
pub(crate) fn is_concrete(subject: &str) -> bool {
    let is_token = |token: &str| {
        let is_plain = |part: char| !part.is_whitespace() && !part.is_control();
        !token.is_empty() && token != "*" && token != ">" && token.chars().all(is_plain)
    };
    subject.split('.').all(is_token)
}

/// Tells whether a concrete subject matches one that may have wildcards.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_the_server_has_it() {
        for (pattern, subject) in [("a.b", "a.b"), ("a.*", "a.b"), ("a.>", "a.b.c"), (">", "a")] {
            assert!(matches(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in
            [("a.b", "a"), ("a", "a.b"), ("a.*", "a"), ("a.>", "a"), ("a", "b")]
        {
            assert!(!matches(pattern, subject), "{pattern} {subject}");
        }
    }

    #[test]
    fn only_a_subject_without_wildcards_and_spaces_is_published_on() {
        assert!(is_concrete("fleet.vacations") && is_concrete("a"));
        for subject in ["", "a.", ".a", "a..b", "a b", "a.*", "a.>", ">", "a\r\nb"] {
            assert!(!is_concrete(subject), "{subject:?}");
        }
    }

    #[test]
    fn a_window_for_repetitions_is_never_longer_than_messages_are_kept() {
        let short = StreamOptions { keep: Keep::For(Duration::from_secs(5)), ..Default::default() };
        assert_eq!(short.stream("a", "a").duplicate_window, Duration::from_secs(5));
        let taken = StreamOptions { keep: Keep::UntilTaken, ..Default::default() };
        assert_eq!(taken.stream("a", "a").duplicate_window, Duration::from_secs(120));
        assert_eq!(stream_name("fleet.*.vacations"), "fleet_+_vacations");
    }
}
