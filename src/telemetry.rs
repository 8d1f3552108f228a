//! Logging: JSON where nobody watches, readable text on a terminal. It must never decide what is
//! logged; the drivers do that, once, where a failure is handled.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// `lapin` calls every answer of a broker that we handle an error, and `aws_config` tells every
/// attempt to get credentials, with the whole answer: they speak only when named.
const UNASKED: &str = "lapin=off,aws_config=off";

/// Here `lapin` writes every message that the broker returns, with its whole body: never that.
const NEVER: &str = "lapin::returned_messages=off";

/// Installs the process's log subscriber, writing to standard error. `RUST_LOG` chooses the level
/// (default `info`).
pub fn init() {
    let chosen = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::new(format!("{UNASKED},{chosen},{NEVER}"));
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).init();
    } else {
        let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        registry.with(json.with_writer(std::io::stderr)).init();
    }
}
