//! Logging: JSON where nobody watches, readable text on a terminal. It must never decide what is
//! logged; the drivers do that, once, where a failure is handled.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// `lapin` calls every answer of a broker that we handle an error, and `aws_config` tells every
/// attempt to get credentials, with the whole answer: they speak only when named.
const UNASKED: &str = "lapin=off,aws_config=off";

/// Here `lapin` writes every message that the broker returns, with its whole body: never that.
const NEVER: &str = "lapin::returned_messages=off";

/// What `RUST_LOG` says is neither a level nor a list of directives.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "RUST_LOG is {0:?}, and takes error, warn, info, debug, trace or off, or directives such as \
     info,image_pipeline=debug"
)]
pub struct UnknownLevel(String);

/// Installs the process's log subscriber, writing to standard error. `RUST_LOG` chooses the level
/// (default `info`).
///
/// # Errors
/// It says no level.
pub fn init() -> Result<(), UnknownLevel> {
    let chosen = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|chosen| !chosen.is_empty());
    let filter = filter(chosen.as_deref().unwrap_or("info"))?;
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).init();
    } else {
        let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        registry.with(json.with_writer(std::io::stderr)).init();
    }
    Ok(())
}

/// A word alone that is no level would be the name of a module, and all the others silent.
fn filter(chosen: &str) -> Result<EnvFilter, UnknownLevel> {
    let unknown = || UnknownLevel(chosen.to_owned());
    let known = |directive: &str| directive.contains(['=', '[']) || LevelFilter::from_str(directive.trim()).is_ok();
    if !chosen.split(',').all(known) {
        return Err(unknown());
    }
    EnvFilter::builder().parse(format!("{UNASKED},{chosen},{NEVER}")).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_is_refused() {
        for known in ["info", "DEBUG", "off", "info,image_pipeline=debug", "warn,image_pipeline::consumer=trace"] {
            assert!(filter(known).is_ok(), "{known}");
        }
        for unknown in ["loud", "info,loud", "image_pipeline=loud", "image_pipeline"] {
            assert_eq!(filter(unknown).err(), Some(UnknownLevel(unknown.to_owned())));
        }
    }
}
