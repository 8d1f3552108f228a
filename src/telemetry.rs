//! Logging: JSON where nobody watches, readable text on a terminal. It must never decide what is
//! logged; the drivers do that, once, where a failure is handled.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{fmt, layer::SubscriberExt, util::SubscriberInitExt};

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
    let chosen = std::env::var("RUST_LOG").ok().filter(|chosen| !chosen.is_empty());
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
fn filter(chosen: &str) -> Result<Targets, UnknownLevel> {
    let unknown = || UnknownLevel(chosen.to_owned());
    let directives: Vec<&str> = chosen.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    let known = |directive: &&str| {
        LevelFilter::from_str(directive).is_ok() || (directive.contains('=') && !directive.contains('['))
    };
    if directives.is_empty() || !directives.iter().all(known) {
        return Err(unknown());
    }
    format!("{UNASKED},{},{NEVER}", directives.join(",")).parse().map_err(|_| unknown())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_is_no_level_is_refused() {
        for known in ["info", "DEBUG", "off", "info,image_pipeline=debug", "warn, image_pipeline::consumer=trace"] {
            assert!(filter(known).is_ok(), "{known}");
        }
        for unknown in ["loud", "info,loud", "image_pipeline=loud", "image_pipeline", "", "image_pipeline[span]=info"] {
            assert_eq!(filter(unknown).err(), Some(UnknownLevel(unknown.to_owned())));
        }
    }

    #[test]
    fn bodies_are_never_logged_and_what_calls_all_an_error_speaks_when_named() {
        let speaks = |chosen: &str, target: &str| filter(chosen).unwrap().would_enable(target, &Level::INFO);
        for (chosen, target, expected) in [
            ("info", "image_pipeline::consumer", true),
            ("off", "image_pipeline::consumer", false),
            ("info,", "image_pipeline::consumer", true),
            ("off, image_pipeline=debug", "image_pipeline::consumer", true),
            ("trace", "lapin::channel", false),
            ("info,lapin=debug", "lapin::channel", true),
            ("info,lapin=trace", "lapin::returned_messages", false),
            ("lapin::returned_messages=trace", "lapin::returned_messages", false),
        ] {
            assert_eq!(speaks(chosen, target), expected, "{chosen} {target}");
        }
    }
}
