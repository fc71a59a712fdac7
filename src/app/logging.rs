//! Where spans and events go: standard error, for people or as JSON lines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people; without a timestamp where the journal adds its own.
    #[default]
    Human,
    /// One JSON object a line, spans flattened into it.
    Json,
}

impl Format {
    /// As it is given on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

/// Starts logging for this process. What is logged is chosen by `CHANCERY_LOG` (`info`, `chancery::web=debug`, …).
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_env("CHANCERY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // A second start, as in tests that share a process, changes nothing.
    let _ = match format {
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        Format::Human if journal => registry.with(lines.without_time()).try_init(),
        Format::Human => registry.with(lines).try_init(),
    };
}
