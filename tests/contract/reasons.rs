//! Writes the pages' tables of reasons from the comments in src/reason.rs, and compares the pages with the result.

use image_pipeline::reason::Reason;
use strum::IntoEnumIterator as _;

use super::docs::{is_current, read};

const MARKER: &str = "<!-- reasons: written from src/reason.rs by RENEW=1 cargo test --test contract reasons -->\n";
const END: &str = "<!-- end -->";

/// The group of reasons that the parking headers have. Its table is in another page than that of all others.
const MESSAGES: &str = "Messages";

struct Explained {
    group: String,
    reason: String,
    meaning: String,
}

/// The variants of the enum, with the heading above them and their comments.
fn explained() -> Vec<Explained> {
    let source = read("src/reason.rs");
    let variants =
        source.split_once("pub enum Reason {\n").expect("the enum").1.split_once("\n}\n").expect("its end").0;
    let (mut group, mut meaning, mut found) = (String::new(), String::new(), Vec::new());
    for line in variants.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            meaning += if meaning.is_empty() { "" } else { " " };
            meaning += text;
        } else if let Some(heading) = line.strip_prefix("// ") {
            group = heading.trim_end_matches('.').to_owned();
        } else {
            let reason = line.trim_end_matches(',').to_owned();
            found.push(Explained { group: group.clone(), reason, meaning: std::mem::take(&mut meaning) });
        }
    }
    found
}

fn table_of_messages(all: &[Explained]) -> String {
    let row = |Explained { reason, meaning, .. }: &Explained| format!("| `{reason}` | {meaning} |\n");
    let rows: String = all.iter().filter(|one| one.group == MESSAGES).map(row).collect();
    format!("| reason | means, and what to do |\n|---|---|\n{rows}")
}

fn table_of_conditions(all: &[Explained]) -> String {
    let mut last = MESSAGES;
    let rows = all.iter().filter(|one| one.group != MESSAGES).map(|Explained { group, reason, meaning }| {
        let shown = if last == group { "" } else { group };
        last = group;
        format!("| {shown} | `{reason}` | {meaning} |\n")
    });
    let rows: String = rows.collect();
    format!("| of | reason | means, and what to do |\n|---|---|---|\n{rows}")
}

fn renewed(page: &str, table: &str) -> String {
    let (before, rest) = page.split_once(MARKER).expect("the marker");
    let (_, after) = rest.split_once(END).expect("the end");
    format!("{before}{MARKER}{table}{END}{after}")
}

#[test]
fn the_pages_explain_every_reason_as_the_source_does() {
    let all = explained();
    for (page, table) in
        [("docs/troubleshooting.md", table_of_conditions(&all)), ("docs/parked-messages.md", table_of_messages(&all))]
    {
        is_current(page, &renewed(&read(page), &table));
    }
}

#[test]
fn every_reason_has_a_group_and_a_sentence() {
    let all = explained();
    let names: Vec<&str> = all.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(names, Reason::iter().map(Reason::as_str).collect::<Vec<_>>());
    for Explained { group, reason, meaning } in &all {
        assert!(!group.is_empty() && meaning.ends_with('.') && !meaning.contains('|'), "{reason}: {meaning}");
    }
}
