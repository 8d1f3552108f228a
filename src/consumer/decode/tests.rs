//! Which messages are decoded and which are refused, by tables and by properties. Needs no files and no servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::message::{ImageMetadata, Message};

const LIMIT: u64 = 16 << 20;
const DIGEST: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// 2026-03-04T05:06:07Z.
const TIMESTAMP: u64 = 1_772_600_767;

fn s3(prefix: &str, template: &str) -> S3Destination {
    serde_json::from_value(json!({"bucket": "b-b", "prefix": prefix, "keyTemplate": template})).unwrap()
}

fn decoder(prefix: &str, template: &str) -> Decoder {
    Decoder::new(&MessageFormat::default(), &s3(prefix, template), LIMIT).expect("valid")
}

fn at(image_path: &str, name_path: &str) -> Decoder {
    let message = MessageFormat { image_path: image_path.into(), name_path: name_path.into(), ..Default::default() };
    Decoder::new(&message, &s3("", "{name}"), LIMIT).expect("valid")
}

fn read(decoder: &Decoder, body: impl Into<Vec<u8>>) -> Result<Job, DecodeError> {
    decoder.decode(&Incoming { body: &Bytes::from(body.into()), timestamp: Some(TIMESTAMP), header: &|_| None })
}

/// Decodes a body, and returns its key with `DIGEST`.
fn key(decoder: &Decoder, body: impl Into<Vec<u8>>) -> Result<String, DecodeError> {
    Ok(read(decoder, body)?.key(DIGEST)?.as_str().to_owned())
}

fn refusal(decoder: &Decoder, body: impl Into<Vec<u8>>) -> DecodeError {
    read(decoder, body).expect_err("refused")
}

fn named(name: &str) -> String {
    json!({"image": "AAAA", "image_metadata": {"image_name": name}}).to_string()
}

