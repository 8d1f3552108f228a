//! Formats messages for a terminal. Pure. Escapes control characters in message content, since a header or name can
//! contain terminal escape sequences.

use serde_json::{Value, json};

use super::message::ParkedMessage;

/// Maximum bytes of a body that are shown.
const HEAD: usize = 400;

/// Maximum characters of a table cell.
const WIDEST: usize = 60;

const TITLES: [&str; 8] = ["REASON", "PIPELINE", "FROM", "FIRST SEEN", "ATTEMPTS", "BYTES", "IMAGE", "MESSAGE ID"];

/// A table with one line per message. Empty without messages.
pub fn lines(entries: &[ParkedMessage]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; 8]> = entries.iter().map(row).collect();
    let titles = TITLES.map(str::to_owned);
    let mut widths = [0; 8];
    for row in std::iter::once(&titles).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    std::iter::once(&titles).chain(&rows).map(line).collect()
}

/// One message: properties, headers and the beginning of the body.
pub fn whole(properties: &Value, body: &[u8]) -> String {
    let head = body.get(..HEAD).unwrap_or(body);
    let begins = match std::str::from_utf8(head) {
        Ok(text) => text.to_owned(),
        // The last character is cut.
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(head.get(..error.valid_up_to()).unwrap_or_default()).into_owned()
        }
        Err(_) => head.escape_ascii().to_string(),
    };
    let all = json!({
        "properties": properties,
        "body": { "bytes": body.len(), "begins": begins },
    });
    serde_json::to_string_pretty(&all).map(|text| format!("{}\n", plain_json(&text))).unwrap_or_default()
}

/// Escapes control characters.
pub fn plain(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => plain.push(character),
            _ => plain.extend(character.escape_debug()),
        }
    }
    plain
}

/// Escapes control characters in JSON; the result is valid JSON.
pub fn plain_json(json: &str) -> String {
    let mut plain = String::new();
    for character in json.chars() {
        match character {
            '"' | '\'' | '\\' | '\n' => plain.push(character),
            _ if character.escape_debug().len() == 1 => plain.push(character),
            _ => plain.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    plain
}

fn row(entry: &ParkedMessage) -> [String; 8] {
    let text = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), cell);
    let pipeline = match (&entry.namespace, &entry.name) {
        (Some(namespace), Some(name)) => cell(&format!("{namespace}/{name}")),
        _ => "-".to_owned(),
    };
    [
        text(&entry.reason),
        pipeline,
        text(&entry.queue),
        entry.first_seen.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}")),
        entry.attempts.map_or_else(|| "-".to_owned(), |attempts| attempts.to_string()),
        entry.bytes.to_string(),
        text(&entry.image),
        text(&entry.message_id),
    ]
}

fn cell(text: &str) -> String {
    let text = plain(text);
    match text.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_under_titles() {
        let known = ParkedMessage {
            reason: Some("InvalidImage".to_owned()),
            namespace: Some("greench".to_owned()),
            name: Some("tiles".to_owned()),
            queue: Some("segmented-images".to_owned()),
            first_seen: Some("2026-05-04T08:00:00.123Z".parse().unwrap()),
            attempts: Some(1),
            bytes: 510,
            image: Some("north/4.png".to_owned()),
            message_id: Some("id-1".to_owned()),
            ..ParkedMessage::default()
        };
        let table = lines(&[known, ParkedMessage::default()]);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(lines[0], TITLES);
        assert_eq!(
            lines[1],
            [
                "InvalidImage",
                "greench/tiles",
                "segmented-images",
                "2026-05-04T08:00:00Z",
                "1",
                "510",
                "north/4.png",
                "id-1"
            ]
        );
        assert_eq!(lines[2], ["-", "-", "-", "-", "-", "0", "-", "-"]);
        assert_eq!(super::lines(&[]), "");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        let evil = "a\u{1b}]0;x\u{7}\n\u{202e}\u{9b}2J\"b\\\u{e9}";
        let entry =
            ParkedMessage { image: Some(evil.to_owned()), reason: Some(evil.to_owned()), ..ParkedMessage::default() };
        let shown = whole(&json!({ "headers": { evil: evil } }), evil.as_bytes());
        for text in [lines(std::slice::from_ref(&entry)), plain(evil), shown] {
            let obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!text.contains(obeyed), "{text:?}");
            assert!(text.contains('é') || text.contains("xc3"), "{text}");
        }
        let long = ParkedMessage { image: Some("x".repeat(500)), ..ParkedMessage::default() };
        assert!(lines(&[long]).lines().all(|line| line.chars().count() < 150));
    }

    #[test]
    fn what_is_shown_is_json_whatever_it_is_of() {
        for (body, begins) in [
            (&b"\xff\xd8\xff\xe0\x7f"[..], r"\xff\xd8\xff\xe0\x7f"),
            ("a\u{7f}\u{9b}\u{202e}\u{1f332}\"".as_bytes(), "a\u{7f}\u{9b}\u{202e}\u{1f332}\""),
            (b"cut \xf0\x9f", "cut "),
        ] {
            let shown: Value = serde_json::from_str(&whole(&json!({ "k\u{7f}": "v" }), body)).unwrap();
            assert_eq!((&shown["body"]["begins"], &shown["properties"]["k\u{7f}"]), (&json!(begins), &json!("v")));
        }
    }

    #[test]
    fn a_message_is_shown_whole_but_for_its_body() {
        let body = format!("{{\"image\": \"{}", "x".repeat(10_000));
        let shown = whole(&json!({ "message_id": "id-1" }), body.as_bytes());
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["properties"]["message_id"], "id-1");
        assert_eq!(shown["body"]["bytes"], body.len());
        assert_eq!(shown["body"]["begins"], body[..HEAD]);
    }
}
