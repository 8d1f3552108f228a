//! Every field path in the text of a message is a field of the CRD, written as `source.rabbitmq.queue`.

use image_pipeline::api::ImagePipeline;
use kube::CustomResourceExt as _;
use serde_json::Value;

use super::architecture::sources;

fn spec() -> Value {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The contents of the string literals in code.
fn literals(code: &str) -> Vec<&str> {
    let (mut rest, mut found) = (code, Vec::new());
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let from = &rest[at..];
        let length = match from.as_bytes() {
            [b'/', b'/', ..] => from.find('\n').unwrap_or(from.len()),
            // A character, which may be a quote.
            [b'\'', b'\\', _, b'\'', ..] => 4,
            [b'\'', _, b'\'', ..] => 3,
            [b'"', ..] => {
                let raw = rest[..at].ends_with("r#");
                let end = if raw { from.find("\"#") } else { end_of_literal(from) }.unwrap_or(from.len() - 1);
                found.push(&from[1..end]);
                end + 1
            }
            _ => 1,
        };
        rest = &from[length..];
    }
    found
}

/// The place of the quote that ends the literal at the beginning of `text`.
fn end_of_literal(text: &str) -> Option<usize> {
    let mut escaped = false;
    let end = text.bytes().enumerate().skip(1).find(|(_, byte)| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map(|(at, _)| at)
}

/// The words of a text that name a field below a group of fields, without a final dot.
fn paths<'a>(text: &'a str, spec: &'a Value) -> impl Iterator<Item = &'a str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    words.map(|word| word.trim_matches('.')).filter(|word| {
        let group = word.trim_start_matches("spec.").split_once('.').map(|(group, _)| group);
        group.is_some_and(|group| !spec["properties"][group]["properties"].is_null())
    })
}

fn is_field(path: &str, spec: &Value) -> bool {
    // `additionalProperties`: a map, such as the limits of resources.
    let below =
        |schema: &'_ Value, name| schema["properties"].get(name).or(schema.get("additionalProperties")).cloned();
    path.split('.').try_fold(spec.clone(), |schema, name| below(&schema, name)).is_some()
}

#[test]
fn messages_name_fields_that_exist() {
    let spec = spec();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (file, code) in sources() {
        // A JSON path of a print column begins with a dot.
        for text in literals(&code).into_iter().filter(|text| !text.starts_with('.')) {
            for path in paths(text, &spec) {
                seen += 1;
                if !is_field(path, &spec) {
                    wrong.push(format!("{file}: {path}"));
                }
            }
        }
    }
    assert!(seen > 50, "{seen} paths found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn literals_are_told_from_code_and_comments() {
    let code = r#"let a = '"'; // "not"
    f("one \"two\"", r"three", '\'', "four \
       five")"#;
    assert_eq!(literals(code), [r#"one \"two\""#, "three", "four \\\n       five"]);
}

#[test]
fn a_path_that_is_no_field_is_found() {
    let spec = spec();
    let found = |text: &str| -> Vec<(String, bool)> {
        paths(text, &spec).map(|path| (path.to_owned(), is_field(path, &spec))).collect()
    };
    assert_eq!(found("set destination.s3.bucket."), [("destination.s3.bucket".to_owned(), true)]);
    assert_eq!(found("set destination.s3.bukcet"), [("destination.s3.bukcet".to_owned(), false)]);
    assert_eq!(found("raise spec.image.maxPixels"), [("spec.image.maxPixels".to_owned(), false)], "no prefix");
    assert_eq!(found("the image. Then spec.replicas and tiles.parked"), []);
}
