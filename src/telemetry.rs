//! Logging: JSON where nobody watches, readable text on a terminal. It must never decide what is
//! logged; the drivers do that, once, where a failure is handled.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// `lapin` calls every answer of a broker that we handle an error.
const DEFAULT_FILTER: &str = "info,lapin=off";

/// Installs the process's log subscriber, writing to standard error. `RUST_LOG` chooses the level
/// (default `info`).
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).init();
    } else {
        let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        registry.with(json.with_writer(std::io::stderr)).init();
    }
}