fn with_metadata(metadata: &str) -> String {
    format!(r#"{{"image": "AAAA", "image_metadata": {{"image_name": "north/7.png", {metadata}}}}}"#)
}

fn template_refused(message: &MessageFormat, template: &str) -> String {
    Decoder::new(message, &s3("", template), LIMIT).expect_err(template).to_string()
}

#[test]
fn reads_what_devices_send_and_ignores_what_they_add() {
    let body = br#"{"device": 4, "image": "iVBORw==", "image_metadata": {"image_name": "north/7.png", "crowns": []}}"#;
    let job = read(&decoder("tiles/", "{name}"), body).expect("valid");
    assert_eq!(job.key(DIGEST).unwrap().as_str(), "tiles/north/7.png");
    assert_eq!(&job.image[..], b"\x89PNG");
}

#[test]
fn reads_by_default_what_publish_writes() {
    let message = Message { image: "AAAA".into(), image_metadata: ImageMetadata { image_name: "é/7.png".into() } };
    assert_eq!(key(&decoder("", "{name}"), serde_json::to_vec(&message).unwrap()).unwrap(), "é/7.png");
}

#[test]
fn reads_escapes_that_some_encoders_write() {
    let body = br#"{"i\u006dage": "\/\/\u002b\/", "image_metadata": {"image_name": "a\/\u00e9\ud83c\udf32.png"}}"#;
    let job = read(&decoder("", "{name}"), body).expect("valid");
    assert_eq!(job.key(DIGEST).unwrap().as_str(), "a/é🌲.png");
    assert_eq!(&job.image[..], [0xff, 0xff, 0xbf]);
}

#[test]
fn reads_fields_at_any_depth() {
    for (image, name, body) in [
        ("/a", "/b", r#"{"b": "n", "a": "AAAA"}"#),
        ("/a/b/c", "/a/b/d", r#"{"a": {"x": [{"b": 1}], "b": {"d": "n", "c": "AAAA"}, "c": 1}}"#),
        ("/a/b", "/c/b", r#"{"c": {"b": "n"}, "a": {"b": "AAAA"}}"#),
        ("/a~1b", "/m~0n", r#"{"a/b": "AAAA", "m~n": "n", "a": {"b": 7}}"#),
        ("/~01", "/~10", r#"{"~1": "AAAA", "/0": "n", "/": 1}"#),
        ("/é", "/🌲/ ", r#"{"\u00e9": "AAAA", "🌲": {" ": "n"}}"#),
        ("/0", "/1/0", r#"{"0": "AAAA", "1": {"0": "n"}}"#),
    ] {
        let decoder = at(image, name);
        assert_eq!(key(&decoder, body).as_deref(), Ok("n"), "{image} {name}");
        let without = refusal(&decoder, "{}").to_string();
        assert!(without.contains(&format!("field {image} (message.imagePath)")) || without.contains(name), "{without}");
    }
    let deep = format!("{}/image", "/a".repeat(125));
    let body = format!(r#"{}{{"image": "AAAA"}}{}, "n": "n"}}"#, r#"{"a":"#.repeat(125), "}".repeat(124));
    assert_eq!(key(&at(&deep, "/n"), body).as_deref(), Ok("n"));
}

#[test]
fn the_same_field_elsewhere_does_not_count() {
    let decoder = at("/a/image", "/a/name");
    let body = r#"{"image": 1, "name": 2, "b": {"a": {"name": "no"}}, "a": {"image": "AAAA", "name": "n", "a": {"name": "no"}}}"#;
    assert_eq!(key(&decoder, body).as_deref(), Ok("n"));
    let error = refusal(&decoder, r#"{"image": "AAAA", "name": "n", "a": {"a": {"image": "AAAA", "name": "n"}}}"#);
    assert_eq!(error.reason(), Reason::MissingField);
    let error = refusal(&decoder, r#"{"a": [{"image": "AAAA", "name": "n"}]}"#);
    assert!(error.to_string().contains("field /a is not an object"), "{error}");
}

#[test]
fn names_the_reason_and_the_field() {
    let with_image = |image: &str| format!(r#"{{"image": {image}, "image_metadata": {{"image_name": "a"}}}}"#);
    for (body, expected, text) in [
        ("".to_owned(), Reason::InvalidJson, "the body is empty"),
        (r#"{"image": "AAAA""#.to_owned(), Reason::InvalidJson, "not JSON"),
        (with_image(r#""AAAA""#) + " x", Reason::InvalidJson, "not JSON"),
        (with_image(r#""AAAA""#) + " {}", Reason::InvalidJson, "not JSON"),
        (with_image(r#""\x""#), Reason::InvalidJson, "not JSON"),
        (with_image(r#""\ud800""#), Reason::InvalidJson, "not JSON"),
        (with_image("1e999"), Reason::InvalidJson, "not JSON"),
        ("[]".to_owned(), Reason::MissingField, "the body is not an object (line 1, column 0)"),
        ("null".to_owned(), Reason::MissingField, "the body is not an object"),
        (
            r#"{"image": "AAAA"}"#.to_owned(),
            Reason::MissingField,
            "field /image_metadata/image_name (message.namePath) is missing",
        ),
        (
            r#"{"image": "AAAA", "image_metadata": {}}"#.to_owned(),
            Reason::MissingField,
            "field /image_metadata/image_name (message.namePath) is missing",
        ),
        (
            r#"{"image": "AAAA", "image_metadata": 7}"#.to_owned(),
            Reason::MissingField,
            "field /image_metadata is not an object",
        ),
        (
            r#"{"image_metadata": {"image_name": "a"}}"#.to_owned(),
            Reason::MissingField,
            "field /image (message.imagePath) is missing",
        ),
        (
            with_image("null"),
            Reason::MissingField,
            "field /image (message.imagePath) is not a string (line 1, column 14)",
        ),
        (with_image("[65, 65]"), Reason::MissingField, "field /image (message.imagePath) is not a string"),
        (
            r#"{"image": "AAAA", "image": "AAAA", "image_metadata": {"image_name": "a"}}"#.to_owned(),
            Reason::MissingField,
            "field /image (message.imagePath) occurs twice",
        ),
        (
            r#"{"image": "AAAA", "image_metadata": {"image_name": "a", "image_n\u0061me": "a"}}"#.to_owned(),
            Reason::MissingField,
            "field /image_metadata/image_name (message.namePath) occurs twice",
        ),
        (
            r#"{"image": "AAAA", "image_metadata": {"image_name": "a"}, "image_metadata": {}}"#.to_owned(),
            Reason::MissingField,
            "field /image_metadata occurs twice",
        ),
        (with_image(r#""A*AA""#), Reason::InvalidBase64, "field /image (message.imagePath) is not base64"),
        (with_image(r#""A*AA""#), Reason::InvalidBase64, "outside the alphabet (0x2a, offset 1)"),
        (with_image(r#""AA\nA*""#), Reason::InvalidBase64, "offset 4"),
        (with_image(r#"" data:image/png;base64,AA*A""#), Reason::InvalidBase64, "offset 25"),
        (with_image(r#""AAAAA""#), Reason::InvalidBase64, "only one symbol: the text is cut off"),
        (with_image(r#""A===""#), Reason::InvalidBase64, "only one symbol"),
        (with_image(r#""AA==\nAAAA""#), Reason::InvalidBase64, "continues after its padding (offset 2)"),
        (with_image(r#""+-AA""#), Reason::InvalidBase64, "mixes the standard alphabet (+ and /) and the URL-safe"),
        (with_image(r#""AA AA AA""#), Reason::InvalidBase64, "spaces between its characters: URL decoding turns"),
        (with_image(r#""AA  AAAA\n""#), Reason::InvalidBase64, "spaces between its characters"),
        (with_image(r#""b'AAAA'""#), Reason::InvalidBase64, "a Python bytes literal, b'…'; publish"),
        (with_image(r#""data:image/png,AAAA""#), Reason::InvalidBase64, "a data URI without base64"),
        (with_image(r#""data:base64""#), Reason::InvalidBase64, "a data URI without base64"),
        (with_image(r#""data:image/png;base64,AA AA""#), Reason::InvalidBase64, "spaces between its characters"),
        (with_image(r#""ÅAAA""#), Reason::InvalidBase64, "(0xc3, offset 0)"),
        (named(""), Reason::InvalidName, "field /image_metadata/image_name (message.namePath) is empty"),
    ] {
        let error = refusal(&decoder("", "{name}"), body.as_str());
        assert_eq!(error.reason(), expected, "{body}: {error}");
        assert!(error.to_string().contains(text), "{body}: {error:?} has {text:?}");
    }
}

#[test]
fn what_is_ignored_may_be_odd_there_twice_or_huge() {
    let huge = format!("{}.{}e99999", "9".repeat(4000), "9".repeat(4000));
    for extra in ["1e999", &huge, "-0", "[[], {}, [null]]", r#""\ud800""#, r#""]]]]\"{{{\\""#, "1, \"x\": 2"] {
        let body =
            format!(r#"{{"x": {extra}, "image": "AAAA", "image_metadata": {{"image_name": "a", "x": {extra}}}}}"#);
        assert_eq!(key(&decoder("", "{name}"), body).as_deref(), Ok("a"), "{extra}");
    }
}

#[test]
fn follows_no_depth() {
    let decoder = decoder("", "{name}-{metadata.x}");
    let nested = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    for depth in [127, 100_000, 1_000_000] {
        for nested in [nested("[", "]", depth), nested("[", "", depth), nested(r#"{"":"#, "}", depth)] {
            for body in [
                format!(r#"{{"x": {nested}, "image": "AAAA", "image_metadata": {{"image_name": "a", "x": 1}}}}"#),
                format!(r#"{{"image": {nested}, "image_metadata": {{"image_name": "a", "x": 1}}}}"#),
                format!(r#"{{"image": "AAAA", "image_metadata": {nested}}}"#),
                format!("[{nested}]"),
            ] {
                let error = refusal(&decoder, body);
                assert_eq!(error, DecodeError::TooDeep { limit: 127 });
                assert_eq!(error.reason(), Reason::InvalidJson);
            }
        }
    }
    let body = format!(
        r#"{{"y": {}, "image": "AAAA", "image_metadata": {{"image_name": "a", "x": 1}}}}"#,
        nested("[", "]", 126)
    );
    assert_eq!(key(&decoder, body).as_deref(), Ok("a-1"));
    assert_eq!(
        refusal(&decoder, with_metadata(&format!(r#""x": {}"#, nested("[", "]", 125)))).reason(),
        Reason::MissingField
    );
}

#[test]
fn never_repeats_the_body() {
    let decoder = decoder("", "{metadata.x}/{name}");
    for body in [
        r#""secret pixels""#,
        r#"{"image": {"secret": 1}}"#,
        r#"{"image": "secret", "image_metadata": "secret"}"#,
        r#"{"image": "AAAA", "image_metadata": {"image_name": "secret//", "x": "y"}}"#,
        r#"{"image": "AAAA", "image_metadata": {"image_name": "secret", "x": "secret/"}}"#,
        r#"{"image": "AAAA", "image_metadata": {"image_name": "secret", "x": ["secret"]}}"#,
        r#"{"image": "AAAA", "image_metadata": {"image_name": "a", "x": "secret\u0000"}}"#,
        r#"{"image": "secret pixel!", "image_metadata": {"image_name": "secret", "x": "secret"}}"#,
    ] {
        let error = refusal(&decoder, body);
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

/// The text is what Python's `base64.encodebytes` makes of these bytes: a line break after 76 characters and at the
/// end.
#[test]
fn white_space_in_base64_is_passed_over() {
    let image: Vec<u8> = (0..100u32).map(|at| (at * 7 % 251) as u8).collect();
    let text = "AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tng5+71AQgPFh0kKzI5QEdOVVxjanF4f4aN\nlJuiqbC3vsXM09rh6O/2AgkQFx4lLDM6QUhPVl1ka3J5gIeOlZyjqrG4vw==\n";
    let decoder = decoder("", "{name}");
    let body = |text: &str| json!({"image": text, "image_metadata": {"image_name": "a"}}).to_string();
    for text in [text.to_owned(), text.replace('\n', "\r\n"), format!(" \t{text} "), text.replace('\n', "")] {
        assert_eq!(read(&decoder, body(&text)).expect("valid").image[..], image);
    }
    // Longer than one step, with line breaks at every position in a group of four.
    let image: Vec<u8> = (0..10_000u32).map(|at| (at * 7 % 251) as u8).collect();
    let text = base64::engine::general_purpose::STANDARD.encode(&image);
    let spaced = |every| text.as_bytes().chunks(every).flat_map(|line| [line, b"\n"]).flatten().copied().collect();
    for every in [1, 3, 75, 4096, 4097] {
        let spaced = String::from_utf8(spaced(every)).unwrap();
        assert_eq!(read(&decoder, body(&spaced)).expect("valid").image[..], image, "{every}");
    }
    let padded_before_its_end = format!("{}==\n{text}", &text[..4094]);
    assert_eq!(refusal(&decoder, body(&padded_before_its_end)).reason(), Reason::InvalidBase64);
}

/// The expected bytes are those of Python's `base64.b64decode` or `base64.urlsafe_b64decode`, with padding added and
/// the prefix removed.
#[test]
fn base64_is_read_in_every_usual_form() {
    for (text, image) in [
        ("+/+/", &[0xfb, 0xff, 0xbf][..]),
        ("-_-_", &[0xfb, 0xff, 0xbf]),
        ("__8=", &[0xff, 0xff]),
        ("__8", &[0xff, 0xff]),
        ("//8", &[0xff, 0xff]),
        ("/w", &[0xff]),
        ("/w=", &[0xff]),
        ("AAAA====", &[0, 0, 0]),
        ("AAB=", &[0, 0]),
        ("AB", &[0]),
        ("data:image/png;base64,AQID", &[1, 2, 3]),
        ("DATA:;BASE64,AQID", &[1, 2, 3]),
        ("\n data:image/png;name=a.png;base64,\r\n__-_\nAQ", &[0xff, 0xff, 0xbf, 1]),
        ("A\u{c}Q\tI\rD", &[1, 2, 3]),
        ("=", &[]),
        ("data:;base64,", &[]),
    ] {
        let body = json!({"image": text, "image_metadata": {"image_name": "a"}}).to_string();
        assert_eq!(read(&decoder("", "{name}"), body).expect(text).image[..], *image, "{text:?}");
    }
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let mut body = format!("\u{feff}{}", named("\u{feff}a"));
    assert_eq!(key(&decoder("", "{name}"), body.as_str()).as_deref(), Ok("\u{feff}a"));
    body.insert_str(body.len() - 1, r#","lat":NaN"#);
    assert_eq!(key(&decoder("", "{name}"), body.as_str()).as_deref(), Ok("\u{feff}a"));
    assert_eq!(refusal(&decoder("", "{name}"), "\u{feff}\u{feff}{}").reason(), Reason::InvalidJson);
}

#[test]
fn a_body_that_is_no_json_is_named() {
    for (body, text) in [
        (&b""[..], "is empty; publish"),
        (b"\x1f\x8b\x08\0", "is compressed with gzip; publish it uncompressed"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\x00\x53\x77\xa1\x02{}", "is a section of an AMQP 1.0 message (such as amqp-value)"),
        (b"\xff\xfe{\0}\0", "is UTF-16"),
        (b"{\0}\0", "is UTF-16"),
        (b"\0\0\0{\0\0\0}", "UTF-32"),
        (b"\x89PNG\r\n\x1a\n", "is an image; publish an object with the image in base64, or set message."),
        (b"\xff\xd8\xff\xe0", "is an image"),
    ] {
        let error = refusal(&decoder("", "{name}"), body);
        assert_eq!(error.reason(), Reason::InvalidJson);
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// As Python's `json.dumps` writes an unknown position.
#[test]
fn constants_of_python_are_skipped_and_are_no_values() {
    let body = r#"{"lat": NaN, "range": [-Infinity, Infinity], "text": "NaN \" NaN",
        "image": "AAAA", "image_metadata": {"image_name": "NaN.png", "alt": NaN, "NaN": 1}}"#;
    let decoder = at("/image", "/image_metadata/image_name");
    assert_eq!(key(&decoder, body).as_deref(), Ok("NaN.png"));
    for (body, reason) in [
        (r#"{"image": NaN, "image_metadata": {"image_name": "a"}}"#, Reason::MissingField),
        (r#"{"image": "AAAA", "image_metadata": {"image_name": Infinity}}"#, Reason::MissingField),
        (r#"{"image": "AAAA", "image_metadata": {"image_name": "a"}, NaN: 1}"#, Reason::InvalidJson),
        (r#"{"image": "AAAA", "image_metadata": {"image_name": "a"}, "b": nan}"#, Reason::InvalidJson),
        (r#"{"image": "AAAA", "image_metadata": {"image_name": "a"}, "b": --Infinity}"#, Reason::InvalidJson),
        (r#"{"image": "AAAA", "image_metadata": {"image_name": "a"}, "b": NaNNaN}"#, Reason::InvalidJson),
    ] {
        assert_eq!(refusal(&decoder, body).reason(), reason, "{body}");
    }
}

#[test]
fn refuses_a_body_over_the_limit_before_it_is_parsed() {
    let decoder = Decoder::new(&MessageFormat::default(), &s3("", "{name}"), 1000).unwrap();
    let error = refusal(&decoder, vec![b' '; 1001]);
    assert_eq!(error, DecodeError::BodyTooLarge { bytes: 1001, limit: 1000 });
    assert!(error.to_string().contains("source.rabbitmq.maxBodyBytes is 1000"), "{error}");
    assert_eq!(refusal(&decoder, vec![b' '; 1000]).reason(), Reason::InvalidJson);
}

#[test]
fn refuses_names_that_some_store_could_not_hold() {
    let decoder = decoder("", "{name}");
    let long = "a".repeat(MAX_KEY_BYTES + 1);
    let mut refused = vec!["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/..", &long];
    refused.extend(["a\0b", "a\nb", "a\u{7f}", "a\u{85}b", "\u{9f}"]);
    for name in refused {
        assert_eq!(refusal(&decoder, named(name)).reason(), Reason::InvalidName, "{name:?}");
    }
    let odd =
        ["é/ü.png", "e\u{301}", "🌲🌲/木.png", "\u{202e}gnp.a", "\u{feff}a", "a\u{200b}", "．．/ａ", "\u{2028}", "⁄a"];
    let plain = ["a", "a b.png", "..a", "a..", "...", "a\\b", " ", "a:b?c=d&e#f%2F..%2F"];
    for name in plain.into_iter().chain(odd) {
        assert_eq!(key(&decoder, named(name)).as_deref(), Ok(name));
    }
}

#[test]
fn a_key_has_at_most_1024_bytes_with_its_prefix() {
    let fits = "a".repeat(MAX_KEY_BYTES - 2);
    assert!(read(&decoder("p/", "{name}"), named(&fits)).is_ok());
    assert!(read(&decoder("pp/", "{name}"), named(&fits)).is_err());
    assert!(read(&decoder("p/", "{name}x"), named(&fits)).is_err());
    let with_digest = "é".repeat((MAX_KEY_BYTES - 64) / 2);
    assert_eq!(key(&decoder("", "{name}{digest}"), named(&with_digest)).unwrap().len(), MAX_KEY_BYTES);
    assert!(read(&decoder("a", "{name}{digest}"), named(&with_digest)).is_err());
}

#[test]
fn fills_a_template() {
    let body = with_metadata(r#""site": "Höhe 7", "flight": 42, "low": -3, "big": 18446744073709551615, "ok": true"#);
    for (template, expected) in [
        ("{name}", "north/7.png"),
        ("{stem}.png", "north/7.png"),
        ("{stem}-{digest}.png", &format!("north/7-{DIGEST}.png")),
        ("{digest}/{digest}", &format!("{DIGEST}/{DIGEST}")),
        ("{year}/{month}/{day}/{hour}/{name}", "2026/03/04/05/north/7.png"),
        ("{metadata.site}/{metadata.flight}{metadata.low}/{name}", "Höhe 7/42-3/north/7.png"),
        ("{metadata.ok}_{metadata.big}_{metadata.ok}", "true_18446744073709551615_true"),
        ("fixed", "fixed"),
        ("a b/{stem}.{metadata.flight}.é", "a b/north/7.42.é"),
    ] {
        assert_eq!(key(&decoder("tiles/", template), body.as_str()), Ok(format!("tiles/{expected}")), "{template}");
    }
}

#[test]
fn the_stem_is_the_name_without_its_extension() {
    let decoder = decoder("", "{stem}_");
    for (name, stem) in [
        ("a.png", "a"),
        ("a", "a"),
        ("a.tar.gz", "a.tar"),
        ("n.1/a", "n.1/a"),
        ("n.1/a.png", "n.1/a"),
        (".hidden", ".hidden"),
        ("n/.hidden", "n/.hidden"),
        (".hidden.png", ".hidden"),
        ("a.", "a"),
        ("木.é", "木"),
    ] {
        assert_eq!(key(&decoder, named(name)), Ok(format!("{stem}_")), "{name}");
    }
}

#[test]
fn a_message_must_have_what_the_template_asks_for() {
    for (template, metadata, expected, text) in [
        (
            "{metadata.x}/{name}",
            r#""y": 1"#,
            Reason::MissingField,
            "field /image_metadata/x ({metadata.x} in destination",
        ),
        ("{metadata.x}/{name}", r#""x": null"#, Reason::MissingField, "field /image_metadata/x ({metadata.x}"),
        ("{metadata.x}/{name}", r#""x": 1.5"#, Reason::MissingField, "is not a string, an integer"),
        ("{metadata.x}/{name}", r#""x": 1e2"#, Reason::MissingField, "is not a string, an integer"),
        ("{metadata.x}/{name}", r#""x": 18446744073709551616"#, Reason::MissingField, "at most 64 bits"),
        ("{metadata.x}/{name}", r#""x": [1]"#, Reason::MissingField, "field /image_metadata/x"),
        ("{metadata.x}/{name}", r#""x": {}"#, Reason::MissingField, "field /image_metadata/x"),
        ("{metadata.x}/{name}", r#""x": 1, "x": 1"#, Reason::MissingField, "occurs twice"),
        ("{metadata.x}/{name}", r#""x": "a/b""#, Reason::InvalidName, "field /image_metadata/x ({metadata.x} in"),
        ("{metadata.x}/{name}", r#""x": "/""#, Reason::InvalidName, "has a slash"),
        ("{metadata.x}/{name}", r#""x": """#, Reason::InvalidName, "the object key starts with a slash"),
        ("{metadata.x}/{name}", r#""x": "..""#, Reason::InvalidName, "the object key has a segment that is . or .."),
        ("a/{metadata.x}./{name}", r#""x": ".""#, Reason::InvalidName, "the object key has a segment"),
        ("{metadata.x}/{name}", r#""x": "a\u0000""#, Reason::InvalidName, "the object key has a control character"),
    ] {
        let error = refusal(&decoder("", template), with_metadata(metadata));
        assert_eq!(error.reason(), expected, "{metadata}: {error}");
        assert!(error.to_string().contains(text), "{metadata}: {error} has {text:?}");
    }
    let name_alone = named("../a");
    assert_eq!(
        refusal(&decoder("", "{digest}"), name_alone).reason(),
        Reason::InvalidName,
        "a bad name is refused even if the template does not use it"
    );
}

#[test]
fn dates_are_the_timestamps_in_utc() {
    let decoder = decoder("", "{year}-{month}-{day}T{hour}");
    let body = Bytes::from(named("a"));
    let dated = |timestamp| decoder.decode(&Incoming { body: &body, timestamp, header: &|_| None });
    for (timestamp, expected) in [
        (0, "1970-01-01T00"),
        (951_868_799, "2000-02-29T23"),
        (TIMESTAMP, "2026-03-04T05"),
        (253_402_200_000, "9999-12-30T20"),
    ] {
        assert_eq!(dated(Some(timestamp)).unwrap().key(DIGEST).unwrap().as_str(), expected);
    }
    let absent = dated(None).expect_err("refused");
    assert_eq!(absent.reason(), Reason::MissingField);
    assert!(absent.to_string().contains("AMQP property timestamp"), "{absent}");
    for timestamp in [TIMESTAMP * 1000, i64::MAX as u64, u64::MAX] {
        let error = dated(Some(timestamp)).expect_err("refused");
        assert_eq!(error, DecodeError::UnusableTimestamp(timestamp));
        assert_eq!(error.reason(), Reason::MissingField);
    }
}

#[test]
fn a_raw_body_is_the_image_and_is_not_copied() {
    let message = MessageFormat { encoding: MessageEncoding::Raw, ..Default::default() };
    let decoder = Decoder::new(&message, &s3("p/", "{metadata.site}/{metadata.image}/{name}"), 1000).unwrap();
    let body = Bytes::from_static(b"\x89PNG {");
    let with = |headers: &'static [(&str, &str)]| {
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        decoder.decode(&Incoming { body: &body, timestamp: None, header: &header })
    };
    let job = with(&[("site", "west"), ("image", "7"), ("image_name", "north/7.png")]).expect("valid");
    assert_eq!(job.key(DIGEST).unwrap().as_str(), "p/west/7/north/7.png");
    assert_eq!(job.image.as_ptr(), body.as_ptr());
    for (headers, expected, text) in [
        (&[("site", "a"), ("image", "7")][..], Reason::MissingField, "header image_name is missing"),
        (&[("image_name", "a"), ("image", "7")], Reason::MissingField, "header site ({metadata.site} in"),
        (&[("image_name", "../a"), ("image", "7"), ("site", "a")], Reason::InvalidName, "header image_name has"),
        (&[("image_name", "a"), ("image", "7"), ("site", "a/b")], Reason::InvalidName, "header site ({metadata"),
    ] {
        let error = with(headers).expect_err("refused");
        assert_eq!(error.reason(), expected, "{error}");
        assert!(error.to_string().contains(text), "{error} has {text:?}");
    }
    let large = Bytes::from(vec![0; 1001]);
    let error = decoder.decode(&Incoming { body: &large, timestamp: None, header: &|_| None }).expect_err("refused");
    assert_eq!(error.reason(), Reason::BodyTooLarge);
}

#[test]
fn a_template_that_can_make_no_key_is_named() {
    let json = MessageFormat::default();
    for (template, text) in [
        ("{nam}", "destination.s3.keyTemplate has the unknown field {nam}; it takes {name}, {stem}"),
        ("{}", "unknown field {}"),
        ("{Name}", "unknown field {Name}"),
        ("{{name}}", "unknown field {{name}"),
        ("{minute}", "unknown field {minute}"),
        ("{metadata}", "unknown field {metadata}"),
        ("{metadata.}", "unknown field {metadata.}"),
        ("{metadata.a.b}", "unknown field {metadata.a.b}"),
        ("{metadata.a/b}", "unknown field {metadata.a/b}"),
        ("{name", "an unmatched brace"),
        ("name}", "an unmatched brace"),
        ("}{name}", "an unmatched brace"),
        ("", "a key that is empty"),
        ("/{name}", "starts with a slash"),
        ("{name}/", "an empty segment"),
        ("a//{name}", "an empty segment"),
        ("../{name}", "a segment that is . or .."),
        ("a/./{name}", "a segment that is . or .."),
        ("a\n{name}", "a control character"),
        (&"a".repeat(1025), "is too long"),
        ("{metadata.image_name}", "{metadata.image_name}, which is the name: use {name}"),
    ] {
        let refused = template_refused(&json, template);
        assert!(refused.starts_with("destination.s3.keyTemplate ") && refused.contains(text), "{template}: {refused}");
    }
    let raw = MessageFormat { encoding: MessageEncoding::Raw, ..Default::default() };
    assert!(template_refused(&raw, "{metadata.image_name}").contains("which is the name: use {name}"));
    for (image_path, name_path) in [("/a/image", "/a/name"), ("/image/png", "/name")] {
        let message =
            MessageFormat { image_path: image_path.into(), name_path: name_path.into(), ..Default::default() };
        let refused = template_refused(&message, "{metadata.image}");
        assert!(refused.contains("{metadata.image}, which is the image or contains it"), "{refused}");
    }
    let beside = MessageFormat { image_path: "/a/image".into(), name_path: "/name".into(), ..Default::default() };
    assert!(Decoder::new(&beside, &s3("", "{metadata.image}"), LIMIT).is_ok());
}

const TEMPLATE_PIECES: [&str; 12] =
    ["{name}", "{stem}", "{digest}", "{year}", "{hour}", "{metadata.x}", "{metadata.y}", "/", ".", "a", "{", "}"];

proptest! {
    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Err(error) = read(&decoder("p/", "{metadata.a}/{stem}-{digest}"), body) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn never_panics_on_nearly_messages(image in "\\PC*", name in "\\PC*", cut in 0usize..256) {
        let body = json!({"image": image, "image_metadata": {"image_name": name}}).to_string();
        let whole = cut >= body.len();
        if let Err(error) = read(&decoder("p/", "{name}"), &body.as_bytes()[..cut.min(body.len())]) {
            prop_assert!(whole || error.reason() == Reason::InvalidJson, "{}", error);
        }
    }

    #[test]
    fn takes_no_json_that_serde_json_does_not(body in "[\\[\\]{}\":,a1\\\\ ]{0,40}") {
        let is_json = serde_json::from_str::<serde_json::Value>(&body).is_ok();
        let refused = refusal(&decoder("", "{name}"), body.as_str()).reason();
        prop_assert!(is_json || [Reason::InvalidJson, Reason::MissingField].contains(&refused));
        prop_assert!(!is_json || refused == Reason::MissingField);
    }

    #[test]
    fn a_key_never_escapes_its_prefix(
        prefix in "([a-z.]{1,4}/)?",
        template in proptest::collection::vec(proptest::sample::select(&TEMPLATE_PIECES[..]), 1..6),
        name in "[a-c./\\\\]{0,12}",
        x in "[a-c./]{0,3}",
        y in -9i64..9,
    ) {
        if let Ok(decoder) = Decoder::new(&MessageFormat::default(), &s3(&prefix, &template.concat()), LIMIT) {
            let body = json!({"image": "", "image_metadata": {"image_name": name, "x": x, "y": y}}).to_string();
            if let Ok(key) = key(&decoder, body) {
                prop_assert!(key.starts_with(&prefix) && key.len() <= MAX_KEY_BYTES);
                prop_assert!(key[prefix.len()..].split('/').all(|segment| !["", ".", ".."].contains(&segment)));
            }
        }
    }

    #[test]
    fn a_name_is_never_rewritten(prefix in "([a-z.]{1,4}/)?", name in "\\PC{1,20}") {
        if let Ok(key) = key(&decoder(&prefix, "{name}"), named(&name)) {
            prop_assert_eq!(key, format!("{prefix}{name}"));
        }
    }

    #[test]
    fn gives_the_image_back(image in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = base64::engine::general_purpose::STANDARD.encode(&image);
        let body = json!({"image": text, "image_metadata": {"image_name": "n"}}).to_string();
        prop_assert_eq!(&read(&decoder("", "{name}"), body).expect("valid").image[..], image);
    }
}
