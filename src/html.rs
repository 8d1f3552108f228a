//! The frame of every page that the product and its tools write: one HTML file that needs nothing else,
//! readable in light and dark. It must never let a value become markup, nor refer to anything outside.

/// Colours, type and plots, which all pages share.
pub const STYLE: &str = include_str!("html/style.css");

/// A page, without what is its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page<'a> {
    /// The title, as text.
    pub title: &'a str,
    /// Its own style, after the shared one.
    pub style: &'a str,
    /// What runs in the browser; the page must say the same without it.
    pub script: &'a str,
}

impl Page<'_> {
    /// The whole page around `body`, which is markup.
    pub fn around(&self, body: &str) -> String {
        let Self { title, style, script } = self;
        let (title, script) = (escape(title), if script.is_empty() { String::new() } else { element(script) });
        format!(
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{STYLE}{style}</style>
</head>
<body>
{body}{script}</body>
</html>
"#
        )
    }
}

/// A value as text of a page, or within the quotes of an attribute.
pub fn escape(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn element(script: &str) -> String {
    format!("<script>{script}</script>\n")
}
