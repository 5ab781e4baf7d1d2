//! What tracing says: lines on standard error, and spans for a collector of OpenTelemetry.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::failure::CliFailure;

/// Spans on their way to a collector.
pub(crate) struct SpanExport(Option<SdkTracerProvider>);

/// Begins to write lines up to a level, and to send spans if there is a collector.
///
/// # Errors
/// [`CliFailure`] if the address of the collector is none. One that does not answer is no error:
/// its spans are lost, and the log says so.
pub(crate) fn begin(level: LevelFilter, collector: Option<&str>) -> Result<SpanExport, CliFailure> {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer().with_ansi(colours).with_writer(std::io::stderr).with_filter(level);
    let provider = collector.map(provider).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        // Spans of libraries, as those of the exporter itself, are none of the server.
        let own = Targets::new().with_target("leftfold", LevelFilter::DEBUG);
        let tracer = provider.tracer("leftfold");
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(own)
    });
    tracing_subscriber::registry().with(lines).with(spans).init();
    Ok(SpanExport(provider))
}

fn provider(collector: &str) -> Result<SdkTracerProvider, CliFailure> {
    let said = |error| CliFailure::Usage(format!("--otlp-endpoint {collector}: {error}"));
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(collector).build();
    let resource = Resource::builder().with_service_name("leftfold").build();
    let provider = SdkTracerProvider::builder().with_resource(resource);
    Ok(provider.with_batch_exporter(exporter.map_err(said)?).build())
}

impl SpanExport {
    /// Sends what is left.
    pub(crate) async fn end(self) {
        let Self(Some(provider)) = self else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
