//! Rules about which code may use which names, one row of data each. A row fails if it names a missing file, and a
//! test checks that each row can fail.

use std::collections::BTreeMap;
use std::path::Path;

/// The words in `forbidden` must not occur in the code of `within`, except in `except`.
struct Border {
    why: &'static str,
    /// Files, or folders that end with a slash.
    within: &'static [&'static str],
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
    /// Permitted uses of forbidden words.
    allowed: &'static [&'static str],
}

const BORDERS: &[Border] = &[
    Border {
        why: "a pure step maps values to values: no waiting, clock, environment, files or logging",
        within: &[
            "src/consumer/decode.rs",
            "src/consumer/decode/",
            "src/consumer/encode.rs",
            "src/consumer/encode/",
            "crates/png-recode/src/",
            "src/consumer/isolate/crash.rs",
            "src/consumer/origin.rs",
            "src/consumer/settle.rs",
            "src/controller/observation.rs",
            "src/controller/decide.rs",
            "src/controller/decide/",
            "src/manifest/bounds.rs",
            "src/controller/foreign_consumers.rs",
            "src/controller/build.rs",
            "src/controller/build/template.rs",
            "src/console/",
            "src/controller/renewals.rs",
            "src/controller/live.rs",
            "src/controller/live/deployment.rs",
            "src/controller/live/pod.rs",
            "src/controller/status.rs",
            "src/controller/status/",
            "src/controller/transitions.rs",
            "src/api.rs",
            "src/api/",
            "src/rabbitmq/address.rs",
            "src/rabbitmq/address/",
            "src/html.rs",
            "src/message.rs",
            "src/pod_status.rs",
            "src/reason.rs",
            "src/rabbitmq/properties.rs",
            "src/rabbitmq/properties/",
            "src/parked/message.rs",
            "src/parked/table.rs",
        ],
        except: &[],
        forbidden: &[
            "async",
            "await",
            "now()",
            "Instant",
            "SystemTime",
            "std::env",
            "env::",
            "std::fs",
            "tokio",
            "tracing",
        ],
        allowed: &[],
    },
    Border {
        why: "a decoder process has one thread, no network, no Secret and no log",
        within: &[
            "src/consumer/isolate/child.rs",
            "src/consumer/isolate/limits.rs",
            "src/consumer/isolate/protocol.rs",
        ],
        except: &[],
        forbidden: &[
            "async",
            "await",
            "tokio",
            "tracing",
            "std::net",
            "std::thread",
            "super::super",
            "secrets",
            "std::env",
        ],
        allowed: &[],
    },
    Border {
        why: "only `rabbitmq` uses the RabbitMQ library",
        within: &["src/"],
        except: &["src/rabbitmq.rs", "src/rabbitmq/"],
        forbidden: &["lapin"],
        allowed: &["lapin=off", "lapin::returned_messages=off"],
    },
    Border {
        why: "only `upload` uses the S3 library",
        within: &["src/"],
        except: &["src/consumer/upload.rs", "src/consumer/upload/"],
        forbidden: &["aws_sdk_s3", "aws_config", "aws_smithy_http_client"],
        allowed: &["aws_config=off"],
    },
    Border {
        why: "only observe, apply, watch, leader, check and the driver use the Kubernetes API",
        within: &["src/"],
        except: &[
            "src/controller.rs",
            "src/controller/observe.rs",
            "src/controller/apply.rs",
            "src/controller/apply/",
            "src/controller/leader.rs",
            "src/controller/watch.rs",
            "src/check/cluster.rs",
            "src/check/job.rs",
        ],
        forbidden: &["kube::Api", "kube::Client", "Api<", "Api::", "Client::try_default"],
        allowed: &[],
    },
    Border {
        why: "the controller does not import the consumer",
        within: &["src/controller.rs", "src/controller/"],
        except: &["src/controller/build.rs"],
        forbidden: &["crate::consumer", "crate::{"],
        allowed: &[],
    },
    Border {
        why: "build writes the consumer's command line, and needs only the consumer's argument type",
        within: &["src/controller/build.rs"],
        except: &[],
        forbidden: &["crate::consumer", "consumer::", "crate::{"],
        allowed: &["use crate::consumer;", "consumer::Args"],
    },
    Border {
        why: "the consumer does not import the controller",
        within: &["src/consumer.rs", "src/consumer/"],
        except: &[],
        forbidden: &["crate::controller", "crate::{"],
        allowed: &[],
    },
    Border {
        why: "the console is given values, and imports neither half",
        within: &["src/console.rs", "src/console/", "src/html.rs"],
        except: &[],
        forbidden: &["crate::consumer", "crate::controller", "crate::{"],
        allowed: &[],
    },
    Border {
        why: "the policy gets the time as an argument, and does no I/O",
        within: &["crates/delivery-policy/src/"],
        except: &[],
        forbidden: &["async", "await", "now()", "Instant", "SystemTime", "std::env", "std::fs", "tokio", "tracing"],
        allowed: &[],
    },
    Border {
        why: "code that both halves share imports neither",
        within: &[
            "src/api.rs",
            "src/api/",
            "src/rabbitmq/address.rs",
            "src/rabbitmq/address/",
            "src/rabbitmq/args.rs",
            "src/http.rs",
            "src/message.rs",
            "src/pod_status.rs",
            "src/rabbitmq.rs",
            "src/rabbitmq/",
            "src/reason.rs",
            "src/shutdown.rs",
            "src/telemetry.rs",
            "src/version.rs",
        ],
        except: &[],
        forbidden: &["crate::consumer", "crate::controller", "crate::publish", "crate::parked", "crate::{"],
        allowed: &[],
    },
    Border {
        why: "the commands for users read a pipeline's messages, and import none of its code",
        within: &["src/parked.rs", "src/parked/", "src/publish.rs", "src/publish/"],
        except: &[],
        forbidden: &["crate::consumer", "crate::controller", "crate::{"],
        allowed: &[],
    },
    Border {
        why: "errors are typed everywhere except in main, which turns them into an exit code",
        within: &["src/"],
        except: &["src/main.rs"],
        forbidden: &["anyhow"],
        allowed: &[],
    },
];

