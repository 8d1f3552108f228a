//! Everything that the documentation names exists: command lines parse, and make targets, files, links, fields,
//! metrics, reasons and tests are present. A test checks that each check can fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command as Process;

use image_pipeline::api::ImagePipeline;
use image_pipeline::api::conditions::ConditionType;
use image_pipeline::reason::Reason;
use kube::CustomResourceExt;
use serde_json::Value;
use strum::IntoEnumIterator;

use super::{crd, examples};

mod metrics;

use support::page::{Command, Page, pages, root};

/// Names in backticks from elsewhere: Kubernetes, AMQP, S3, RabbitMQ, and products we compare with.
const OF_OTHERS: &[&str] = &[
    "BCC",
    "ClusterRole",
    "Content-Type",
    "ExpectedQueueConsumptionTime",
    "IfNotPresent",
    "MessageRate",
    "MonoVertex",
    "Pipe",
    "Pipeline",
    "RabbitmqSource",
    "SlowDown",
    "acknowledgements.enabled",
    "amqp_0_9",
    "appVersion",
    "auto_ack",
    "aws_s3",
    "aws_sdk_s3",
    "channel_max",
    "drop-head",
    "image_metadata",
    "image_name",
    "list_consumers",
    "maxSurge",
    "maxUnavailable",
    "max_message_size",
    "message_id",
    "nack_reject_patterns",
    "no_ack",
    "pollingInterval",
    "prefetch_count",
    "purge_queue",
    "set_user_limits",
    "set_vhost_limits",
    "targetProcessingSeconds",
    "urlsafe_b64decode",
    "user_id",
];

/// The errors of a page, one line each.
type Check = fn(&Page) -> Vec<String>;

const CHECKS: [Check; 8] = [command_lines, make_targets, arguments, files_and_tests, links, fields, names, manifests];

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root(path)).unwrap()
}

/// Checks that a page has this text, which is generated. With `RENEW` in the environment, writes it.
pub fn is_current(page: &str, text: &str) {
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(root(page), text).unwrap();
    }
    assert!(read(page) == text, "{page} is stale: RENEW=1 cargo test --test contract -- reference reasons");
}

/// The entries of `named` that are not `known`.
fn unknown(what: &str, named: impl IntoIterator<Item = String>, known: impl Fn(&str) -> bool) -> Vec<String> {
    named.into_iter().filter(|name| !known(name)).map(|name| format!("{what}: {name}")).collect()
}

/// Parses command lines with the program itself. It parses before it reads RUST_LOG, and an invalid RUST_LOG ends
/// it before it acts.
fn command_lines(page: &Page) -> Vec<String> {
    // A command that kubectl runs in a pod follows two hyphens.
    let typed = |words: Command| match words.iter().position(|word| word == "--") {
        Some(hyphens) if words[0] == "kubectl" => words[hyphens + 1..].to_vec(),
        _ => words,
    };
    let ours = page.commands().into_iter().map(typed);
    let ours = ours.filter(|words| words.len() > 1 && words[0] == "image-pipeline");
    let refusal = |words: Command| {
        // The name of a subcommand alone is no complete command.
        let help = (words.len() == 2).then_some("--help");
        let mut process = Process::new(env!("CARGO_BIN_EXE_image-pipeline"));
        let process = process.env_clear().env("RUST_LOG", "no-level").args(&words[1..]).args(help);
        let output = process.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let parsed = output.status.success() || output.status.code() == Some(1) && said.contains("RUST_LOG");
        (!parsed).then(|| format!("command line: {}\n{said}", words.join(" ")))
    };
    ours.filter_map(refusal).collect()
}

fn make_targets(page: &Page) -> Vec<String> {
    let makefile = read("Makefile") + &read("tests/cluster/cluster.mk");
    let calls = page.commands().into_iter().filter(|words| words[0] == "make");
    let is_target = |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
    let is_variable = |name: &str| makefile.contains(&format!("$({name})")) || makefile.contains(&format!("({name},"));
    let known = |word: &str| match word.split_once('=') {
        Some((variable, _)) => is_variable(variable) || makefile.contains(&format!("ifeq ($({variable})")),
        None => is_target(word),
    };
    unknown("make target", calls.flat_map(|words| words[1..].to_vec()), known)
}

