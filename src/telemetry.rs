//! Logging to standard error: text on a terminal, JSON otherwise.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Off unless `RUST_LOG` names them: `lapin` logs every refusal that we handle as an error, and `aws_config` logs every
/// attempt to get credentials with the full response.
const UNASKED: &str = "lapin=off,aws_config=off";

/// Always off: this target logs every message that RabbitMQ returns, with its full body.
const NEVER: &str = "lapin::returned_messages=off";

/// `RUST_LOG` is neither a level nor a list of directives.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "RUST_LOG {0:?} is not valid: use error, warn, info, debug, trace or off, or directives such as \
     info,image_pipeline=debug"
)]
pub struct UnknownLevel(String);

/// Installs the log subscriber of the process. `RUST_LOG` sets the level; default: `info`.
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

/// `Targets` takes a single word that is no level for a module name and silences all other modules, so such a word is
/// refused.
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
