//! Logging: where it goes and what it looks like. One vocabulary of field names: `cluster`, `service`, `object`,
//! `revision`, `epoch`, `error`.

use crate::config::file::{Log, LogFormat};
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Starts logging to standard error. A second call changes nothing.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start(log: &Log) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(&log.filter)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only the first subscriber of a process can be the global one.
    let _ = match log.format {
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => subscriber.try_init(),
    };
    Ok(())
}