/// Chart values in helm commands, and test targets in cargo commands.
fn arguments(page: &Page) -> Vec<String> {
    let values: Value = serde_yaml::from_str(&read("charts/image-pipeline/values.yaml")).unwrap();
    let targets = read("Cargo.toml");
    let mut wrong = Vec::new();
    for words in page.commands() {
        for pair in words.windows(2) {
            let [option, given] = pair else { continue };
            let name = given.split('=').next().unwrap_or_default();
            let known = match (words[0].as_str(), option.as_str()) {
                ("helm", "--set" | "--set-json" | "--set-string") => {
                    values.pointer(&format!("/{}", name.replace('.', "/"))).is_some()
                }
                (_, "--test") => targets.contains(&format!("name = \"{name}\"")),
                _ => true,
            };
            if !known {
                wrong.push(format!("argument: {option} {given}"));
            }
        }
    }
    wrong
}

/// Repository paths anywhere in a page, and tests as `path::name`.
fn files_and_tests(page: &Page) -> Vec<String> {
    let entries = std::fs::read_dir(root("")).unwrap().map(|entry| entry.unwrap());
    let entries: BTreeSet<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    let words = page.commands().into_iter().flatten();
    let is_path = |word: &String| match word.split_once('/') {
        Some((first, _)) => first != "target" && entries.contains(first),
        None => [".md", ".toml", ".lock"].iter().any(|end| word.ends_with(end)),
    };
    unknown("file or test", words.filter(is_path), |word| {
        let (path, test) = word.split_once("::").map_or((word, None), |(path, test)| (path, Some(test)));
        let holds = |test: &str| read(path).contains(&format!("fn {test}("));
        root(path).exists() && test.is_none_or(holds)
    })
}

fn links(page: &Page) -> Vec<String> {
    let folder = Path::new(&page.path).parent().unwrap();
    unknown("link", page.links(), |link| {
        let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
        let target = root(folder.join(file).to_str().unwrap());
        if !target.exists() {
            return false;
        }
        let leads = |anchor: &str| {
            let anchors = match file {
                "" => page.anchors(),
                _ => Page { path: file.to_owned(), text: std::fs::read_to_string(&target).unwrap() }.anchors(),
            };
            anchors.iter().any(|found| found == anchor)
        };
        anchor.is_none_or(leads)
    })
}

fn schema() -> Value {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].clone()
}

/// Collects the names of all fields of a schema, and all values of enumerations.
fn collect(schema: &Value, fields: &mut BTreeSet<String>, values: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        fields.insert(name.clone());
        values.extend(field["enum"].as_array().into_iter().flatten().filter_map(|one| Some(one.as_str()?.to_owned())));
        collect(field, fields, values);
        collect(&field["items"], fields, values);
    }
}

fn has_field(schema: &Value, path: &str) -> bool {
    let found = path.split('.').try_fold(schema, |schema, name| match &schema["properties"] {
        Value::Null => Some(&schema["additionalProperties"]),
        properties => properties.get(name),
    });
    found.is_some_and(|field| !field.is_null())
}

/// Fields of the resource and values of the chart: dotted paths, and words with a capital letter inside.
fn fields(page: &Page) -> Vec<String> {
    let schema = schema();
    let whole = serde_json::json!({ "properties": schema });
    let (mut known, mut values) = (BTreeSet::new(), BTreeSet::new());
    collect(&whole, &mut known, &mut values);
    let chart: Value = serde_yaml::from_str(&read("charts/image-pipeline/values.yaml")).unwrap();
    let in_chart = |path: &str| chart.pointer(&format!("/{}", path.replace('.', "/"))).is_some();
    let is_name = |name: &str| name.starts_with(char::is_lowercase) && name.chars().all(char::is_alphanumeric);
    let is_field = |word: &String| {
        let first = word.split('.').next().unwrap_or_default();
        let is_path = word.contains('.') && (has_field(&whole, first) || has_field(&schema["spec"], first));
        word.split('.').all(is_name) && (is_path || !word.contains('.') && word.contains(char::is_uppercase))
    };
    let named = pieces(page).into_iter().filter(is_field);
    unknown("field", named, |word| {
        let is_there = known.contains(word) || has_field(&whole, word) || has_field(&schema["spec"], word);
        is_there || in_chart(word) || OF_OTHERS.contains(&word)
    })
}

