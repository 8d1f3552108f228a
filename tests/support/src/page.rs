//! Parses a documentation page: code blocks, words in backticks, links, headings and commands.

/// A page of the documentation.
pub struct Page {
    /// Path from the repository's root.
    pub path: String,
    pub text: String,
}

/// A fenced code block.
pub struct Block {
    /// Language of the fence.
    pub language: String,
    /// The lines, without the indentation of the fence.
    pub text: String,
}

/// The words of one command.
pub type Command = Vec<String>;

pub fn root(path: &str) -> std::path::PathBuf {
    crate::repository().join(path)
}

/// Every page in the root folder and in `docs`.
pub fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    for folder in ["", "docs/"] {
        for entry in std::fs::read_dir(root(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                let path = format!("{folder}{name}");
                pages.push(Page { text: std::fs::read_to_string(root(&path)).unwrap(), path });
            }
        }
    }
    pages
}

impl Page {
    /// The code blocks, and the text between them.
    fn parts(&self) -> (Vec<Block>, String) {
        let (mut blocks, mut prose, mut open) = (Vec::new(), String::new(), None::<(usize, Block)>);
        for line in self.text.lines() {
            let inner = line.trim_start();
            match (open.take(), inner.strip_prefix("```")) {
                (None, Some(language)) => {
                    let block = Block { language: language.to_owned(), text: String::new() };
                    open = Some((line.len() - inner.len(), block));
                }
                (None, None) => prose += &format!("{line}\n"),
                (Some((_, block)), Some(_)) => blocks.push(block),
                (Some((indent, mut block)), None) => {
                    block.text += &format!("{}\n", line.get(indent..).unwrap_or_default());
                    open = Some((indent, block));
                }
            }
        }
        assert!(open.is_none(), "{}: a block of code has no end", self.path);
        (blocks, prose)
    }

    pub fn blocks(&self) -> Vec<Block> {
        self.parts().0
    }

    /// Texts in backticks, each joined to one line.
    pub fn spans(&self) -> Vec<String> {
        let prose = self.parts().1;
        let paragraphs = prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
        paragraphs.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// Targets of links within the repository.
    pub fn links(&self) -> Vec<String> {
        let prose = self.parts().1;
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://")).collect()
    }

    /// Anchors of the headings, as GitHub makes them.
    pub fn anchors(&self) -> Vec<String> {
        let prose = self.parts().1;
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| {
            let title = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }

    /// Commands in console blocks, and commands in backticks.
    pub fn commands(&self) -> Vec<Command> {
        let blocks = self.blocks().into_iter().filter(|block| block.language == "console");
        let typed = blocks.flat_map(|block| commands(&typed(&block.text)));
        typed.chain(self.spans().iter().flat_map(|span| commands(span))).collect()
    }
}

/// In a block with prompts, only the text after a prompt is typed.
fn typed(text: &str) -> String {
    let behind: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    if behind.is_empty() { text.to_owned() } else { behind.join("\n") }
}

/// The commands in shell text, for the part of the grammar that the pages use.
pub fn commands(text: &str) -> Vec<Command> {
    let (mut commands, mut words, mut word) = (Vec::new(), Command::new(), None::<String>);
    let (mut quote, mut characters) = (None, text.chars().peekable());
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') if characters.peek() == Some(&'\n') => drop(characters.next()),
            (None, '#') if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            (None, ' ') => words.extend(word.take()),
            (None, '\n' | '|' | '&' | ';' | '(' | ')' | '<' | '>') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands
}

#[test]
fn a_page_is_taken_apart() {
    let text = "# A b, c's\n\nSee `x.y` and\n`a\nb`, [there](../d.md#e), [else](https://f).\n\n\
                1. ```console\n   a 'b c' \\\n     \"$(d | e)\" # f `g`\n   (h; i) | j > k &\n   ```\n";
    let page = Page { path: "docs/a.md".to_owned(), text: text.replace("1. ```", "   ```") };
    assert_eq!(page.spans(), ["x.y", "a b"]);
    assert_eq!(page.links(), ["../d.md#e"]);
    assert_eq!(page.anchors(), ["a-b-cs"]);
    let commands: Vec<_> = page.commands().iter().map(|words| words.join("·")).collect();
    assert_eq!(commands, ["a·b c·$(d | e)", "h", "i", "j", "k", "x.y", "a·b"]);
    assert_eq!(typed("$ a b\nok c\n$ d\n"), "a b\nd");
}