impl Border {
    fn covers(&self, path: &str) -> bool {
        covered(self.within, path) && !covered(self.except, path)
    }

    /// The lines of `code` that break this rule.
    fn crossings(&self, code: &str) -> Vec<String> {
        let without_comments = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        let crosses = |line: &&str| {
            let rest = self.allowed.iter().fold((*line).to_owned(), |line, allowed| line.replace(allowed, ""));
            self.forbidden.iter().any(|word| has_word(&rest, word))
        };
        without_comments.filter(crosses).map(|line| line.trim().to_owned()).collect()
    }
}

fn covered(entries: &[&str], path: &str) -> bool {
    entries.iter().any(|entry| path == *entry || (entry.ends_with('/') && path.starts_with(entry)))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (line[..start].chars().next_back(), line[start + word.len()..].chars().next());
        !(before.is_some_and(is_name) && word.starts_with(is_name)
            || after.is_some_and(is_name) && word.ends_with(is_name))
    })
}

/// The code of a file without its tests. A Clippy lint keeps an inline test module at the end of its file.
pub fn without_tests(text: &str) -> String {
    let inline_tests = text.match_indices("\n#[cfg(test)]\n").find(|(start, marker)| {
        let item = text[start + marker.len()..].lines().find(|line| !line.starts_with("#["));
        item.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    });
    inline_tests.map_or(text, |(start, _)| &text[..start]).to_owned()
}

/// Every source file except test files, by its path from the root.
pub fn sources() -> BTreeMap<String, String> {
    fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                collect(root, &path, found);
            } else if path.extension().is_some_and(|end| end == "rs") && path.file_stem().unwrap() != "tests" {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, without_tests(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    collect(root, &root.join("src"), &mut found);
    collect(root, &root.join("crates"), &mut found);
    found
}

fn says_what_it_is(code: &str) -> bool {
    code.starts_with("//! ")
}

#[test]
fn no_border_is_crossed() {
    let sources = sources();
    let mut crossed = Vec::new();
    for border in BORDERS {
        for (path, code) in sources.iter().filter(|(path, _)| border.covers(path)) {
            crossed.extend(border.crossings(code).iter().map(|line| format!("{path}: {line}\n    {}", border.why)));
        }
    }
    assert!(crossed.is_empty(), "{}", crossed.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> =
        sources().into_iter().filter(|(_, code)| !says_what_it_is(code)).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "without //! at the top: {silent:?}");
    assert!(!says_what_it_is("use std::fs;\n//! too late"));
}

#[test]
fn every_file_that_a_border_names_is_there() {
    let sources = sources();
    for border in BORDERS {
        for entry in border.within.iter().chain(border.except) {
            assert!(sources.keys().any(|path| covered(&[entry], path)), "{entry} does not exist: {}", border.why);
        }
    }
}

#[test]
fn every_border_can_be_crossed() {
    for border in BORDERS {
        for word in border.forbidden {
            assert_eq!(border.crossings(&format!("fn f() {{\n    a({word});\n}}")).len(), 1, "{word}: {}", border.why);
            assert_eq!(
                border.crossings(&format!("/// {word}\nfn f() {{}} // {word}")),
                [""; 0],
                "{word}: {}",
                border.why
            );
        }
        for word in border.allowed {
            assert_eq!(border.crossings(word), [""; 0], "{word}: {}", border.why);
        }
    }
}

#[test]
fn tests_are_left_out_and_nothing_else_is() {
    let file = "//! x\n#[cfg(test)]\nmod tests;\nuse b;\n\n#[cfg(test)]\n#[allow(c)]\nmod tests {\n    use d;\n}\n";
    assert_eq!(without_tests(file), "//! x\n#[cfg(test)]\nmod tests;\nuse b;\n");
    assert!(has_word("use lapin::X", "lapin") && !has_word("from_lapin(lapin_error)", "lapin"));
    assert!(has_word("let a: Api<Pod>", "Api<") && !has_word("MyApi<Pod>", "Api<"));
}