/// The words in backticks, without punctuation between them.
fn pieces(page: &Page) -> Vec<String> {
    let spans = page.spans();
    let words = spans.iter().flat_map(|span| span.split([' ', '=', ',']));
    let words = words.map(|word| word.trim_end_matches(['.', ';', ':'])).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// Metrics anywhere in a page; reasons, conditions and values in backticks.
fn names(page: &Page) -> Vec<String> {
    let (mut fields, mut values) = (BTreeSet::new(), BTreeSet::new());
    collect(&serde_json::json!({ "properties": schema() }), &mut fields, &mut values);
    values.extend(Reason::iter().map(|reason| reason.as_str().to_owned()));
    values.extend(ConditionType::iter().map(|condition| condition.as_str().to_owned()));
    values.extend(["ImagePipeline", "True", "False", "Unknown"].map(str::to_owned));
    let alerts = read("charts/image-pipeline/files/alerts.yaml");
    values.extend(alerts.lines().filter_map(|line| line.strip_prefix("- alert: ").map(str::to_owned)));
    let capitals = |word: &String| {
        let inner = word.get(1..).unwrap_or_default();
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && inner.contains(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let named = pieces(page).into_iter().filter(capitals);
    let mut wrong =
        unknown("reason, condition or value", named, |word| values.contains(word) || OF_OTHERS.contains(&word));

    let metrics = metrics::names();
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let short = pieces(page).into_iter().filter_map(|word| Some(word.split(['{', '[']).next()?.to_owned()));
    let short =
        short.filter(|word| word.contains('_') && word.chars().all(is_lower) && !word.starts_with(metrics::PREFIX));
    wrong.extend(unknown("metric or outcome", short, |word| {
        metrics.contains(&format!("{}{word}", metrics::PREFIX))
            || metrics::is_outcome(word)
            || OF_OTHERS.contains(&word)
    }));
    let full =
        page.text.split(|c| !is_lower(c)).filter(|word| word.starts_with(metrics::PREFIX) && *word != metrics::PREFIX);
    wrong.extend(unknown("metric", full.map(str::to_owned), |word| metrics.contains(word)));
    wrong
}

/// Manifests of the resource, judged as an API server would.
fn manifests(page: &Page) -> Vec<String> {
    let blocks = page.blocks().into_iter().filter(|block| block.text.contains("kind: ImagePipeline"));
    let wrong = |text: String| {
        let manifest: Value = serde_yaml::from_str(&text).unwrap();
        let mut wrong = crd::refusals(&manifest);
        wrong.extend(examples::unknown_fields("spec", &manifest["spec"], &schema()["spec"]));
        wrong.extend(serde_json::from_value::<ImagePipeline>(manifest).err().map(|error| error.to_string()));
        wrong.into_iter().map(|wrong| format!("manifest: {wrong}"))
    };
    blocks.flat_map(|block| wrong(block.text)).collect()
}

#[test]
fn what_the_pages_name_is_there() {
    let pages = pages();
    assert!(pages.len() > 15, "{} pages", pages.len());
    let wrong = |page: &Page| {
        let found: Vec<_> = CHECKS.iter().flat_map(|check| check(page)).collect();
        found.into_iter().map(|wrong| format!("{}: {wrong}", page.path)).collect::<Vec<_>>()
    };
    let wrong: Vec<_> = pages.iter().flat_map(wrong).collect();
    assert!(wrong.is_empty(), "{}\n(add names from elsewhere to OF_OTHERS)", wrong.join("\n"));
}

/// A figure stands in docs/performance.md. The README repeats six of them.
#[test]
fn the_numbers_of_the_readme_are_those_of_the_performance_page() {
    let (readme, performance) = (read("README.md"), read("docs/performance.md"));
    let numbers = readme.split("\n## ").find(|section| section.starts_with("Numbers\n")).expect("a section");
    let cells = numbers.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
    let figures: Vec<&str> = cells.filter(|cell| cell.contains(|c: char| c.is_ascii_digit())).collect();
    let missing: Vec<&str> = figures.iter().copied().filter(|figure| !performance.contains(figure)).collect();
    assert_eq!((figures.len(), missing), (6, Vec::new()), "{figures:?}");
}

#[test]
fn every_check_can_fail() {
    let cases: &[(&str, &str)] = &[
        ("`image-pipeline crd`, `image-pipeline publish`", ""),
        ("```console\nimage-pipeline publish a.png --queue q --host h\n```", ""),
        (
            "```console\nimage-pipeline publish a.png --queue q --hots h\n```",
            "command line: image-pipeline publish a.png",
        ),
        ("```console\nimage-pipeline publish --queue q\n```", "command line: image-pipeline publish --queue"),
        ("`image-pipeline pubish`", "command line: image-pipeline pubish"),
        ("`kubectl exec deployment/a -- image-pipeline check b -n c`", ""),
        ("`kubectl exec deployment/a -- image-pipeline check b -f c`", "command line: image-pipeline check b"),
        ("```console\nmake demo CLUSTER=current IMAGE=x # make dem\n```", ""),
        ("`make dem`", "make target: dem"),
        ("`make demo CLUSTRE=current`", "make target: CLUSTRE=current"),
        ("```console\nhelm upgrade --set image.tag=1 --set 'namespaces={a}' x y\n```", ""),
        ("```console\nhelm upgrade --set image.tga=1 x y\n```", "argument: --set image.tga=1"),
        ("`cargo test --test contarct`", "argument: --test contarct"),
        ("`src/lib.rs`, `src/reason.rs::as_str`", ""),
        ("`src/lob.rs`", "file or test: src/lob.rs"),
        ("`src/reason.rs::is_str`", "file or test: src/reason.rs::is_str"),
        ("```console\nkubectl apply -f examples/secret.yaml\n```", "file or test: examples/secret.yaml"),
        ("[a](docs/reference.md#spec), [b](#b)\n\n# B", ""),
        ("[a](docs/reverence.md)", "link: docs/reverence.md"),
        ("[a](#c)\n\n# B", "link: #c"),
        ("`spec.replicas`, `scaling.minReplicas: 1`, `image.tag`, `deliveryLimit`, `source.rabbitmq.vhost`", ""),
        ("`spec.replica`", "field: spec.replica"),
        ("`scaling.minReplica: 1`", "field: scaling.minReplica"),
        ("`deliveryLimi`", "field: deliveryLimi"),
        ("`Ready=False`, `onConflict: Fail`, `StorageAvailable=False, reason=AccessDenied`", ""),
        ("`AccesDenied`", "reason, condition or value: AccesDenied"),
        ("`ImagePipelineNotReady`", ""),
        ("`ImagePipelineNotRead`", "reason, condition or value: ImagePipelineNotRead"),
        ("`StorageAvailable=False\nAccesDenied`", "reason, condition or value: AccesDenied"),
        ("`messages_total{outcome=\"parked\"}`, `handed_back`, `image_pipeline_in_flight`", ""),
        ("`message_total`", "metric or outcome: message_total"),
        ("```yaml\nexpr: rate(image_pipeline_message_total[5m])\n```", "metric: image_pipeline_message_total"),
        ("```yaml\nkind: ImagePipeline\nspec: {replica: 1}\n```", "manifest: "),
    ];
    for (text, expected) in cases {
        let page = Page { path: "page.md".to_owned(), text: (*text).to_owned() };
        let wrong: Vec<_> = CHECKS.iter().flat_map(|check| check(&page)).collect();
        match *expected {
            "" => assert_eq!(wrong, [""; 0], "{text}"),
            expected => assert!(wrong.iter().any(|wrong| wrong.starts_with(expected)), "{text}: {wrong:?}"),
        }
    }
}
