//! The frame of every HTML page that the product and its tools write: one file without external resources, for light
//! and dark color schemes. Values are escaped, so that no value becomes markup.

/// Colors, fonts and plots, shared by all pages.
pub const STYLE: &str = include_str!("html/style.css");

#[derive(Clone, Copy, Debug, Default)]
pub struct Page<'a> {
    /// Text; escaped here.
    pub title: &'a str,
    /// CSS of this page, added after [`STYLE`].
    pub style: &'a str,
    /// JavaScript of this page. The page shows the same content without it.
    pub script: &'a str,
}

impl Page<'_> {
    /// The complete document; `body` is markup and not escaped.
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

/// Escapes a value for text, or for an attribute in double quotes.
pub fn escape(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn element(script: &str) -> String {
    format!("<script>{script}</script>\n")
}
